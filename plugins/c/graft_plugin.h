/* graft_plugin.h: a graft plugin in C, in one header. Interface graft:plugin@0.1.0.
 *
 *     #define GRAFT_CONVERTER                  // or GRAFT_EVALUATOR: what the plugin is
 *     #define GRAFT_PLUGIN_IMPLEMENTATION      // in one file of the plugin
 *     #include "graft_plugin.h"
 *
 * The plugin defines `const graft_converter graft_plugin` or `const graft_evaluator graft_plugin`: what it
 * says of itself, and its functions.
 *
 * Memory. What graft gives you and what graft_alloc() gives is yours until your function returns, and is
 * freed then. graft_free() gives it back earlier. What must live longer, you malloc().
 *
 * Errors. A function that returns false has noted why. Return false yourself, and graft hears the reason;
 * or look at graft_error() and go on. Your own reasons are noted with graft_fail() and its kin.
 *
 * Text is UTF-8 and has a length; it does not end in a zero. graft ends a plugin that hands it text which is
 * not UTF-8, so ask graft_is_utf8() about bytes of an export.
 *
 * A plugin has no WASI. malloc, memchr, strtod and their like are at hand; what prints or opens files is not.
 */
#ifndef GRAFT_PLUGIN_H
#define GRAFT_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Values ---------------------------------------------------------------------------------------- */

typedef struct { const char *at; size_t length; } graft_text;
typedef struct { const uint8_t *at; size_t length; } graft_bytes;
typedef struct { const graft_text *at; size_t count; } graft_texts;

/* A string literal as text. */
#define GRAFT_TEXT(literal) {(literal), sizeof(literal) - 1}
#define graft_literal(literal) ((graft_text)GRAFT_TEXT(literal))
/* An array as a list: its address and its number of elements. */
#define GRAFT_LIST(array) {(array), sizeof(array) / sizeof((array)[0])}

typedef struct { bool known; uint64_t value; } graft_maybe_number;
typedef struct { bool known; graft_text value; } graft_maybe_text;

/* Where in the input something is. Lines and columns count from 1, offsets and records from 0. */
typedef struct {
    graft_text source;
    graft_maybe_number byte_offset, line, column, record_index;
    graft_maybe_text field;
} graft_location;

typedef struct { bool known; graft_location value; } graft_maybe_location;

enum { GRAFT_NOTE, GRAFT_WARNING, GRAFT_ERROR };

typedef struct {
    uint8_t severity;
    graft_text code, message;
    graft_maybe_location at;
} graft_remark;

/* Kinds of errors. GRAFT_INVALID_INPUT has a remark, GRAFT_CANCELLED nothing, the others a text. */
enum {
    GRAFT_CANCELLED, GRAFT_LIMIT_EXCEEDED, GRAFT_IO, GRAFT_INVALID_INPUT, GRAFT_INVALID_OPTIONS,
    GRAFT_NOT_FOUND, GRAFT_DENIED, GRAFT_UNSUPPORTED, GRAFT_INTERNAL
};

typedef struct {
    uint8_t kind;
    union { graft_text text; graft_remark remark; };
} graft_reason;

/* Kinds of further values of a sample or prediction. */
enum { GRAFT_NULL, GRAFT_BOOLEAN, GRAFT_INTEGER, GRAFT_NUMBER, GRAFT_STRING, GRAFT_JSON };

typedef struct {
    graft_text name;
    uint8_t kind;
    union { bool boolean; int64_t integer; double number; graft_text text; };
} graft_attribute;

typedef struct { const graft_attribute *at; size_t count; } graft_attributes;

enum { GRAFT_ASSET, GRAFT_ASSET_PAGE, GRAFT_ENCODED };

/* A companion file by name, a page of one, or the bytes of a PNG or JPEG. */
typedef struct {
    uint8_t kind;
    union { graft_text asset; struct { graft_text of; uint32_t page; } page; graft_bytes encoded; };
} graft_image;

enum { GRAFT_PART_TEXT, GRAFT_PART_IMAGE };

/* Text, or the number of one of the sample's images. */
typedef struct {
    uint8_t kind;
    union { graft_text text; uint32_t image; };
} graft_part;

enum { GRAFT_SYSTEM, GRAFT_USER, GRAFT_ASSISTANT };

typedef struct {
    uint8_t role;
    struct { const graft_part *at; size_t count; } content;
} graft_turn;

typedef struct {
    graft_text id;
    struct { const graft_image *at; size_t count; } images;
    struct { const graft_turn *at; size_t count; } turns;
    graft_maybe_location origin;
    graft_attributes extra;
} graft_sample;

/* A part, and a turn of one part, to be written where they are used. */
#define graft_text_part(value) ((graft_part){.kind = GRAFT_PART_TEXT, .text = (value)})
#define graft_image_part(number) ((graft_part){.kind = GRAFT_PART_IMAGE, .image = (number)})
#define graft_says(who, value) ((graft_turn){.role = (who), .content = {&graft_text_part(value), 1}})

