/* A converter: one sample per line of a text file, `question<TAB>answer`. Put your format in its place. */

#define GRAFT_CONVERTER
#define GRAFT_PLUGIN_IMPLEMENTATION
#include "graft_plugin.h"

#include <string.h>

static uint8_t detect(graft_bytes head, graft_text name) {
    (void)name;
    return memchr(head.at, '\t', head.length) ? 20 : 0;
}

/* A line that gives no sample: said where it is, counted, and passed over. */
static bool skip(graft_lines *lines, const char *code, graft_text why, graft_summary *summary) {
    graft_location at = graft_line_location(lines);
    summary->skipped++;
    return graft_report(GRAFT_WARNING, code, why, &at);
}

static bool convert(graft_source input, graft_sink output, graft_text options, graft_summary *summary) {
    /* Knows no option; one that is given is an error rather than without effect. */
    if (!graft_only_options(options, 0)) return false;

    graft_lines lines = graft_lines_of(input);
    graft_text line;
    while (graft_next_line(&lines, &line)) {
        summary->records++;
        if (!graft_checkpoint(lines.offset, lines.size)) return false;

        const char *tab = memchr(line.at, '\t', line.length);
        if (!graft_is_utf8(line)) {
            if (!skip(&lines, "not-utf8", graft_literal("the line is not UTF-8"), summary)) return false;
            continue;
        }
        if (!tab) {
            graft_text why = graft_literal("the line has no tab between question and answer");
            if (!skip(&lines, "no-tab", why, summary)) return false;
            continue;
        }
        graft_text question = {line.at, (size_t)(tab - line.at)};
        graft_text answer = {tab + 1, line.length - question.length - 1};
        graft_text id = graft_decimal(lines.number);
        graft_turn turns[] = {graft_says(GRAFT_USER, question), graft_says(GRAFT_ASSISTANT, answer)};
        graft_sample sample = {
            .id = id,
            .turns = GRAFT_LIST(turns),
            .origin = {true, graft_line_location(&lines)},
        };
        if (!graft_emit(output, &sample)) return false;
        graft_free(id.at);
        summary->samples++;
    }
    return !lines.failed;
}

static const graft_text extensions[] = {GRAFT_TEXT("tsv"), GRAFT_TEXT("txt")};

static const graft_format formats[] = {{
    .id = GRAFT_TEXT("question-tab-answer"),
    .title = GRAFT_TEXT("Questions and answers, one pair a line"),
    .extensions = GRAFT_LIST(extensions),
}};

const graft_converter graft_plugin = {
    .formats = GRAFT_LIST(formats),
    .options_schema = GRAFT_TEXT("{\"type\": \"object\", \"properties\": {}, \"additionalProperties\": false}"),
    .detect = detect,
    .convert = convert,
};