/* ---- Memory, errors, texts ------------------------------------------------------------------------- */

/* Memory until the end of the call, zeroed; never NULL. */
void *graft_alloc(size_t bytes);
void graft_free(const void *memory);

/* Note why, and return false. Texts must live until the call ends: literals do, and what graft_alloc gave. */
bool graft_fail(uint8_t kind, graft_text why);
bool graft_fail_input(const char *code, graft_text message, const graft_location *at);
/* The reason noted last. */
const graft_reason *graft_error(void);

graft_text graft_string(const char *zero_terminated);
bool graft_equal(graft_text a, graft_text b);
bool graft_is_utf8(graft_text text);
graft_text graft_decimal(uint64_t number);
/* Pieces in one: graft_join(3, a, b, c). */
graft_text graft_join(int pieces, ...);
/* Without blanks and line ends around it. */
graft_text graft_trimmed(graft_text text);
/* As a JSON string, with its quotes. */
graft_text graft_quoted(graft_text text);

/* The value of an option as JSON text; false if it is not given. graft has checked that `options` is an object. */
bool graft_option(graft_text options, const char *name, graft_text *value);
/* Fails if an option is given that is none of these names. */
bool graft_only_options(graft_text options, int names, ...);

/* ---- The host -------------------------------------------------------------------------------------- */

enum { GRAFT_LOG_TRACE, GRAFT_LOG_DEBUG, GRAFT_LOG_INFO, GRAFT_LOG_WARN, GRAFT_LOG_ERROR };

void graft_log(uint8_t level, graft_text message);
/* A remark that does not stop the work; `code` is kebab case and stays the same over versions. */
bool graft_report(uint8_t severity, const char *code, graft_text message, const graft_location *at);
/* Call it for every record: it moves the progress bar, and fails with GRAFT_CANCELLED when the user stops. */
bool graft_checkpoint(uint64_t done, graft_maybe_number total);

/* ---- Converters ------------------------------------------------------------------------------------ */

typedef int32_t graft_source;
typedef int32_t graft_sink;

typedef struct { graft_text id, title; graft_texts extensions; } graft_format;
typedef struct { uint64_t records, samples, skipped; } graft_summary;

typedef struct {
    struct { const graft_format *at; size_t count; } formats;
    graft_text options_schema;
    /* 0 not mine, 100 certain; `head` is the start of a file. */
    uint8_t (*detect)(graft_bytes head, graft_text name);
    bool (*convert)(graft_source input, graft_sink output, graft_text options, graft_summary *summary);
} graft_converter;

graft_text graft_name(graft_source source);
graft_maybe_number graft_size(graft_source source);
/* The next bytes, at most `max`; none at the end. */
bool graft_read(graft_source source, uint32_t max, graft_bytes *chunk);
/* Fails with GRAFT_UNSUPPORTED if the source is a pipe. */
bool graft_read_at(graft_source source, uint64_t offset, uint32_t max, graft_bytes *chunk);

/* The sample is copied, so what it points at may change at once. */
bool graft_emit(graft_sink output, const graft_sample *sample);

/* The lines of a source, one at a time: constant memory, however large the source. */
typedef struct {
    graft_source source;
    graft_text name;
    graft_maybe_number size;
    uint64_t number;   /* of the line at hand, from 1 */
    uint64_t offset;   /* of its first byte */
    uint64_t behind;   /* offset of the first byte behind it */
    bool failed;
    bool ended;
    char *buffer;
    size_t room, filled, taken;
} graft_lines;

/* The most bytes of a line; define it otherwise before the header. */
#ifndef GRAFT_LONGEST_LINE
#define GRAFT_LONGEST_LINE (1u << 20)
#endif

graft_lines graft_lines_of(graft_source source);
/* The next line without its end, until the next call; false at the end, or if reading `failed`. */
bool graft_next_line(graft_lines *lines, graft_text *line);
graft_location graft_line_location(const graft_lines *lines);

/* Companion files of the export. */
enum { GRAFT_PNG, GRAFT_JPEG, GRAFT_WEBP, GRAFT_GIF, GRAFT_BMP, GRAFT_TIFF, GRAFT_OTHER_IMAGE };
typedef struct { uint32_t width, height; uint8_t format; uint64_t bytes; } graft_image_info;

bool graft_open_asset(graft_text name, graft_source *opened);
void graft_close_asset(graft_source opened);
bool graft_probe_image(graft_text name, graft_image_info *info);
/* At most `max` names that begin with `prefix` and sort after `*after`; NULL begins at the start. */
bool graft_list_assets(graft_text prefix, const graft_text *after, uint32_t max, graft_texts *names);

/* ---- Evaluators ------------------------------------------------------------------------------------ */

typedef struct { graft_text name, unit; bool higher_is_better; } graft_metric;
typedef struct {
    graft_text text, finish_reason;
    uint64_t millis;
    graft_attributes extra;
} graft_prediction;

typedef struct graft_scores graft_scores;

typedef struct {
    struct { const graft_metric *at; size_t count; } metrics;
    graft_text options_schema;
    /* Begins a run: what it keeps goes into `*run`, which the other functions get. */
    bool (*start)(graft_text options, uint64_t seed, void **run);
    bool (*score)(void *run, const graft_sample *reference, const graft_prediction *predicted,
                  graft_scores *scores);
    /* Scores of the whole set; NULL if means are all there is to say. */
    bool (*finish)(void *run, graft_scores *scores);
    /* Frees what `start` made; NULL if there is nothing. */
    void (*end)(void *run);
} graft_evaluator;

void graft_add_score(graft_scores *scores, graft_text metric, double value, double weight);
/* The text of the last assistant turn; fails if there is none. */
bool graft_reference(const graft_sample *sample, graft_text *answer);

#ifdef GRAFT_CONVERTER
extern const graft_converter graft_plugin;
#endif
#ifdef GRAFT_EVALUATOR
extern const graft_evaluator graft_plugin;
#endif

#endif /* GRAFT_PLUGIN_H */

/* ==== Implementation ================================================================================ */

#ifdef GRAFT_PLUGIN_IMPLEMENTATION
#ifndef GRAFT_PLUGIN_IMPLEMENTED
#define GRAFT_PLUGIN_IMPLEMENTED

#if defined(GRAFT_CONVERTER) == defined(GRAFT_EVALUATOR)
#error "define GRAFT_CONVERTER or GRAFT_EVALUATOR before this header: what the plugin is"
#endif

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* The structs above lie in memory as the component model wants its records, so nothing is translated. */
_Static_assert(sizeof(void *) == 4, "compile for wasm32");
_Static_assert(sizeof(graft_location) == 88 && sizeof(graft_remark) == 120 && sizeof(graft_reason) == 128, "layout");
_Static_assert(sizeof(graft_attribute) == 24 && sizeof(graft_image) == 16 && sizeof(graft_part) == 12, "layout");
_Static_assert(sizeof(graft_turn) == 12 && sizeof(graft_sample) == 128, "layout");
_Static_assert(offsetof(graft_sample, origin) == 24 && offsetof(graft_sample, extra) == 120, "layout");
_Static_assert(sizeof(graft_format) == 24 && sizeof(graft_metric) == 20 && sizeof(graft_prediction) == 32, "layout");

/* What a call that can fail answers: a flag, then the value or the reason. */
typedef struct {
    uint8_t failed;
    union {
        graft_reason reason;
        graft_bytes bytes;
        graft_texts texts;
        graft_summary summary;
        graft_image_info image;
        int32_t handle;
        struct { const void *at; size_t count; } list;
    };
} graft_answer_;

#define GRAFT_IMPORT_(interface, function) \
    __attribute__((__import_module__("graft:plugin/" interface "@0.1.0"), __import_name__(function))) extern
#define GRAFT_EXPORT_(function) __attribute__((__export_name__(function)))

GRAFT_IMPORT_("host", "log") void graft_host_log_(int32_t, const char *, size_t);
GRAFT_IMPORT_("host", "report") void graft_host_report_(const graft_remark *, graft_answer_ *);
GRAFT_IMPORT_("host", "checkpoint") void graft_host_checkpoint_(int64_t, int32_t, int64_t, graft_answer_ *);

/* ---- Memory: a list of all that was given, so that the end of a call frees it ---------------------- */

typedef struct graft_block_ {
    struct graft_block_ *before, *after;
    size_t bytes, pad;
} graft_block_;

static graft_block_ graft_blocks_ = {&graft_blocks_, &graft_blocks_, 0, 0};
static graft_reason graft_reason_;

void *graft_alloc(size_t bytes) {
    graft_block_ *block = bytes > SIZE_MAX - sizeof *block ? NULL : calloc(1, sizeof *block + bytes);
    if (!block) __builtin_trap();
    block->bytes = bytes;
    block->before = &graft_blocks_;
    block->after = graft_blocks_.after;
    block->before->after = block->after->before = block;
    return block + 1;
}

void graft_free(const void *memory) {
    /* The address of a list without elements is no memory: see below. */
    if ((size_t)memory <= sizeof(graft_block_)) return;
    graft_block_ *block = (graft_block_ *)memory - 1;
    block->before->after = block->after;
    block->after->before = block->before;
    free(block);
}

static void graft_free_all_(void) {
    while (graft_blocks_.after != &graft_blocks_) graft_free(graft_blocks_.after + 1);
}

/* graft asks for the memory of what it hands over. */
GRAFT_EXPORT_("cabi_realloc")
void *graft_realloc_(void *old, size_t had, size_t align, size_t bytes) {
    if (bytes == 0) return (void *)align;
    void *memory = graft_alloc(bytes);
    if (had) {
        memcpy(memory, old, had < bytes ? had : bytes);
        graft_free(old);
    }
    return memory;
}

/* ---- Errors and texts ------------------------------------------------------------------------------ */

bool graft_fail(uint8_t kind, graft_text why) {
    graft_reason_ = (graft_reason){.kind = kind, .text = why};
    return false;
}

static graft_remark graft_remark_(uint8_t severity, const char *code, graft_text message, const graft_location *at) {
    graft_remark remark = {.severity = severity, .code = graft_string(code), .message = message};
    if (at) remark.at = (graft_maybe_location){true, *at};
    return remark;
}

bool graft_fail_input(const char *code, graft_text message, const graft_location *at) {
    graft_reason_ = (graft_reason){.kind = GRAFT_INVALID_INPUT};
    graft_reason_.remark = graft_remark_(GRAFT_ERROR, code, message, at);
    return false;
}

const graft_reason *graft_error(void) { return &graft_reason_; }

/* Whether the host did it; if not, its reason is noted. */
static bool graft_done_(const graft_answer_ *answer) {
    if (answer->failed) graft_reason_ = answer->reason;
    return !answer->failed;
}

graft_text graft_string(const char *text) { return (graft_text){text, strlen(text)}; }

bool graft_equal(graft_text a, graft_text b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.at, b.at, a.length) == 0);
}

bool graft_is_utf8(graft_text text) {
    const uint8_t *at = (const uint8_t *)text.at, *end = at + text.length;
    while (at < end) {
        uint8_t first = *at++;
        if (first < 0x80) continue;
        int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        if (first < 0xc2 || first > 0xf4 || end - at < more) return false;
        /* Too long a form, a surrogate, or beyond U+10FFFF: the second byte tells. */
        uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        if (*at < low || *at > high) return false;
        for (at++; --more; at++)
            if ((*at & 0xc0) != 0x80) return false;
    }
    return true;
}

graft_text graft_decimal(uint64_t number) {
    char digits[20];
    size_t first = sizeof digits;
    do digits[--first] = (char)('0' + number % 10); while (number /= 10);
    char *text = graft_alloc(sizeof digits - first);
    memcpy(text, digits + first, sizeof digits - first);
    return (graft_text){text, sizeof digits - first};
}

graft_text graft_join(int pieces, ...) {
    va_list list;
    size_t length = 0, at = 0;
    va_start(list, pieces);
    for (int i = 0; i < pieces; i++) length += va_arg(list, graft_text).length;
    va_end(list);
    char *text = graft_alloc(length);
    va_start(list, pieces);
    for (int i = 0; i < pieces; i++) {
        graft_text piece = va_arg(list, graft_text);
        if (piece.length) memcpy(text + at, piece.at, piece.length);
        at += piece.length;
    }
    va_end(list);
    return (graft_text){text, length};
}

static bool graft_is_blank_(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

graft_text graft_trimmed(graft_text text) {
    while (text.length && graft_is_blank_(text.at[0])) text.at++, text.length--;
    while (text.length && graft_is_blank_(text.at[text.length - 1])) text.length--;
    return text;
}

graft_text graft_quoted(graft_text text) {
    static const char hex[] = "0123456789abcdef";
    char *quoted = graft_alloc(6 * text.length + 2), *to = quoted;
    *to++ = '"';
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = (uint8_t)text.at[i];
        if (byte == '"' || byte == '\\') *to++ = '\\', *to++ = (char)byte;
        else if (byte >= 0x20) *to++ = (char)byte;
        else {
            memcpy(to, "\\u00", 4);
            to[4] = hex[byte >> 4], to[5] = hex[byte & 15];
            to += 6;
        }
    }
    *to++ = '"';
    return (graft_text){quoted, (size_t)(to - quoted)};
}

/* ---- Options: the members of a JSON object that graft has read before ------------------------------- */

static const char *graft_after_blanks_(const char *at, const char *end) {
    while (at < end && (graft_is_blank_(*at) || *at == ',' || *at == ':')) at++;
    return at;
}

static const char *graft_after_value_(const char *at, const char *end) {
    int depth = 0;
    do {
        if (*at == '"') {
            for (at++; at < end && *at != '"'; at++)
                if (*at == '\\') at++;
        } else if (*at == '{' || *at == '[') depth++;
        else if (*at == '}' || *at == ']') depth--;
        else if (depth == 0) {
            while (at < end && !strchr(" \t\r\n,}]", *at)) at++;
            return at;
        }
        if (at < end) at++;
    } while (at < end && depth > 0);
    return at;
}

/* The next member from `*at` on; false behind the last. */
static bool graft_next_option_(const char **at, const char *end, graft_text *name, graft_text *value) {
    const char *from = graft_after_blanks_(*at, end);
    if (from >= end || *from != '"') return false;
    const char *to = graft_after_value_(from, end);
    *name = (graft_text){from + 1, (size_t)(to - from - 2)};
    from = graft_after_blanks_(to, end);
    if (from >= end) return false;
    *at = graft_after_value_(from, end);
    *value = (graft_text){from, (size_t)(*at - from)};
    return true;
}

static const char *graft_first_option_(graft_text options) {
    const char *brace = options.length ? memchr(options.at, '{', options.length) : NULL;
    return brace ? brace + 1 : options.at + options.length;
}

bool graft_option(graft_text options, const char *name, graft_text *value) {
    const char *at = graft_first_option_(options), *end = options.at + options.length;
    graft_text found;
    while (graft_next_option_(&at, end, &found, value))
        if (graft_equal(found, graft_string(name))) return true;
    return false;
}

bool graft_only_options(graft_text options, int names, ...) {
    const char *at = graft_first_option_(options), *end = options.at + options.length;
    graft_text found, value;
    while (graft_next_option_(&at, end, &found, &value)) {
        bool known = false;
        va_list list;
        va_start(list, names);
        for (int i = 0; i < names; i++) known |= graft_equal(found, graft_string(va_arg(list, const char *)));
        va_end(list);
        if (!known)
            return graft_fail(GRAFT_INVALID_OPTIONS,
                              graft_join(3, graft_literal("/"), found, graft_literal(": there is no such option")));
    }
    return true;
}

/* ---- The host -------------------------------------------------------------------------------------- */

void graft_log(uint8_t level, graft_text message) { graft_host_log_(level, message.at, message.length); }

bool graft_report(uint8_t severity, const char *code, graft_text message, const graft_location *at) {
    graft_answer_ answer;
    graft_remark remark = graft_remark_(severity, code, message, at);
    graft_host_report_(&remark, &answer);
    return graft_done_(&answer);
}

/* The host is a thread away, so it hears of every 64 KiB rather than of every record. */
static struct { uint64_t done; uint32_t times; } graft_told_;

bool graft_checkpoint(uint64_t done, graft_maybe_number total) {
    bool soon = done >= graft_told_.done && done - graft_told_.done < (64u << 10);
    if (graft_told_.times >= 16 && soon && !(total.known && total.value == done)) return true;
    graft_told_.done = done;
    if (graft_told_.times < 16) graft_told_.times++;
    graft_answer_ answer;
    graft_host_checkpoint_((int64_t)done, total.known, (int64_t)total.value, &answer);
    return graft_done_(&answer);
}

#ifdef GRAFT_CONVERTER

GRAFT_IMPORT_("input", "[method]source.name") void graft_source_name_(int32_t, graft_text *);
GRAFT_IMPORT_("input", "[method]source.size") void graft_source_size_(int32_t, graft_maybe_number *);
GRAFT_IMPORT_("input", "[method]source.read") void graft_source_read_(int32_t, int32_t, graft_answer_ *);
GRAFT_IMPORT_("input", "[method]source.read-at") void graft_source_read_at_(int32_t, int64_t, int32_t, graft_answer_ *);
GRAFT_IMPORT_("input", "[resource-drop]source") void graft_source_drop_(int32_t);
GRAFT_IMPORT_("input", "open-asset") void graft_input_open_asset_(const char *, size_t, graft_answer_ *);
GRAFT_IMPORT_("input", "probe-image") void graft_input_probe_image_(const char *, size_t, graft_answer_ *);
GRAFT_IMPORT_("input", "list-assets")
void graft_input_list_assets_(const char *, size_t, int32_t, const char *, size_t, int32_t, graft_answer_ *);
GRAFT_IMPORT_("dataset", "[method]sink.emit") void graft_sink_emit_(int32_t, const graft_sample *, size_t, graft_answer_ *);
GRAFT_IMPORT_("dataset", "[resource-drop]sink") void graft_sink_drop_(int32_t);

graft_text graft_name(graft_source source) {
    graft_text name;
    graft_source_name_(source, &name);
    return name;
}

graft_maybe_number graft_size(graft_source source) {
    graft_maybe_number size;
    graft_source_size_(source, &size);
    return size;
}

bool graft_read(graft_source source, uint32_t max, graft_bytes *chunk) {
    graft_answer_ answer;
    graft_source_read_(source, (int32_t)max, &answer);
    if (!answer.failed) *chunk = answer.bytes;
    return graft_done_(&answer);
}

bool graft_read_at(graft_source source, uint64_t offset, uint32_t max, graft_bytes *chunk) {
    graft_answer_ answer;
    graft_source_read_at_(source, (int64_t)offset, (int32_t)max, &answer);
    if (!answer.failed) *chunk = answer.bytes;
    return graft_done_(&answer);
}

bool graft_open_asset(graft_text name, graft_source *opened) {
    graft_answer_ answer;
    graft_input_open_asset_(name.at, name.length, &answer);
    if (!answer.failed) *opened = answer.handle;
    return graft_done_(&answer);
}

void graft_close_asset(graft_source opened) { graft_source_drop_(opened); }

bool graft_probe_image(graft_text name, graft_image_info *info) {
    graft_answer_ answer;
    graft_input_probe_image_(name.at, name.length, &answer);
    if (!answer.failed) *info = answer.image;
    return graft_done_(&answer);
}

bool graft_list_assets(graft_text prefix, const graft_text *after, uint32_t max, graft_texts *names) {
    graft_answer_ answer;
    graft_text from = after ? *after : (graft_text){"", 0};
    graft_input_list_assets_(prefix.at, prefix.length, after != NULL, from.at, from.length, (int32_t)max, &answer);
    if (!answer.failed) *names = answer.texts;
    return graft_done_(&answer);
}

/* ---- Samples on their way out: copied into a batch, which crosses to graft when it is full ---------- */

enum { GRAFT_BATCH_SAMPLES_ = 64, GRAFT_BATCH_BYTES_ = 256 << 10 };

static struct {
    graft_sample samples[GRAFT_BATCH_SAMPLES_];
    size_t count, used;
    _Alignas(8) char bytes[GRAFT_BATCH_BYTES_];
} graft_batch_;

static bool graft_flush_(graft_sink output) {
    if (!graft_batch_.count) return true;
    graft_answer_ answer;
    graft_sink_emit_(output, graft_batch_.samples, graft_batch_.count, &answer);
    graft_batch_.count = graft_batch_.used = 0;
    return graft_done_(&answer);
}

/* A copy in the batch's bytes; NULL notes that they do not suffice. */
static const void *graft_kept_(const void *from, size_t bytes, bool *fits) {
    size_t at = (graft_batch_.used + 7) & ~(size_t)7;
    if (at > GRAFT_BATCH_BYTES_ || bytes > GRAFT_BATCH_BYTES_ - at) *fits = false;
    if (!*fits) return NULL;
    if (bytes) memcpy(graft_batch_.bytes + at, from, bytes);
    graft_batch_.used = at + bytes;
    return graft_batch_.bytes + at;
}

static void graft_keep_text_(graft_text *text, bool *fits) { text->at = graft_kept_(text->at, text->length, fits); }

#define GRAFT_KEEP_LIST_(list, fits) ((list).at = graft_kept_((list).at, (list).count * sizeof *(list).at, (fits)))

static bool graft_keep_(graft_sample *sample) {
    bool fits = true;
    graft_keep_text_(&sample->id, &fits);
    GRAFT_KEEP_LIST_(sample->images, &fits);
    for (size_t i = 0; fits && i < sample->images.count; i++) {
        graft_image *image = (graft_image *)&sample->images.at[i];
        if (image->kind == GRAFT_ENCODED) image->encoded.at = graft_kept_(image->encoded.at, image->encoded.length, &fits);
        else graft_keep_text_(image->kind == GRAFT_ASSET ? &image->asset : &image->page.of, &fits);
    }
    GRAFT_KEEP_LIST_(sample->turns, &fits);
    for (size_t i = 0; fits && i < sample->turns.count; i++) {
        graft_turn *turn = (graft_turn *)&sample->turns.at[i];
        GRAFT_KEEP_LIST_(turn->content, &fits);
        for (size_t j = 0; fits && j < turn->content.count; j++) {
            graft_part *part = (graft_part *)&turn->content.at[j];
            if (part->kind == GRAFT_PART_TEXT) graft_keep_text_(&part->text, &fits);
        }
    }
    if (sample->origin.known) {
        graft_keep_text_(&sample->origin.value.source, &fits);
        if (sample->origin.value.field.known) graft_keep_text_(&sample->origin.value.field.value, &fits);
    }
    GRAFT_KEEP_LIST_(sample->extra, &fits);
    for (size_t i = 0; fits && i < sample->extra.count; i++) {
        graft_attribute *extra = (graft_attribute *)&sample->extra.at[i];
        graft_keep_text_(&extra->name, &fits);
        if (extra->kind >= GRAFT_STRING) graft_keep_text_(&extra->text, &fits);
    }
    return fits;
}

bool graft_emit(graft_sink output, const graft_sample *sample) {
    if (graft_batch_.count == GRAFT_BATCH_SAMPLES_ && !graft_flush_(output)) return false;
    for (int attempt = 0; attempt < 2; attempt++) {
        size_t used = graft_batch_.used;
        graft_sample *kept = &graft_batch_.samples[graft_batch_.count];
        *kept = *sample;
        if (graft_keep_(kept)) {
            graft_batch_.count++;
            return true;
        }
        graft_batch_.used = used;
        if (!graft_flush_(output)) return false;
    }
    /* It is larger than a batch: it goes by itself. */
    graft_answer_ answer;
    graft_sink_emit_(output, sample, 1, &answer);
    return graft_done_(&answer);
}

/* ---- Lines ----------------------------------------------------------------------------------------- */

graft_lines graft_lines_of(graft_source source) {
    return (graft_lines){.source = source, .name = graft_name(source), .size = graft_size(source)};
}

graft_location graft_line_location(const graft_lines *lines) {
    return (graft_location){
        .source = lines->name,
        .byte_offset = {true, lines->offset},
        .line = {true, lines->number},
        .record_index = {true, lines->number - 1},
    };
}

/* More bytes behind those at hand, which move to the front. */
static bool graft_fill_lines_(graft_lines *lines) {
    size_t rest = lines->filled - lines->taken;
    graft_bytes chunk;
    if (!graft_read(lines->source, 64u << 10, &chunk)) return false;
    lines->ended = chunk.length == 0;
    if (rest) memmove(lines->buffer, lines->buffer + lines->taken, rest);
    lines->taken = 0;
    lines->filled = rest;
    if (lines->ended) return true;
    if (lines->room < rest + chunk.length) {
        char *larger = graft_alloc(2 * (rest + chunk.length));
        if (rest) memcpy(larger, lines->buffer, rest);
        graft_free(lines->buffer);
        lines->buffer = larger;
        lines->room = 2 * (rest + chunk.length);
    }
    memcpy(lines->buffer + rest, chunk.at, chunk.length);
    lines->filled = rest + chunk.length;
    graft_free(chunk.at);
    return true;
}

bool graft_next_line(graft_lines *lines, graft_text *line) {
    size_t looked = 0;
    char *end = NULL;
    while (!lines->failed) {
        size_t rest = lines->filled - lines->taken;
        char *start = lines->buffer + lines->taken;
        end = rest > looked ? memchr(start + looked, '\n', rest - looked) : NULL;
        if (end || lines->ended) break;
        looked = rest;
        if (rest > GRAFT_LONGEST_LINE) {
            lines->number++;
            lines->offset = lines->behind;
            graft_location at = graft_line_location(lines);
            graft_fail_input("line-too-long", graft_literal("the line is longer than this format may have"), &at);
            lines->failed = true;
        } else lines->failed = !graft_fill_lines_(lines);
    }
    size_t rest = lines->filled - lines->taken;
    if (lines->failed || (!end && rest == 0)) return false;
    char *start = lines->buffer + lines->taken;
    size_t length = end ? (size_t)(end - start) : rest;
    lines->taken += length + (end != NULL);
    lines->offset = lines->behind;
    lines->behind += length + (end != NULL);
    lines->number++;
    *line = (graft_text){start, length};
    if (line->length && line->at[line->length - 1] == '\r') line->length--;
    return true;
}

/* ---- What graft calls ------------------------------------------------------------------------------ */

static graft_answer_ graft_result_;

GRAFT_EXPORT_("graft:plugin/converter@0.1.0#describe")
const void *graft_export_describe_(void) { return &graft_plugin; }

_Static_assert(offsetof(graft_converter, options_schema) == 8, "the description begins the struct");

GRAFT_EXPORT_("graft:plugin/converter@0.1.0#detect")
int32_t graft_export_detect_(const uint8_t *head, size_t head_length, const char *name, size_t name_length) {
    uint8_t sure = graft_plugin.detect((graft_bytes){head, head_length}, (graft_text){name, name_length});
    graft_free_all_();
    return sure;
}

GRAFT_EXPORT_("graft:plugin/converter@0.1.0#convert")
const graft_answer_ *graft_export_convert_(graft_source input, graft_sink output, const char *options, size_t length) {
    graft_summary summary = {0, 0, 0};
    graft_batch_.count = graft_batch_.used = 0;
    graft_told_.done = graft_told_.times = 0;
    graft_result_ = (graft_answer_){0};
    bool done = graft_plugin.convert(input, output, (graft_text){options, length}, &summary) && graft_flush_(output);
    graft_result_.failed = !done;
    if (done) graft_result_.summary = summary;
    else graft_result_.reason = graft_reason_;
    graft_source_drop_(input);
    graft_sink_drop_(output);
    return &graft_result_;
}

GRAFT_EXPORT_("cabi_post_graft:plugin/converter@0.1.0#convert")
void graft_export_converted_(const graft_answer_ *answer) { (void)answer; graft_free_all_(); }

#endif /* GRAFT_CONVERTER */

#ifdef GRAFT_EVALUATOR

typedef struct { graft_text metric; double value, weight; } graft_score_;
struct graft_scores { graft_score_ *at; size_t count, room; };

void graft_add_score(graft_scores *scores, graft_text metric, double value, double weight) {
    if (scores->count == scores->room) {
        size_t room = scores->room ? 2 * scores->room : 8;
        graft_score_ *larger = graft_alloc(room * sizeof *larger);
        if (scores->count) memcpy(larger, scores->at, scores->count * sizeof *larger);
        graft_free(scores->at);
        scores->at = larger;
        scores->room = room;
    }
    scores->at[scores->count++] = (graft_score_){metric, value, weight};
}

bool graft_reference(const graft_sample *sample, graft_text *answer) {
    for (size_t i = sample->turns.count; i-- > 0;) {
        const graft_turn *turn = &sample->turns.at[i];
        if (turn->role != GRAFT_ASSISTANT) continue;
        *answer = graft_literal("");
        for (size_t j = 0; j < turn->content.count; j++)
            if (turn->content.at[j].kind == GRAFT_PART_TEXT)
                *answer = graft_join(2, *answer, turn->content.at[j].text);
        return true;
    }
    const graft_location *at = sample->origin.known ? &sample->origin.value : NULL;
    graft_text why = graft_join(3, graft_literal("sample "), graft_quoted(sample->id),
                                graft_literal(" has no answer to compare with"));
    return graft_fail_input("no-reference", why, at);
}

#define GRAFT_EVALUATOR_EXPORT_(name) GRAFT_EXPORT_("graft:plugin/evaluator@0.1.0#" name)

__attribute__((__import_module__("[export]graft:plugin/evaluator@0.1.0"), __import_name__("[resource-new]run")))
extern int32_t graft_run_new_(void *);

static graft_answer_ graft_result_;

/* The run behind the handle; its own address may be NULL for a plugin that keeps nothing. */
typedef struct { void *of_plugin; } graft_run_;

static const graft_answer_ *graft_answered_(bool done, const graft_scores *scores) {
    graft_result_ = (graft_answer_){.failed = !done};
    if (!done) graft_result_.reason = graft_reason_;
    else if (scores) graft_result_.list.at = scores->at, graft_result_.list.count = scores->count;
    return &graft_result_;
}

GRAFT_EVALUATOR_EXPORT_("describe")
const void *graft_export_describe_(void) { return &graft_plugin; }

_Static_assert(offsetof(graft_evaluator, options_schema) == 8, "the description begins the struct");

GRAFT_EVALUATOR_EXPORT_("start")
const graft_answer_ *graft_export_start_(const char *options, size_t length, int64_t seed) {
    void *kept = NULL;
    bool done = graft_plugin.start((graft_text){options, length}, (uint64_t)seed, &kept);
    graft_answered_(done, NULL);
    if (!done) return &graft_result_;
    graft_run_ *run = malloc(sizeof *run);
    if (!run) __builtin_trap();
    run->of_plugin = kept;
    graft_result_.handle = graft_run_new_(run);
    return &graft_result_;
}

/* Too many values for parameters: they come in memory. */
typedef struct { graft_run_ *run; graft_sample reference; graft_prediction predicted; } graft_to_score_;
_Static_assert(offsetof(graft_to_score_, reference) == 8 && offsetof(graft_to_score_, predicted) == 136, "layout");

GRAFT_EVALUATOR_EXPORT_("[method]run.score")
const graft_answer_ *graft_export_score_(const graft_to_score_ *given) {
    graft_scores scores = {NULL, 0, 0};
    bool done = graft_plugin.score(given->run->of_plugin, &given->reference, &given->predicted, &scores);
    return graft_answered_(done, &scores);
}

GRAFT_EVALUATOR_EXPORT_("[method]run.finish")
const graft_answer_ *graft_export_finish_(graft_run_ *run) {
    graft_scores scores = {NULL, 0, 0};
    bool done = !graft_plugin.finish || graft_plugin.finish(run->of_plugin, &scores);
    return graft_answered_(done, &scores);
}

GRAFT_EVALUATOR_EXPORT_("[dtor]run")
void graft_export_end_(graft_run_ *run) {
    if (graft_plugin.end) graft_plugin.end(run->of_plugin);
    free(run);
}

#define GRAFT_AFTER_(function, name) \
    GRAFT_EXPORT_("cabi_post_graft:plugin/evaluator@0.1.0#" function) \
    void name(const graft_answer_ *answer) { (void)answer; graft_free_all_(); }

GRAFT_AFTER_("start", graft_export_started_)
GRAFT_AFTER_("[method]run.score", graft_export_scored_)
GRAFT_AFTER_("[method]run.finish", graft_export_finished_)

#endif /* GRAFT_EVALUATOR */
#endif /* GRAFT_PLUGIN_IMPLEMENTED */
#endif /* GRAFT_PLUGIN_IMPLEMENTATION */
