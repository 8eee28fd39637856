/*
 * graft.h - the C interface of graft, an embedded runtime for quantized language and vision-language models that
 * trains LoRA adapters on the device itself.
 *
 * C99, C++11 and later. C++ programs include graft.hpp, which is written on this header alone.
 *
 * A program in eight lines:
 *
 *     graft_model *model = NULL;
 *     graft_session *session = NULL;
 *     graft_error *error = NULL;
 *     if (graft_model_open(NULL, "model.gguf", NULL, &model, &error) ||
 *         graft_session_create(model, NULL, &session, &error)) {
 *         fprintf(stderr, "%s\n", graft_error_message(error));
 *         ...
 *
 * THE RULES, which hold for every function and are not said again below
 *
 * Status     A function that can fail returns a graft_status: 0 done, above 0 no failure, below 0 an error. Where it
 *            has a last parameter `err`, a failure also gives an error object there with a sentence for people and
 *            details for programs; `err` may be NULL. Release the object. Results are written on success only.
 *            Numbers never change their meaning; treat every negative number as an error.
 * NULL       A pointer may be NULL only where it is marked GRAFT_OPT. NULL elsewhere is GRAFT_E_ARGUMENT, or
 *            GRAFT_E_HANDLE for an object; it is never a crash.
 * Objects    graft_model and the like are handles: they look like pointers and lead nowhere. One that was released, is of
 *            another kind, or never was one, is GRAFT_E_HANDLE. An object keeps what it needs: a session its model, a
 *            model its runtime; release them in any order. An object ends with its last reference and the last call
 *            that uses it. Releasing NULL does nothing.
 * Threads    Each kind of object has a class:
 *              S  shared: any number of threads at once. graft_<kind>_retain counts references.
 *              X  exclusive: any thread, one call at a time; a second call is refused with GRAFT_E_BUSY and
 *                 harms nothing.
 *              A  any thread at any time, also while another call uses the object.
 *            Functions of class A are marked; a function is otherwise of the class of its first object.
 * Callbacks  run on the thread that made the call, never on a worker. They must not throw or longjmp, and a call
 *            they make on the object at work gets GRAFT_E_BUSY. They return 0 to go on.
 *            The log function alone may be called from any thread. `destroy` functions are called exactly once, also
 *            when the call that took them fails, and from whichever thread ends the object.
 * Text       is UTF-8. Names and paths end with a NUL. Contents have a length in bytes, for which
 *            GRAFT_NUL_TERMINATED stands for "up to the NUL". Texts that the library returns belong to it.
 * Structs    begin with struct_size; begin them with GRAFT_INIT, which sets it and makes everything else zero, and zero
 *            is every field's default. Later versions only add fields at the end: a shorter struct, which ends between
 *            two fields, is read as if zeros followed, a longer one is accepted as long as what the library does not
 *            know is zero, else it is GRAFT_E_VERSION. Of a struct with results as much is written as struct_size has
 *            room for. In an array of structs all are as large as the first one says.
 * Cancelling A raised cancel token ends a call with GRAFT_E_CANCELLED at its next safe point. What state that leaves
 *            is said at each function. A callback that stops its call stops it alone: a token that others have as well
 *            stays as it is. Files are written under a temporary name and renamed: one that a call did not finish is
 *            not there.
 * Memory     A memory limit of the runtime, or a budget of a call, is checked before anything is allocated:
 *            GRAFT_E_BUDGET.
 * Bugs       A panic in the library becomes GRAFT_E_INTERNAL. The exclusive object it was working on is shut: later
 *            calls get GRAFT_E_STATE, releasing it works.
 */
#ifndef GRAFT_H
#define GRAFT_H

#include <stddef.h>
#include <stdint.h>

#if defined(GRAFT_STATIC)
#  define GRAFT_API
#elif defined(_WIN32)
#  define GRAFT_API __declspec(dllimport)
#elif defined(__GNUC__)
#  define GRAFT_API __attribute__((visibility("default")))
#else
#  define GRAFT_API
#endif
#if defined(__GNUC__)
#  define GRAFT_MUST_USE __attribute__((warn_unused_result))
#else
#  define GRAFT_MUST_USE
#endif
/* A pointer that may be NULL. */
#define GRAFT_OPT

#define GRAFT_VERSION_MAJOR 0
#define GRAFT_VERSION_MINOR 1
#define GRAFT_VERSION_PATCH 0
/* The number in the library's name. 0 promises nothing yet; from 1 on nothing is ever taken away. */
#define GRAFT_ABI 0u
/* As a length: up to the NUL. */
#define GRAFT_NUL_TERMINATED ((size_t)-1)
/* The beginning of a struct: graft_session_options options = GRAFT_INIT(graft_session_options); */
#ifdef __cplusplus
#  define GRAFT_INIT(type) [] { type begun = type(); begun.struct_size = (uint32_t)sizeof(type); return begun; }()
#else
#  define GRAFT_INIT(type) { .struct_size = (uint32_t)sizeof(type) }
#endif

#ifdef __cplusplus
extern "C" {
#  define GRAFT_NOEXCEPT noexcept
#else
#  define GRAFT_NOEXCEPT
#endif

/* ------------------------------------------------------------------------------------------------------ status */

typedef int32_t graft_status;
#define GRAFT_DONE                 1   /* nothing more will come */
#define GRAFT_PENDING              2   /* not yet: still at work */
#define GRAFT_OK                   0
#define GRAFT_E_INTERNAL         (-1)  /* a bug of graft; a panic was caught */
#define GRAFT_E_ARGUMENT         (-2)  /* an argument that cannot be meant */
#define GRAFT_E_HANDLE           (-3)  /* NULL, a released object or one of another kind */
#define GRAFT_E_STATE            (-4)  /* the object is in no state for this */
#define GRAFT_E_BUSY             (-5)  /* another call uses the object */
#define GRAFT_E_CANCELLED        (-6)  /* the caller asked to stop */
#define GRAFT_E_TIMEOUT          (-7)  /* the time given was not enough */
#define GRAFT_E_MEMORY           (-8)  /* the system has no memory left */
#define GRAFT_E_DEVICE_MEMORY    (-9)  /* the device has no memory left */
#define GRAFT_E_BUDGET          (-10)  /* it does not fit the budget; nothing was allocated */
#define GRAFT_E_IO              (-11)  /* reading or writing failed */
#define GRAFT_E_NOT_FOUND       (-12)  /* there is no such file or name */
#define GRAFT_E_DENIED          (-13)  /* not permitted */
#define GRAFT_E_UNSUPPORTED     (-14)  /* graft, or this build of it, cannot do this */
#define GRAFT_E_VERSION         (-15)  /* made for another version */
#define GRAFT_E_FORMAT          (-16)  /* a file is malformed */
#define GRAFT_E_CORRUPT         (-17)  /* a file is damaged: a size or a digest does not agree */
#define GRAFT_E_INCOMPATIBLE    (-18)  /* made for another model */
#define GRAFT_E_CONTEXT_FULL    (-19)  /* no position is left in the session */
#define GRAFT_E_BUFFER_SIZE     (-20)  /* the buffer is too small; *needed says how large it must be */
#define GRAFT_E_PLUGIN          (-21)  /* a plugin returned an error or trapped */
#define GRAFT_E_PLUGIN_LIMIT    (-22)  /* a plugin reached a limit */
#define GRAFT_E_DEVICE          (-23)  /* the device failed */
#define GRAFT_E_NUMERIC         (-24)  /* a value that is not finite */
#define GRAFT_E_CALLBACK        (-25)  /* the caller's callback asked to fail */

/* The name of a status, "GRAFT_E_BUSY"; "unknown" for a number that is none. Never NULL. */
GRAFT_API const char *graft_status_name(graft_status status) GRAFT_NOEXCEPT;

/* ----------------------------------------------------------------------------------------------------- objects */

typedef struct graft_runtime   graft_runtime;    /* S  threads, memory limit, log, plugins' cache */
typedef struct graft_model     graft_model;      /* S  an opened model file */
typedef struct graft_image     graft_image;      /* S  pixels */
typedef struct graft_adapter   graft_adapter;    /* S  a LoRA adapter */
typedef struct graft_dataset   graft_dataset;    /* S  training samples */
typedef struct graft_plugin    graft_plugin;     /* S  a loaded plugin */
typedef struct graft_registry  graft_registry;   /* S  a model's adapters by name */
typedef struct graft_session   graft_session;    /* X  one timeline of tokens and images */
typedef struct graft_batch     graft_batch;      /* X  room in which sessions run together */
typedef struct graft_trainer   graft_trainer;    /* X  a training run */
typedef struct graft_job       graft_job;        /* X  a call that runs in the background */
typedef struct graft_cancel    graft_cancel;     /* A  a flag that stops calls */
typedef struct graft_buffer    graft_buffer;     /* X  bytes that the library made */
typedef struct graft_error     graft_error;      /* X  why a call failed */

/* ----------------------------------------------------------------------------------------------------- library */

/* GRAFT_ABI of the library that runs, to be compared with the header's. Class A. */
GRAFT_API uint32_t graft_library_abi(void) GRAFT_NOEXCEPT;
/* Its version: major << 16 | minor << 8 | patch. Class A. */
GRAFT_API uint32_t graft_library_version(void) GRAFT_NOEXCEPT;
/* Its version as text, "0.1.0". Class A. */
GRAFT_API const char *graft_library_version_string(void) GRAFT_NOEXCEPT;
/* What it is, as JSON: version, features, the processor's kernels. Class A. */
GRAFT_API const char *graft_library_build_info(void) GRAFT_NOEXCEPT;
/* 1 if the feature is in this build, else 0: "plugins". Class A. */
GRAFT_API int32_t graft_library_has_feature(const char *name) GRAFT_NOEXCEPT;

/* ------------------------------------------------------------------------------------------------------ errors */

/* The status that the call returned; GRAFT_E_HANDLE if it is no error object. */
GRAFT_API graft_status graft_error_status(const graft_error *error) GRAFT_NOEXCEPT;
/* One sentence: what failed, where, and what to do. Lives as long as the object; never NULL. */
GRAFT_API const char *graft_error_message(const graft_error *error) GRAFT_NOEXCEPT;
/* A detail by its key, or NULL where there is none: "path", "offset" (bytes), "tensor", "field", "line", "column",
 * "record", "sample", "step", "needed" (bytes or elements), "smallest" (bytes). Lives as long as the object. */
GRAFT_API const char *graft_error_detail(const graft_error *error, const char *key) GRAFT_NOEXCEPT;
/* All of it as a JSON object: status, name, message, details. */
GRAFT_API graft_status graft_error_json(const graft_error *error, graft_buffer **out) GRAFT_NOEXCEPT;
GRAFT_API void graft_error_release(graft_error *error GRAFT_OPT) GRAFT_NOEXCEPT;

/* ----------------------------------------------------------------------------------------------------- buffers */

/* The bytes; a NUL follows the last one. Live as long as the buffer. NULL if it is no buffer. */
GRAFT_API const void *graft_buffer_data(const graft_buffer *buffer) GRAFT_NOEXCEPT;
/* Their number, without the NUL. */
GRAFT_API size_t graft_buffer_size(const graft_buffer *buffer) GRAFT_NOEXCEPT;
GRAFT_API void graft_buffer_release(graft_buffer *buffer GRAFT_OPT) GRAFT_NOEXCEPT;

/* --------------------------------------------------------------------------------------------------- callbacks */

/* Ends what was handed over; called exactly once. */
typedef void (*graft_destroy_fn)(void *userdata);
/* Told how far work is; `total` 0 means not known. 0 goes on, anything else stops as a raised cancel token does. */
typedef int32_t (*graft_progress_fn)(void *userdata, const char *stage, uint64_t done, uint64_t total);
#define GRAFT_SEVERITY_NOTE    0u     /* worth knowing; nothing was lost */
#define GRAFT_SEVERITY_WARNING 1u     /* something was skipped or guessed */
#define GRAFT_SEVERITY_ERROR   2u     /* the data is wrong */
/* Gets a remark about data: its code ("no-tab"), a sentence with its place, and all of it as a JSON object. */
typedef int32_t (*graft_diagnostic_fn)(void *userdata, uint32_t severity, const char *code, const char *message,
                                       const char *json);

/* ------------------------------------------------------------------------------------------------------ cancel */

/* A token that any number of calls may be given, and that any thread may raise. */
GRAFT_API graft_status graft_cancel_create(graft_cancel **out) GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* Raises it. Class A, and safe in a signal handler. A token that was released is left alone. */
GRAFT_API void graft_cancel_signal(graft_cancel *cancel) GRAFT_NOEXCEPT;
/* 1 if it is raised, else 0. Class A. */
GRAFT_API int32_t graft_cancel_is_signalled(const graft_cancel *cancel) GRAFT_NOEXCEPT;
/* Takes it down, to use it again. Class A. */
GRAFT_API void graft_cancel_reset(graft_cancel *cancel) GRAFT_NOEXCEPT;
/* Class A; calls that were given it go on with it. */
GRAFT_API void graft_cancel_release(graft_cancel *cancel GRAFT_OPT) GRAFT_NOEXCEPT;

/* ----------------------------------------------------------------------------------------------------- runtime */

typedef uint32_t graft_log_level;
#define GRAFT_LOG_OFF    0u
#define GRAFT_LOG_ERROR  1u
#define GRAFT_LOG_WARN   2u
#define GRAFT_LOG_INFO   3u
#define GRAFT_LOG_DEBUG  4u
#define GRAFT_LOG_TRACE  5u
/* Gets a message, which ends with a NUL that message_len does not count. May be called from any thread, from several
 * at once, and must not call graft but for functions of class A. */
typedef void (*graft_log_fn)(void *userdata, graft_log_level level, const char *target, const char *message,
                             size_t message_len);

typedef struct graft_runtime_options {
    uint32_t struct_size;
    uint32_t n_threads;               /* 0: one per core */
    graft_log_level log_level;
    uint32_t flags;                   /* 0 */
    graft_log_fn log;                 /* NULL: nobody is told; the library is silent */
    void *log_userdata;
    graft_destroy_fn log_destroy;
    const char *cache_dir;            /* where compiled plugins are kept; NULL: nowhere */
    uint64_t memory_limit;            /* most bytes sessions, trainers and images may take together; 0: no limit */
} graft_runtime_options;

/* What models, trainers and plugins share. Wherever a function takes a runtime, NULL stands for one that the process
 * has by itself, with default options. */
GRAFT_API graft_status graft_runtime_create(const graft_runtime_options *options GRAFT_OPT, graft_runtime **out,
                                            graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
GRAFT_API void graft_runtime_retain(graft_runtime *runtime) GRAFT_NOEXCEPT;
GRAFT_API void graft_runtime_release(graft_runtime *runtime GRAFT_OPT) GRAFT_NOEXCEPT;
/* Replaces the log function; `destroy` of the old one is called once nobody uses it. */
GRAFT_API graft_status graft_runtime_set_log(graft_runtime *runtime GRAFT_OPT, graft_log_level level,
                                             graft_log_fn log GRAFT_OPT, void *userdata GRAFT_OPT,
                                             graft_destroy_fn destroy GRAFT_OPT, graft_error **err GRAFT_OPT)
                                             GRAFT_NOEXCEPT;

typedef struct graft_memory_stats {
    uint32_t struct_size;
    uint32_t reserved_0;
    uint64_t planned;                 /* bytes that live sessions and trainers of this runtime have planned for */
    uint64_t limit;                   /* its limit; 0 if there is none */
    uint64_t process_peak;            /* most bytes the process had resident, mapped files included; 0: not known */
    uint64_t process_anonymous;       /* bytes it has resident now, without mapped files; 0: not known */
} graft_memory_stats;
GRAFT_API graft_status graft_runtime_memory(const graft_runtime *runtime GRAFT_OPT, graft_memory_stats *out)
                                            GRAFT_NOEXCEPT;

/* ----------------------------------------------------------------------------------------------------- devices */

#define GRAFT_DEVICE_CPU 0u
#define GRAFT_DEVICE_GPU 1u
typedef struct graft_device_info {
    uint32_t struct_size;
    uint32_t kind;                    /* GRAFT_DEVICE_CPU, GRAFT_DEVICE_GPU */
    char name[32];                    /* what graft_model_options.device calls it: "cpu", "gpu:0" */
    char description[128];            /* its maker's name for it */
    char kernels[32];                 /* the kernels it runs: "avx2"; of a graphics device the interface: "vulkan" */
    uint64_t memory_total;            /* bytes; 0: not known */
    uint64_t memory_free;             /* bytes programs could still have; 0: not known */
    uint32_t n_threads;
    uint32_t reserved_0;
} graft_device_info;
/* The processor is number 0. Graphics devices are looked for once in a process. */
GRAFT_API graft_status graft_device_count(const graft_runtime *runtime GRAFT_OPT, uint32_t *out) GRAFT_NOEXCEPT;
GRAFT_API graft_status graft_device_get(const graft_runtime *runtime GRAFT_OPT, uint32_t index,
                                        graft_device_info *out) GRAFT_NOEXCEPT;

/* ----------------------------------------------------------------------------------------------------- sources */

/* Reads exactly `length` bytes at `offset` into `buffer`; returns 0 if it did. Called on the thread of the call. */
typedef int32_t (*graft_read_fn)(void *userdata, uint64_t offset, void *buffer, size_t length);

/* Where the bytes of a file come from, for programs that have no path to give. */
typedef struct graft_source {
    uint32_t struct_size;
    uint32_t kind;
#define GRAFT_SOURCE_PATH   0u        /* a file */
#define GRAFT_SOURCE_FD     1u        /* a part of an open file, which is mapped; the descriptor is duplicated */
#define GRAFT_SOURCE_MEMORY 2u        /* memory, which is used in place: it must not change until destroy is called */
#define GRAFT_SOURCE_READER 3u        /* a function, which is asked for everything once, in order; needs the memory */
    const char *path;                 /* PATH */
    const void *data;                 /* MEMORY */
    graft_read_fn read;               /* READER */
    void *userdata;                   /* first argument of read and destroy */
    graft_destroy_fn destroy;         /* MEMORY, READER: the library needs them no more; may be NULL */
    uint64_t offset;                  /* FD: where the part begins */
    uint64_t length;                  /* FD: its bytes, 0 for all that follow; MEMORY, READER: how many there are */
    int32_t fd;                       /* FD */
    uint32_t reserved_0;
} graft_source;

/* ------------------------------------------------------------------------------------------------------ models */

typedef struct graft_model_options {
    uint32_t struct_size;
    uint32_t n_threads;               /* threads of its own; 0 shares the runtime's */
    const char *projector_path;       /* the vision half of a model that sees, an mmproj file; NULL: none */
    const graft_source *projector;    /* the same from elsewhere; NULL: none */
    graft_progress_fn progress;       /* told while a source of kind READER is read */
    void *progress_userdata;
    graft_cancel *cancel;             /* stops such reading; NULL: nothing does */
    uint32_t flags;                   /* 0 */
    uint32_t reserved_0;
    const char *device;               /* what runs it: "cpu"; "gpu", or one by its graft_device_info name; "auto": a
                                         graphics card where there is one. NULL: "cpu" */
    uint64_t device_memory;           /* most bytes of a graphics device; 0: four fifths of its memory */
    uint32_t n_device_layers;         /* how many of the upper layers it runs; 0: as many as fit */
    uint32_t n_device_context;        /* positions of a session to leave room for; 0: as many as a session has by itself */
} graft_model_options;

/* Opens a GGUF file, or the first of a split model, and checks everything in it that will be used. Weights are mapped,
 * so that it takes milliseconds and memory is used as pages are touched. A program that replaces model files must write
 * a new file and rename it: a mapped file that is shortened ends the process. */
GRAFT_API graft_status graft_model_open(graft_runtime *runtime GRAFT_OPT, const char *path,
                                        const graft_model_options *options GRAFT_OPT, graft_model **out,
                                        graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* The same from elsewhere. The source's destroy is called exactly once, also on failure. */
GRAFT_API graft_status graft_model_open_source(graft_runtime *runtime GRAFT_OPT, const graft_source *source,
                                               const graft_model_options *options GRAFT_OPT, graft_model **out,
                                               graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
GRAFT_API void graft_model_retain(graft_model *model) GRAFT_NOEXCEPT;
GRAFT_API void graft_model_release(graft_model *model GRAFT_OPT) GRAFT_NOEXCEPT;

#define GRAFT_MODEL_TEXT   1u         /* it reads and writes text */
#define GRAFT_MODEL_IMAGES 2u         /* it sees images */
typedef struct graft_model_info {
    uint32_t struct_size;
    uint32_t capabilities;
    char architecture[32];            /* "llama" */
    char name[128];                   /* its own, or that of its file */
    char fingerprint[72];             /* 64 hexadecimal digits that name these very weights */
    char quant_type[16];              /* how most weights are stored: "Q4_K" */
    uint64_t n_parameters;
    uint64_t file_bytes;
    uint32_t n_layers;
    uint32_t n_embedding;             /* width of a token */
    uint32_t n_heads;
    uint32_t n_kv_heads;
    uint32_t n_context;               /* positions it was trained with */
    uint32_t n_vocabulary;
    uint32_t n_image_tokens;          /* positions an image takes; 0 if it sees none */
    uint32_t n_threads;
} graft_model_info;
GRAFT_API graft_status graft_model_get_info(const graft_model *model, graft_model_info *out) GRAFT_NOEXCEPT;
/* The metadata of its file as JSON: the value of a key, or, for NULL, an object of all with arrays shortened. */
GRAFT_API graft_status graft_model_metadata(const graft_model *model, const char *key GRAFT_OPT, graft_buffer **out,
                                            graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Its tensors as a JSON array of name, shape (fastest axis first), type and bytes. */
GRAFT_API graft_status graft_model_tensors(const graft_model *model, graft_buffer **out, graft_error **err GRAFT_OPT)
                                           GRAFT_NOEXCEPT;

/* ------------------------------------------------------------------------------------------------------ tokens */

/* The number of a token of the model's vocabulary. */
typedef int32_t graft_token;
#define GRAFT_TOKEN_NONE  (-1)        /* no token */
#define GRAFT_TOKEN_IMAGE (-200)      /* among tokens: the place of an image */

#define GRAFT_ENCODE_BEGIN         1u /* the model's first token goes in front, where the model wants one */
#define GRAFT_ENCODE_MARKUP        2u /* "</s>" and the like are the control tokens of that name; never set it for
                                         text that people wrote: it could steer the model */
#define GRAFT_ENCODE_AFTER_CONTROL 4u /* the text stands right behind a control token; not with GRAFT_ENCODE_BEGIN */

/* Writes the tokens of a text, and their number to `needed`; NULL with a capacity of 0 asks for the number alone. */
GRAFT_API graft_status graft_token_encode(const graft_model *model, const char *text, size_t text_len, uint32_t flags,
                                          graft_token *tokens GRAFT_OPT, size_t capacity, size_t *needed GRAFT_OPT,
                                          graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* The text of tokens. Control tokens are silent, bytes that are no UTF-8 become U+FFFD. */
GRAFT_API graft_status graft_token_decode(const graft_model *model, const graft_token *tokens, size_t n_tokens,
                                          graft_buffer **out, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Writes the bytes of one token, which may be a part of a character; none for control tokens. Without a NUL. */
GRAFT_API graft_status graft_token_piece(const graft_model *model, graft_token token, char *bytes GRAFT_OPT,
                                         size_t capacity, size_t *needed GRAFT_OPT, graft_error **err GRAFT_OPT)
                                         GRAFT_NOEXCEPT;
/* "bos", "eos", or the control token of a name such as "</s>"; GRAFT_TOKEN_NONE if the model has none. */
GRAFT_API graft_token graft_token_special(const graft_model *model, const char *name) GRAFT_NOEXCEPT;
/* 1 if an answer ends with this token, else 0. */
GRAFT_API int32_t graft_token_is_end(const graft_model *model, graft_token token) GRAFT_NOEXCEPT;

/* ------------------------------------------------------------------------------------------------------ images */

/* What an image may cost: a small file can claim to be enormous. What is left of the runtime's memory limit is a
 * limit as well. */
typedef struct graft_image_limits {
    uint32_t struct_size;
    uint32_t max_side;                /* pixels; 0: 16,384 */
    uint64_t max_pixels;              /* 0: 64 Mi */
    uint64_t max_bytes;               /* bytes that the decoder may take; 0: 512 MiB */
} graft_image_limits;

/* Reads a PNG, JPEG, WebP, BMP or GIF file, of which the first picture. Transparency and orientation are not looked at,
 * as models were trained. An image beyond the limits is GRAFT_E_BUDGET, a damaged one GRAFT_E_CORRUPT. */
GRAFT_API graft_status graft_image_open(graft_runtime *runtime GRAFT_OPT, const char *path,
                                        const graft_image_limits *limits GRAFT_OPT, graft_image **out,
                                        graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* The same from memory, which is not needed afterwards. */
GRAFT_API graft_status graft_image_decode(graft_runtime *runtime GRAFT_OPT, const void *data, size_t size,
                                          const graft_image_limits *limits GRAFT_OPT, graft_image **out,
                                          graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* Copies pixels of 8-bit red, green and blue, rows from the top, which begin `stride` bytes apart; 0: one behind the
 * other. Of the last row only the pixels are read. */
GRAFT_API graft_status graft_image_from_pixels(graft_runtime *runtime GRAFT_OPT, const uint8_t *pixels, uint32_t width,
                                               uint32_t height, size_t stride, graft_image **out,
                                               graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* An image keeps the features that the last model it was shown to has made of it, and with them this model. */
GRAFT_API void graft_image_retain(graft_image *image) GRAFT_NOEXCEPT;
GRAFT_API void graft_image_release(graft_image *image GRAFT_OPT) GRAFT_NOEXCEPT;

typedef struct graft_image_info {
    uint32_t struct_size;
    uint32_t width;                   /* pixels */
    uint32_t height;
    uint32_t reserved_0;
} graft_image_info;
GRAFT_API graft_status graft_image_get_info(const graft_image *image, graft_image_info *out) GRAFT_NOEXCEPT;
/* Its pixels as 3 * width * height bytes, which live as long as the image; NULL if it is none. */
GRAFT_API const uint8_t *graft_image_pixels(const graft_image *image) GRAFT_NOEXCEPT;

/* -------------------------------------------------------------------------------------------------------- chat */

/* One turn of a conversation. */
typedef struct graft_message {
    uint32_t struct_size;
    uint32_t n_images;                /* images in front of the text */
    const char *role;                 /* "system", "user" or "assistant" */
    const char *text;                 /* plain text: names of control tokens in it are words like others */
    size_t text_len;                  /* bytes, or GRAFT_NUL_TERMINATED */
    graft_image *const *images;
} graft_message;

#define GRAFT_CHAT_CLOSED 1u          /* ends with the last message, and not where the model's answer begins */
typedef struct graft_chat_options {
    uint32_t struct_size;
    uint32_t flags;                   /* GRAFT_CHAT_CLOSED */
    const char *template_name;        /* one of graft_chat_templates; NULL: the model's own */
    const char *template_text;        /* or a Jinja template */
    size_t template_len;              /* its bytes, or GRAFT_NUL_TERMINATED */
} graft_chat_options;

/* A conversation as it is written for the model, with "<image>" for each image. To be looked at: as text it is not safe
 * to be encoded again; graft_chat_encode keeps what people wrote apart from what the template wrote. */
GRAFT_API graft_status graft_chat_render(const graft_model *model, const graft_message *messages, size_t n_messages,
                                         const graft_chat_options *options GRAFT_OPT, graft_buffer **out,
                                         graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Its tokens, with GRAFT_TOKEN_IMAGE for each image. */
GRAFT_API graft_status graft_chat_encode(const graft_model *model, const graft_message *messages, size_t n_messages,
                                         const graft_chat_options *options GRAFT_OPT, graft_token *tokens GRAFT_OPT,
                                         size_t capacity, size_t *needed GRAFT_OPT, graft_error **err GRAFT_OPT)
                                         GRAFT_NOEXCEPT;
/* The names that template_name knows, as a JSON array. */
GRAFT_API graft_status graft_chat_templates(graft_buffer **out) GRAFT_NOEXCEPT;

/* ---------------------------------------------------------------------------------------------------- adapters */

/* An adapter and how strongly it counts. */
typedef struct graft_adapter_binding {
    uint32_t struct_size;
    float strength;                   /* multiplies what it adds; 0 is the same as not being there */
    graft_adapter *adapter;
} graft_adapter_binding;

/* Opens a GGUF adapter with its second file (x.vision.gguf beside x.gguf) where it has one, or a folder of PEFT or
 * mlx-lm, for which the model is needed. With a model it is checked that the adapter was made for it; pairs in a vision
 * half are looked at if the model has one. Values stay in the file, which is mapped, where it is GGUF. */
GRAFT_API graft_status graft_adapter_open(const graft_model *model GRAFT_OPT, const char *path, graft_adapter **out,
                                          graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;

typedef struct graft_adapter_options {
    uint32_t struct_size;
    uint32_t flags;                   /* 0 */
    const char *name;                 /* where the file says none; NULL: "adapter" */
    const graft_source *companion;    /* its second file; NULL: it has none */
    graft_progress_fn progress;       /* told while a source of kind READER is read */
    void *progress_userdata;
    graft_cancel *cancel;             /* stops such reading */
} graft_adapter_options;
/* A GGUF adapter from elsewhere. `destroy` of each source is called exactly once, also on failure. */
GRAFT_API graft_status graft_adapter_open_source(const graft_model *model GRAFT_OPT, const graft_source *source,
                                                 const graft_adapter_options *options GRAFT_OPT, graft_adapter **out,
                                                 graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
GRAFT_API void graft_adapter_retain(graft_adapter *adapter) GRAFT_NOEXCEPT;
GRAFT_API void graft_adapter_release(graft_adapter *adapter GRAFT_OPT) GRAFT_NOEXCEPT;

#define GRAFT_ADAPTER_IMAGES 1u       /* it adds something in the vision half */
typedef struct graft_adapter_info {
    uint32_t struct_size;
    uint32_t capabilities;            /* GRAFT_ADAPTER_IMAGES */
    char name[128];
    char base_name[128];              /* the model it was made for; empty: not said */
    char base_fingerprint[72];        /* 64 hexadecimal digits, as in graft_model_info; empty: not said */
    uint64_t n_parameters;            /* trained values */
    uint64_t bytes;                   /* of the values, as they are held */
    uint32_t n_pairs;                 /* places in the model */
    uint32_t max_rank;
    float alpha;                      /* as files say it; pairs have scales of their own */
    uint32_t reserved_0;
} graft_adapter_info;
GRAFT_API graft_status graft_adapter_get_info(const graft_adapter *adapter, graft_adapter_info *out) GRAFT_NOEXCEPT;
/* All there is to say as JSON: with each pair's place, rank, scale and sizes, and the "generation", a digest of what
 * the adapter computes, whatever its name. Reads every value. */
GRAFT_API graft_status graft_adapter_metadata(const graft_adapter *adapter, graft_buffer **out,
                                              graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Whether it can be attached to sessions of a model: GRAFT_OK, or GRAFT_E_INCOMPATIBLE with the reason. */
GRAFT_API graft_status graft_adapter_check(const graft_adapter *adapter, const graft_model *model,
                                           graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

typedef struct graft_adapter_save_options {
    uint32_t struct_size;
    uint32_t flags;                   /* 0 */
    const char *format;               /* "gguf" (NULL), or "peft": a folder, which must not exist or be empty */
    const char *quant_type;           /* gguf: "F32" (NULL), "F16" or "BF16" */
    const char *layout;               /* peft: for LlamaForCausalLM "llama" (NULL), for LlavaForConditionalGeneration
                                         "llava" of transformers 5, "llava-before5" from 4.52 on,
                                         "llava-before452" */
    const char *base_model;           /* peft: the base's name for PEFT's own loaders; NULL: none */
    const graft_model *model;         /* peft: the base, whose shapes are needed */
} graft_adapter_save_options;
GRAFT_API graft_status graft_adapter_save(const graft_adapter *adapter, const char *path,
                                          const graft_adapter_save_options *options GRAFT_OPT,
                                          graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

/* The weighted sum of adapters of one base: their ranks add up, and it answers as they do together. */
GRAFT_API graft_status graft_adapter_combine(const graft_adapter_binding *adapters, size_t n_adapters,
                                             const char *name, graft_adapter **out, graft_error **err GRAFT_OPT)
                                             GRAFT_NOEXCEPT GRAFT_MUST_USE;
typedef struct graft_compress_options {
    uint32_t struct_size;
    uint32_t rank;                    /* at most this rank everywhere, or: */
    double energy;                    /* at each place the smallest rank that keeps this share of the squared norm */
    graft_cancel *cancel;
} graft_compress_options;
/* The adapter at smaller ranks, as near as there is. `report` says as JSON what was left out at each place; may be
 * NULL. After cancelling there is no adapter. */
GRAFT_API graft_status graft_adapter_compress(graft_runtime *runtime GRAFT_OPT, const graft_adapter *adapter,
                                              const graft_compress_options *options, graft_adapter **out,
                                              graft_buffer **report GRAFT_OPT, graft_error **err GRAFT_OPT)
                                              GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* The adapter with everything it adds multiplied; by any number but 0. */
GRAFT_API graft_status graft_adapter_scale(const graft_adapter *adapter, float factor, graft_adapter **out,
                                           graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* The adapter under another name. */
GRAFT_API graft_status graft_adapter_rename(const graft_adapter *adapter, const char *name, graft_adapter **out,
                                            graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;

typedef struct graft_difference_options {
    uint32_t struct_size;
    uint32_t rank;                    /* of each place */
    uint32_t n_threads;               /* 0: one per core */
    uint32_t reserved_0;
    graft_progress_fn progress;       /* told weights done, of how many: "comparing" */
    void *progress_userdata;
    graft_cancel *cancel;
} graft_difference_options;
/* What a model has learned since its base, as an adapter; both are GGUF files. After cancelling there is no adapter. */
GRAFT_API graft_status graft_adapter_difference(const char *base_path, const char *tuned_path,
                                                const graft_difference_options *options, graft_adapter **out,
                                                graft_buffer **report GRAFT_OPT, graft_error **err GRAFT_OPT)
                                                GRAFT_NOEXCEPT GRAFT_MUST_USE;

typedef struct graft_merge_options {
    uint32_t struct_size;
    uint32_t n_threads;               /* 0: one per core */
    const char *quant_type;           /* "Q4_K_M", "Q8_0", "F16", ...; NULL: every tensor keeps its own */
    const char *projector_path;       /* the vision half, for adapters with pairs there; NULL: none */
    const char *projector_output;     /* and where it goes */
    graft_progress_fn progress;       /* told weights done, of how many: "merging" */
    void *progress_userdata;
    graft_cancel *cancel;
} graft_merge_options;
/* Writes the model file with adapters in its weights. `report` says as JSON what share of the change each matrix kept:
 * small changes to a coarse type are rounded away. */
GRAFT_API graft_status graft_adapter_merge(const char *base_path, const graft_adapter_binding *adapters,
                                           size_t n_adapters, const char *output_path,
                                           const graft_merge_options *options GRAFT_OPT,
                                           graft_buffer **report GRAFT_OPT, graft_error **err GRAFT_OPT)
                                           GRAFT_NOEXCEPT;

/* -------------------------------------------------------------------------------------------------- registries */

/* A registry gives adapters names that stay while their content changes. A name stands for a generation, one immutable
 * content; to publish under a name again changes what the next graft_registry_get gives and nothing else: sessions keep
 * what they have. Equal content is held once, whatever its names. */

/* Room for the 64 hexadecimal digits of a generation and a NUL. */
#define GRAFT_GENERATION_SIZE 65u

typedef struct graft_registry_options {
    uint32_t struct_size;
    uint32_t max_adapters;            /* in memory at once; 0: any number */
    uint64_t max_bytes;               /* of their values together; 0: any number */
} graft_registry_options;

/* An empty registry for adapters of a model. Where room is needed, what came from files, has no pin and is in use by
 * nobody leaves memory, what was asked for longest ago first, and is read again when it is asked for; GRAFT_E_BUDGET if
 * that is not enough. The limits count for themselves and not in the runtime's. */
GRAFT_API graft_status graft_registry_create(graft_model *model, const graft_registry_options *options GRAFT_OPT,
                                             graft_registry **out, graft_error **err GRAFT_OPT)
                                             GRAFT_NOEXCEPT GRAFT_MUST_USE;
GRAFT_API void graft_registry_retain(graft_registry *registry) GRAFT_NOEXCEPT;
GRAFT_API void graft_registry_release(graft_registry *registry GRAFT_OPT) GRAFT_NOEXCEPT;

#define GRAFT_PUBLISH_CREATE  0u      /* only under a name that is free */
#define GRAFT_PUBLISH_REPLACE 1u      /* under any name */
#define GRAFT_PUBLISH_SWAP    2u      /* only if the name stands for the generation `expected`: for several writers that
                                         must not undo each other */
/* Reads an adapter, as graft_adapter_open does, under a name. `how` is one of the above; what it does not allow is
 * GRAFT_E_STATE (GRAFT_E_NOT_FOUND where there is no such name to swap), and after any failure the name stands for what
 * it stood for. `generation`, if not NULL, has room for GRAFT_GENERATION_SIZE characters and gets what the name stands
 * for now. */
GRAFT_API graft_status graft_registry_load(graft_registry *registry, const char *name, const char *path, uint32_t how,
                                           const char *expected GRAFT_OPT, char *generation GRAFT_OPT,
                                           graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* The same with an adapter that is there, such as one that was just trained. It stays in memory as long as it has the
 * name. */
GRAFT_API graft_status graft_registry_publish(graft_registry *registry, const char *name, const graft_adapter *adapter,
                                              uint32_t how, const char *expected GRAFT_OPT,
                                              char *generation GRAFT_OPT, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* What a name stands for now, with its generation if that is asked for. Whoever holds the adapter, or a session that
 * it is attached to, keeps it in memory. GRAFT_E_NOT_FOUND without such a name, GRAFT_E_STATE if its file has another
 * content now. */
GRAFT_API graft_status graft_registry_get(graft_registry *registry, const char *name, graft_adapter **out,
                                          char *generation GRAFT_OPT, graft_error **err GRAFT_OPT)
                                          GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* Keeps what a name stands for, now and later, in memory (`pinned` other than 0), or lets it leave again. */
GRAFT_API graft_status graft_registry_pin(graft_registry *registry, const char *name, int32_t pinned,
                                          graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Takes the name away. Memory comes back when nobody uses what it stood for. */
GRAFT_API graft_status graft_registry_unload(graft_registry *registry, const char *name, graft_error **err GRAFT_OPT)
                                             GRAFT_NOEXCEPT;
/* A JSON object: "names", an array of name, generation, pinned and in_memory in alphabetical order, and "in_memory", an
 * array of generation and bytes that has what lost its name and is in use as well. */
GRAFT_API graft_status graft_registry_list(const graft_registry *registry, graft_buffer **out,
                                           graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

typedef struct graft_registry_info {
    uint32_t struct_size;
    uint32_t n_names;
    uint64_t bytes;                   /* of the adapters in memory */
    uint64_t max_bytes;               /* most of them; 0: any number */
    uint32_t n_in_memory;             /* adapters in memory, what lost its name and is in use included */
    uint32_t max_adapters;            /* most of them; 0: any number */
} graft_registry_info;
GRAFT_API graft_status graft_registry_get_info(const graft_registry *registry, graft_registry_info *out)
                                               GRAFT_NOEXCEPT;

/* ---------------------------------------------------------------------------------------------------- sessions */

typedef struct graft_session_options {
    uint32_t struct_size;
    uint32_t n_context;               /* most positions; 0: what the model was trained with, at most 4096 */
    uint32_t n_chunk;                 /* positions of a prompt that run at once: more are faster and take more memory;
                                         0: 512 */
    uint32_t flags;                   /* 0 */
    uint64_t memory_budget;           /* most bytes it may plan for; 0: no limit but the runtime's */
} graft_session_options;

/* A timeline of tokens and images, empty and without adapters. Sessions of one model run in parallel on threads of
 * their own, and answer as they do one by one. All its memory is planned for here: GRAFT_E_BUDGET if it does not
 * fit. */
GRAFT_API graft_status graft_session_create(graft_model *model, const graft_session_options *options GRAFT_OPT,
                                            graft_session **out, graft_error **err GRAFT_OPT)
                                            GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* Another session with the same adapters and the same past, which both read from one piece of memory: a beginning
 * that many share is run once and held once. Each goes on by itself. */
GRAFT_API graft_status graft_session_fork(graft_session *session, const graft_session_options *options GRAFT_OPT,
                                          graft_session **out, graft_error **err GRAFT_OPT)
                                          GRAFT_NOEXCEPT GRAFT_MUST_USE;
GRAFT_API void graft_session_release(graft_session *session GRAFT_OPT) GRAFT_NOEXCEPT;

typedef struct graft_session_info {
    uint32_t struct_size;
    uint32_t n_positions;             /* in use: one per token, model_info.n_image_tokens per image */
    uint32_t n_context;               /* most of them */
    uint32_t n_items;                 /* tokens and images that it was fed */
    uint64_t planned;                 /* bytes */
} graft_session_info;
GRAFT_API graft_status graft_session_get_info(const graft_session *session, graft_session_info *out) GRAFT_NOEXCEPT;
/* What it was fed and has generated, with GRAFT_TOKEN_IMAGE for each image. */
GRAFT_API graft_status graft_session_tokens(const graft_session *session, graft_token *tokens GRAFT_OPT,
                                            size_t capacity, size_t *needed GRAFT_OPT, graft_error **err GRAFT_OPT)
                                            GRAFT_NOEXCEPT;
/* Forgets everything but the adapters. */
GRAFT_API graft_status graft_session_reset(graft_session *session, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Keeps the first positions; an image that ends behind them is forgotten whole. */
GRAFT_API graft_status graft_session_truncate(graft_session *session, uint32_t n_positions,
                                              graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

/* Feeds tokens, of which none may be GRAFT_TOKEN_IMAGE. What does not fit is refused whole: GRAFT_E_CONTEXT_FULL.
 * After cancelling the tokens that were run stay. */
GRAFT_API graft_status graft_session_feed(graft_session *session, const graft_token *tokens, size_t n_tokens,
                                          graft_cancel *cancel GRAFT_OPT, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Feeds an image; after cancelling it is not there. */
GRAFT_API graft_status graft_session_feed_image(graft_session *session, graft_image *image,
                                                graft_cancel *cancel GRAFT_OPT, graft_error **err GRAFT_OPT)
                                                GRAFT_NOEXCEPT;
/* The logits of what comes next, one per token of the vocabulary. They live until the next call on the session.
 * GRAFT_E_STATE if nothing was fed. */
GRAFT_API graft_status graft_session_logits(graft_session *session, graft_cancel *cancel GRAFT_OPT,
                                            const float **logits, size_t *n_logits GRAFT_OPT,
                                            graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Feeds tokens and writes the natural logarithm of each one's probability after all before it to `out`, which has room
 * for n_tokens. Something must have been fed before. After cancelling some of the tokens stay; truncate. */
GRAFT_API graft_status graft_session_logprobs(graft_session *session, const graft_token *tokens, size_t n_tokens,
                                              graft_cancel *cancel GRAFT_OPT, float *out,
                                              graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

#define GRAFT_SWAP_KEEP_HISTORY 1u    /* what the old adapters made of the past stays: nothing is run again, and the
                                         answer is one that no set alone would give */
/* Replaces all adapters, or, if one does not fit, none. It takes effect with the next token, as if they had been there
 * from the first: the past is run again then, at the cost of a prompt. No adapters: the model alone. */
GRAFT_API graft_status graft_session_set_adapters(graft_session *session,
                                                  const graft_adapter_binding *adapters GRAFT_OPT, size_t n_adapters,
                                                  uint32_t flags, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* The adapters at work, each a reference of its own, to be released. The first struct says how large all are. */
GRAFT_API graft_status graft_session_adapters(const graft_session *session, graft_adapter_binding *adapters GRAFT_OPT,
                                              size_t capacity, size_t *needed GRAFT_OPT, graft_error **err GRAFT_OPT)
                                              GRAFT_NOEXCEPT;

/* Given whole characters of an answer as it grows, with a NUL that text_len does not count. Text that may be the
 * beginning of a stop text is held back. 0 goes on, anything else ends the answer there. */
typedef int32_t (*graft_text_fn)(void *userdata, const char *text, size_t text_len);

/* Cuts are made in this order: top_k, top_p, min_p; then the temperature, and a draw. */
typedef struct graft_sampling {
    uint32_t struct_size;
    float temperature;                /* divides the logits; 0 takes the likeliest, whatever the rest says */
    uint32_t top_k;                   /* this many of the likeliest; 0: all */
    float top_p;                      /* the likeliest up to this total probability; 0: all */
    float min_p;                      /* what is at least this part as likely as the likeliest; 0: all */
    uint32_t reserved_0;
    uint64_t seed;                    /* the same seed draws the same */
} graft_sampling;

#define GRAFT_GENERATE_APPEND 1u      /* text or tokens go behind what the session holds; otherwise they are all that it
                                         holds then */
#define GRAFT_GENERATE_MARKUP 2u      /* in `text` the names of control tokens are these tokens */
typedef struct graft_generate_request {
    uint32_t struct_size;
    uint32_t flags;                   /* GRAFT_GENERATE_APPEND, GRAFT_GENERATE_MARKUP */
    uint64_t timeout_ms;              /* for all of it; 0: any time */
    uint32_t max_tokens;              /* of the answer; 0: as many as the context holds */
    uint32_t reserved_0;
    const graft_message *messages;    /* a conversation from its first message on, */
    size_t n_messages;
    const graft_chat_options *chat;   /* and how it is written; NULL: the model's way */
    const char *text;                 /* or a text to continue, */
    size_t text_len;
    const graft_token *tokens;        /* or tokens to continue. None of the three: what the session holds */
    size_t n_tokens;
    graft_image *const *images;       /* in front of a text, or one for each GRAFT_TOKEN_IMAGE of tokens */
    size_t n_images;
    const graft_sampling *sampling;   /* NULL: the likeliest tokens */
    const char *const *stops;         /* texts that end the answer and are no part of it */
    size_t n_stops;
    graft_cancel *cancel;
    graft_text_fn on_text;            /* NULL: nobody sees the text; see graft_session_tokens */
    graft_progress_fn on_progress;    /* told positions of the prompt that were run, of how many: "prompt" */
    void *userdata;                   /* first argument of both */
} graft_generate_request;

#define GRAFT_FINISH_END          1u  /* the model ended its turn */
#define GRAFT_FINISH_STOP         2u  /* a stop text came up */
#define GRAFT_FINISH_LENGTH       3u  /* max_tokens */
#define GRAFT_FINISH_CONTEXT_FULL 4u  /* no position is left */
#define GRAFT_FINISH_CALLBACK     5u  /* on_text asked to stop */
#define GRAFT_FINISH_CANCELLED    6u  /* the cancel token was raised, or on_progress asked to stop */
#define GRAFT_FINISH_TIMEOUT      7u  /* timeout_ms were over */
typedef struct graft_generate_result {
    uint32_t struct_size;
    uint32_t finish;                  /* GRAFT_FINISH_END, ... */
    uint32_t n_prompt;                /* positions that the session held when the answer began */
    uint32_t n_reused;                /* of them those that it held before and that were not run again */
    uint32_t n_generated;             /* tokens of the answer */
    uint32_t reserved_0;
    double prompt_ms;                 /* until the prompt was run */
    double generate_ms;               /* from then on */
} graft_generate_result;

/* Runs a prompt and answers it. What messages, text or tokens have in common with what the session holds, from the
 * first position on, is not run again: give a conversation whole each time, and only what is new costs.
 *
 * Afterwards the session holds the prompt and the answer, but for the token that ended it. GRAFT_E_CANCELLED and
 * GRAFT_E_TIMEOUT come within a part of a layer, also in the prompt: the tokens and images that were run whole stay,
 * the last token of the answer may be missing, and, unlike elsewhere, `out` is written. */
GRAFT_API graft_status graft_session_generate(graft_session *session, const graft_generate_request *request GRAFT_OPT,
                                              graft_generate_result *out GRAFT_OPT, graft_error **err GRAFT_OPT)
                                              GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* graft_session_generate in the background: the session is busy until the job ends. The request is not needed when the
 * call returns; on_text, on_progress and cancel must be NULL, since the job calls nobody: its events are PROGRESS (the
 * prompt's positions), TEXT and ANSWERED. graft_job_cancel stops it. */
GRAFT_API graft_status graft_session_generate_start(graft_session *session,
                                                    const graft_generate_request *request GRAFT_OPT, graft_job **out,
                                                    graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;

/* ----------------------------------------------------------------------------------------------------- batches */

/* Sessions of one model that run together: one pass over the weights serves all, whatever adapters each has, and each
 * answers as it would alone. A batch is only room; between two calls sessions may leave, come back, or run alone. A call
 * uses the sessions it is given: one that is in another call makes it GRAFT_E_BUSY, and nothing is done. */

typedef struct graft_batch_options {
    uint32_t struct_size;
    uint32_t n_sessions;              /* most at once; 0: 8 */
    uint32_t n_context;               /* no session may have more positions; 0: the model's, at most 4096 */
    uint32_t n_chunk;                 /* positions of all sessions that run at once; 0: 512 */
    uint32_t flags;                   /* 0 */
    uint32_t reserved_0;
    uint64_t memory_budget;           /* most bytes it may plan for; 0: no limit but the runtime's */
} graft_batch_options;

/* All its memory is planned for here: GRAFT_E_BUDGET if it does not fit. A session that only ever runs in batches needs
 * no more than an n_chunk of 1. */
GRAFT_API graft_status graft_batch_create(graft_model *model, const graft_batch_options *options GRAFT_OPT,
                                          graft_batch **out, graft_error **err GRAFT_OPT)
                                          GRAFT_NOEXCEPT GRAFT_MUST_USE;
GRAFT_API void graft_batch_release(graft_batch *batch GRAFT_OPT) GRAFT_NOEXCEPT;

typedef struct graft_batch_input {
    uint32_t struct_size;
    uint32_t reserved_0;
    graft_session *session;
    const graft_token *tokens;        /* with GRAFT_TOKEN_IMAGE for each image */
    size_t n_tokens;
    graft_image *const *images;
    size_t n_images;
} graft_batch_input;
/* Feeds each session behind what it holds. What does not fit one of them is refused for all: GRAFT_E_CONTEXT_FULL. After
 * cancelling the tokens and images that were run whole stay. */
GRAFT_API graft_status graft_batch_feed(graft_batch *batch, const graft_batch_input *inputs, size_t n_inputs,
                                        graft_cancel *cancel GRAFT_OPT, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* The logits of what comes next in each session: n_logits floats, one per token of the vocabulary, for the first, then
 * those of the second. They live until the next call on the batch. GRAFT_E_STATE if one of them was fed nothing. */
GRAFT_API graft_status graft_batch_logits(graft_batch *batch, graft_session *const *sessions, size_t n_sessions,
                                          graft_cancel *cancel GRAFT_OPT, const float **logits,
                                          size_t *n_logits GRAFT_OPT, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

typedef struct graft_batch_request {
    uint32_t struct_size;
    uint32_t reserved_0;
    graft_session *session;
    const graft_generate_request *request;/* without on_progress; NULL: goes on with what the session holds */
    graft_generate_result *result;    /* gets what the answer came to; NULL: nobody asks */
} graft_batch_request;
/* Runs all prompts and answers all of them, as graft_session_generate does for one; an answer that ends early makes the
 * others faster. Each request's own cancel and timeout_ms end its answer alone, between two tokens of it, and are no
 * failure of the call: the result says so. `cancel` ends all within a part of a layer: GRAFT_E_CANCELLED, and, unlike
 * elsewhere, results are written. What sessions hold then is as after graft_session_generate. */
GRAFT_API graft_status graft_batch_generate(graft_batch *batch, const graft_batch_request *requests, size_t n_requests,
                                            graft_cancel *cancel GRAFT_OPT, graft_error **err GRAFT_OPT)
                                            GRAFT_NOEXCEPT GRAFT_MUST_USE;

/* -------------------------------------------------------------------------------------------------------- jobs */

/* As a timeout: until it comes. */
#define GRAFT_FOREVER ((uint64_t)-1)
#define GRAFT_EVENT_PROGRESS   1u     /* done of total */
#define GRAFT_EVENT_METRICS    2u     /* of a trainer: where it stands */
#define GRAFT_EVENT_CHECKPOINT 3u     /* of a trainer: one was saved; text is its path */
#define GRAFT_EVENT_FINISHED   4u     /* the last event: the job came to status */
#define GRAFT_EVENT_TEXT       5u     /* of an answer: more of it, in whole characters */
#define GRAFT_EVENT_ANSWERED   6u     /* of an answer: what it came to, also if it was cancelled */
typedef struct graft_event {
    uint32_t struct_size;
    uint32_t kind;                    /* GRAFT_EVENT_*; skip those you do not know */
    uint64_t done;
    uint64_t total;                   /* 0: not known */
    const char *text;                 /* or NULL; it, metrics and result live until the job's next graft_job_next_event */
    size_t text_len;                  /* bytes of it, without the NUL */
    const struct graft_train_metrics *metrics; /* or NULL */
    const struct graft_generate_result *result;/* or NULL */
    graft_status status;
    uint32_t reserved_0;
} graft_event;

/* A job is a call that runs on a thread of its own. It never calls the program: what happens waits as events until the
 * program asks. Of PROGRESS and METRICS the latest 1024 wait, of others all. */

/* Waits for the end: what the call came to, with its error, however often it is asked; GRAFT_PENDING if timeout_ms
 * milliseconds were not enough. Class A. */
GRAFT_API graft_status graft_job_wait(graft_job *job, uint64_t timeout_ms, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* The next event: GRAFT_OK, GRAFT_PENDING if none came within timeout_ms, GRAFT_DONE after the last one. */
GRAFT_API graft_status graft_job_next_event(graft_job *job, uint64_t timeout_ms, graft_event *out) GRAFT_NOEXCEPT;
/* A descriptor that is readable while graft_job_next_event would not return GRAFT_PENDING. Only wait for it: do not
 * read from it, and do not close it; it closes with the job. GRAFT_E_UNSUPPORTED where there are no descriptors.
 * Class A. */
GRAFT_API graft_status graft_job_event_fd(graft_job *job, intptr_t *out, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Raises the job's own cancel token, and does not wait. Class A. */
GRAFT_API void graft_job_cancel(graft_job *job) GRAFT_NOEXCEPT;
/* Cancels, waits for the end, and lets it go. Class A. */
GRAFT_API void graft_job_release(graft_job *job GRAFT_OPT) GRAFT_NOEXCEPT;

/* ---------------------------------------------------------------------------------------------------- datasets */

/* Reads LLaVA's JSON, an array or one record per line, whole. Relative names of images count from image_folder, or from
 * the folder of the file. Images are looked at when a trainer is made. */
GRAFT_API graft_status graft_dataset_open(const char *path, const char *image_folder GRAFT_OPT, graft_dataset **out,
                                          graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
GRAFT_API void graft_dataset_retain(graft_dataset *dataset) GRAFT_NOEXCEPT;
GRAFT_API void graft_dataset_release(graft_dataset *dataset GRAFT_OPT) GRAFT_NOEXCEPT;
/* Its samples. */
GRAFT_API graft_status graft_dataset_count(const graft_dataset *dataset, uint64_t *out) GRAFT_NOEXCEPT;
/* A sample, counted from 0, as a JSON object of LLaVA's form; GRAFT_E_NOT_FOUND beyond the last. */
GRAFT_API graft_status graft_dataset_sample(const graft_dataset *dataset, uint64_t index, graft_buffer **out,
                                            graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

typedef struct graft_dataset_check_options {
    uint32_t struct_size;
    uint32_t max_length;              /* most positions of a sample, images included; 0: what training takes, 2048 */
    const graft_model *model;         /* who is to learn; NULL looks at ids and images alone */
    const char *template_name;        /* the conversation template; NULL: the model's */
    graft_cancel *cancel;             /* NULL: nothing stops it */
} graft_dataset_check_options;

/* Looks at every sample and decodes every image, and tells the function what training would find out later: images that
 * are missing ("image-missing") or none ("image-unusable"), conversations that the template refuses ("conversation"),
 * more or fewer images than are shown ("image-count"), images for a model that sees none ("no-vision"), ids that come
 * twice ("duplicate-id"), samples of which nothing is learned ("no-answer", "role-name") or that are cut ("cut"). The
 * number of errors among them goes to n_errors; a sample with one makes graft_trainer_create fail. */
GRAFT_API graft_status graft_dataset_check(const graft_dataset *dataset,
                                           const graft_dataset_check_options *options GRAFT_OPT,
                                           graft_diagnostic_fn function GRAFT_OPT, void *userdata GRAFT_OPT,
                                           uint64_t *n_errors GRAFT_OPT, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

/* ----------------------------------------------------------------------------------------------- train options */

typedef struct graft_train_options {
    uint32_t struct_size;
    uint32_t flags;
#define GRAFT_TRAIN_RSLORA            0x001u /* what is learned counts alpha / sqrt(rank) times, not alpha / rank */
#define GRAFT_TRAIN_PROJECTOR         0x002u /* the projector of images learns as well */
#define GRAFT_TRAIN_NEW_PROJECTOR     0x004u /* and begins with random values */
#define GRAFT_TRAIN_PACKING           0x008u /* samples run together, as many as fit in max_length */
#define GRAFT_TRAIN_GROUP_BY_LENGTH   0x010u /* samples of like length make an update */
#define GRAFT_TRAIN_GROUP_BY_MODALITY 0x020u /* the same, and only with images or only without */
#define GRAFT_TRAIN_NO_SHUFFLE        0x040u /* samples come in their order */
#define GRAFT_TRAIN_KEEP_BEST         0x080u /* the checkpoint with the lowest loss on eval_data is the result */
#define GRAFT_TRAIN_AS_CHECKPOINT     0x100u /* what learns and the course are those of the checkpoint in resume_from */
    /* What learns. */
    uint32_t rank;                    /* 0: 16 */
    float alpha;                      /* 0: 32 */
    float dropout;                    /* probability that an input of a pair is dropped */
    /* How much at once. */
    uint32_t batch_size;              /* samples of a micro-batch; 0: 1 */
    uint32_t accumulation;            /* micro-batches of an update; 0: 1 */
    uint32_t max_length;              /* most positions of a sample, which is cut there; 0: 2048 */
    const char *targets;              /* "q_proj,v_proj", a regular expression over full names, "none" for the projector
                                       * alone; NULL: "all-linear" */
    const graft_adapter *initial;     /* the adapter to go on from; NULL: a new one */
    const char *template_name;        /* the conversation template; NULL: the model's */
    /* The course. */
    double learning_rate;             /* 0: 2e-4 */
    double projector_learning_rate;   /* 0: 2e-5, or 1e-3 where the projector learns alone */
    double weight_decay;
    double warmup_ratio;              /* part of the updates in which the rate rises; 0: 0.03; below 0: none */
    double max_grad_norm;             /* 0: 1; below 0: no limit */
    uint64_t epochs;                  /* passes over the data; 0: 1 */
    uint64_t max_steps;               /* updates, instead of passes; 0: those of the passes */
    uint64_t seed;                    /* of the initial values, the order and dropout; 0: 42 */
    uint32_t optimizer;
#define GRAFT_OPTIMIZER_ADAMW      0u
#define GRAFT_OPTIMIZER_ADAMW_8BIT 1u /* moments in 8 bits: less memory, another result, nearly as good */
    uint32_t schedule;
#define GRAFT_SCHEDULE_COSINE   0u    /* falls to 0 like half a cosine */
#define GRAFT_SCHEDULE_LINEAR   1u    /* falls to 0 evenly */
#define GRAFT_SCHEDULE_CONSTANT 2u
    /* Evaluation, on data that are not learned from. */
    uint64_t eval_every;              /* updates between looks; 0: one at the end */
    uint64_t early_stop;              /* looks in a row without an improvement that end the run; 0: never */
    double early_stop_delta;          /* the loss must fall by more than this to be an improvement */
    /* Files. */
    const char *run_folder;           /* gets record, checkpoints and results; NULL: nothing is written by itself */
    const char *resume_from;          /* a checkpoint, or a folder with some, to go on from; NULL: from the beginning */
    const char *log_folder;           /* gets TensorBoard's files; NULL: tb in the run folder */
    uint64_t save_every;              /* updates between checkpoints; 0: one at the end */
    uint32_t keep;                    /* checkpoints kept, the latest; 0: 2 */
#define GRAFT_KEEP_ALL 0xffffffffu
    /* Memory: the same result in another time. What is 0 is chosen: the fastest way that fits memory_budget. */
    uint32_t kept_layers;             /* layers that keep their values from forward to backward; others compute twice */
    uint64_t memory_budget;           /* most bytes at once, mapped files included; 0: no limit */
    const char *scratch_folder;       /* for what lies on the disk of a run without a folder; NULL: the system's */
    const char *feature_cache;        /* keeps features of images for later runs; NULL: nothing does */
    uint32_t weights_place;
#define GRAFT_PLACE_MEMORY 1u
#define GRAFT_PLACE_DISK   2u
    uint32_t inputs_place;            /* inputs of layers between forward and backward */
    uint32_t features_place;          /* features of images */
    uint32_t moments_place;           /* AdamW's moments */
    uint32_t gradients;
#define GRAFT_GRADIENTS_WHOLE 1u      /* are used when all are there */
#define GRAFT_GRADIENTS_LAYER 2u      /* a layer's at once: needs batch_size 1, accumulation 1, no max_grad_norm */
    uint32_t saved_activations;       /* this one changes the result, a little */
#define GRAFT_SAVED_F32  0u
#define GRAFT_SAVED_BF16 1u
    const char *extra_json;           /* options by the names in a run folder's config.json; NULL: none. They win. */
    graft_progress_fn progress;       /* told while samples are prepared: "samples", "evaluation samples" */
    void *progress_userdata;
    graft_cancel *cancel;             /* stops the preparation; NULL: nothing does */
} graft_train_options;

/* ------------------------------------------------------------------------------------------------------- plans */

/* What some work will take, before it takes it. */
typedef struct graft_plan {
    uint32_t struct_size;
    uint32_t fits;                    /* 1 if it fits the budget given and what the runtime's limit has left, else 0 */
    uint64_t peak_bytes;              /* most bytes at once, mapped files included: what a budget is compared with */
    uint64_t anonymous_bytes;         /* the same without mapped files: what the runtime's limit counts */
    uint64_t smallest_bytes;          /* the smallest budget that works */
    uint64_t fastest_bytes;           /* a budget above this makes nothing faster */
    uint64_t steps;                   /* of a training: updates */
    uint64_t n_trained;               /* values that learn */
    uint64_t n_samples;               /* samples with something to learn */
    uint64_t tokens;                  /* their positions */
    uint64_t n_images;                /* different images, those of the evaluation data among them */
    uint32_t longest;                 /* positions of what runs at once */
    uint32_t recomputed_layers;       /* layers that are computed twice to need less memory */
} graft_plan;

/* A session of n_context positions (0: the model's, at most 4096) that runs n_chunk of a prompt at once (0: the usual).
 * `details`, which may be NULL, gets the bytes of each part as JSON. Nothing is allocated. */
GRAFT_API graft_status graft_plan_session(const graft_model *model, uint32_t n_context, uint32_t n_chunk,
                                          uint64_t memory_budget, graft_plan *out, graft_buffer **details GRAFT_OPT,
                                          graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* A training as graft_trainer_create would begin it. Every sample is tokenized; images are not opened, and nothing
 * large is allocated, but for the weights that a model's graphics device takes for it, until the plan is made. If
 * nothing fits options->memory_budget, `fits` is 0 and the plan is the leanest one. `details` gets the bytes of each
 * part, what was chosen, and what each choice saves. */
GRAFT_API graft_status graft_plan_training(const graft_model *model, const graft_dataset *data,
                                           const graft_dataset *eval_data GRAFT_OPT,
                                           const graft_train_options *options GRAFT_OPT, graft_plan *out,
                                           graft_buffer **details GRAFT_OPT, graft_error **err GRAFT_OPT)
                                           GRAFT_NOEXCEPT;

/* ---------------------------------------------------------------------------------------------------- trainers */

typedef struct graft_train_metrics {
    uint32_t struct_size;
    uint32_t state;
#define GRAFT_TRAIN_READY    0u       /* at the beginning, or where the last call was asked to stop */
#define GRAFT_TRAIN_RUNNING  1u       /* a call is at work */
#define GRAFT_TRAIN_PAUSED   2u       /* paused, or cancelled: the updates that are done stay */
#define GRAFT_TRAIN_WAITING  3u       /* a call waits for room on the disk, and goes on by itself; see lack */
#define GRAFT_TRAIN_FINISHED 4u       /* nothing is left to do */
#define GRAFT_TRAIN_FAILED   5u       /* a call has failed */
    uint64_t step;                    /* updates done */
    uint64_t steps;                   /* updates of the whole run */
    uint64_t tokens;                  /* positions of the latest update */
    uint64_t learned_tokens;          /* learned ones among them */
    uint64_t all_tokens;              /* positions since the trainer was made or went back to a checkpoint */
    uint64_t eval_step;               /* updates done when eval_data were looked at last; 0: not yet */
    uint64_t best_step;               /* updates done when their loss was lowest; 0: not yet */
    uint64_t planned_bytes;           /* most bytes that the run takes at once, mapped files included */
    double loss;                      /* mean over the learned tokens of the latest update */
    double mean_loss;                 /* a running mean of the losses */
    double learning_rate;             /* of the latest update */
    double grad_norm;                 /* norm of its gradient before clipping */
    double step_seconds;              /* how long it took */
    double remaining_seconds;         /* how long the rest will take; 0: not known */
    double eval_loss;                 /* mean loss on eval_data at eval_step */
    double best_loss;                 /* the lowest, at best_step */
    uint32_t eval_since_best;         /* looks at eval_data since the last improvement */
    uint32_t lack;                    /* what a call waits for */
#define GRAFT_LACK_NONE   0u
#define GRAFT_LACK_SPACE  1u          /* the disk is full */
#define GRAFT_LACK_QUOTA  2u          /* the user's quota is used up */
#define GRAFT_LACK_LENGTH 3u          /* a file may not grow longer */
} graft_train_metrics;

/* Told after every update, and when the run begins or ceases to wait for room on the disk. 0 goes on, 1 pauses, 2
 * ends the run here and makes what is learned its result (while it waits: pauses), anything else fails with
 * GRAFT_E_CALLBACK after the update that it is told of. The metrics live as long as the call. */
typedef int32_t (*graft_train_fn)(void *userdata, const graft_train_metrics *metrics);

/* Prepares every sample - images go through the vision tower, which takes its time - and the values that learn. The
 * memory of the plan is reserved before: GRAFT_E_BUDGET if it does not fit memory_budget or the runtime's limit. A
 * run folder must be new, or be the one that resume_from goes on in; one trainer at a time uses it (GRAFT_E_BUSY).
 * What is learned depends on options, data and model alone, not on how often it is paused, cancelled or resumed. On a
 * graphics device that runs the model it takes what is left of device_memory, weights that do not fit are read for each
 * pass; a device that is lost (GRAFT_E_DEVICE) takes nothing with it, graft_trainer_checkpoint still works. */
GRAFT_API graft_status graft_trainer_create(graft_model *model, const graft_dataset *data,
                                            const graft_dataset *eval_data GRAFT_OPT,
                                            const graft_train_options *options GRAFT_OPT, graft_trainer **out,
                                            graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* Does n_steps updates, with the evaluations, records and checkpoints that fall due. GRAFT_DONE when the run is over
 * and its results are written; GRAFT_OK otherwise, also when it was paused on the way. While the disk is full it
 * waits. After GRAFT_E_CANCELLED the updates that are done stay, and the next call goes on as if nothing had
 * happened; so it does after other failures, except GRAFT_E_NUMERIC and GRAFT_E_STATE, after which
 * graft_trainer_resume goes back. */
GRAFT_API graft_status graft_trainer_step(graft_trainer *trainer, uint64_t n_steps, graft_cancel *cancel GRAFT_OPT,
                                          graft_train_metrics *out GRAFT_OPT, graft_error **err GRAFT_OPT)
                                          GRAFT_NOEXCEPT;
/* The same up to the end: GRAFT_DONE, or GRAFT_OK when it was paused. */
GRAFT_API graft_status graft_trainer_run(graft_trainer *trainer, graft_train_fn function GRAFT_OPT,
                                         void *userdata GRAFT_OPT, graft_cancel *cancel GRAFT_OPT,
                                         graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* graft_trainer_run in the background: the trainer is busy until the job ends. Its events are METRICS and
 * CHECKPOINT. */
GRAFT_API graft_status graft_trainer_start(graft_trainer *trainer, graft_job **out, graft_error **err GRAFT_OPT)
                                           GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* The call at work ends after its update, and a wait for room on the disk ends; without a call at work the next one
 * ends before its first update. Class A. */
GRAFT_API void graft_trainer_pause(graft_trainer *trainer) GRAFT_NOEXCEPT;
/* Where the run stands, as of the latest update. Class A. */
GRAFT_API graft_status graft_trainer_metrics(const graft_trainer *trainer, graft_train_metrics *out) GRAFT_NOEXCEPT;
/* The mean loss on eval_data as things stand; it counts for nothing else. GRAFT_E_STATE without eval_data. */
GRAFT_API graft_status graft_trainer_evaluate(graft_trainer *trainer, graft_cancel *cancel GRAFT_OPT, double *out,
                                              graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* Saves a checkpoint as the folder `path`, or, for NULL, in the run folder. It is written whole and renamed; an
 * older one of that name is replaced, anything else is left alone and refused. It does not wait for room on the
 * disk. An evaluation that a cancel interrupted is finished before. `out`, which may be NULL, gets the path. */
GRAFT_API graft_status graft_trainer_checkpoint(graft_trainer *trainer, const char *path GRAFT_OPT,
                                                graft_buffer **out GRAFT_OPT, graft_error **err GRAFT_OPT)
                                                GRAFT_NOEXCEPT;
/* Goes back, or on, to a checkpoint of this run: `path`, the latest in the folder `path`, or, for NULL, the latest
 * in the run folder, whose record of later updates is dropped. One of another model, data or options is refused and
 * changes nothing. */
GRAFT_API graft_status graft_trainer_resume(graft_trainer *trainer, const char *path GRAFT_OPT,
                                            graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
/* What is learned so far, as an adapter of its own that sessions can attach at once; training goes on without
 * changing it. GRAFT_E_STATE where the projector learns alone. */
GRAFT_API graft_status graft_trainer_adapter(graft_trainer *trainer, graft_adapter **out, graft_error **err GRAFT_OPT)
                                             GRAFT_NOEXCEPT;
/* Writes what is learned so far: "gguf" (also for NULL) and "mmproj", the vision half with a projector that learned,
 * are files that replace an older one, "peft" is a folder, which must be new or empty. */
GRAFT_API graft_status graft_trainer_export(graft_trainer *trainer, const char *path, const char *format GRAFT_OPT,
                                            graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;
GRAFT_API void graft_trainer_release(graft_trainer *trainer GRAFT_OPT) GRAFT_NOEXCEPT;

/* ----------------------------------------------------------------------------------------------------- plugins */

/* A plugin is a WebAssembly component in a sandbox: it has no files, no network and no clock, and every limit ends it
 * with an error of its own. A converter turns exports into samples, an evaluator scores predictions. In a build without
 * plugins these functions are GRAFT_E_UNSUPPORTED (graft_library_has_feature("plugins")). */

typedef struct graft_plugin_limits {  /* 0 leaves a limit as it is */
    uint32_t struct_size;
    uint32_t handles;                 /* open sources at a time */
    uint64_t plugin_bytes;            /* of its file */
    uint64_t fuel;                    /* instructions per call, roughly; the same work costs the same everywhere */
    uint64_t fuel_per_byte;           /* further instructions for each byte of input */
    uint64_t deadline_ms;             /* of its own time per call; waiting for the program does not count */
    uint64_t memory_bytes;            /* linear memory */
    uint64_t call_bytes;              /* that one call between plugin and host may carry */
    uint64_t assets;                  /* companion files opened in all */
    uint64_t output_bytes;            /* of all samples */
    uint64_t samples;
    uint64_t log_bytes;
    uint64_t diagnostics;             /* remarks in all */
    uint64_t diagnostics_per_code;    /* remarks of one code that are told; the rest is counted */
} graft_plugin_limits;

typedef struct graft_plugin_options {
    uint32_t struct_size;
    uint32_t flags;
#define GRAFT_PLUGIN_ALLOW_MODEL 1u   /* a judge may ask the model that an evaluation gives it */
    const graft_plugin_limits *limits;/* NULL: the default ones */
    const char *sha256;               /* its file must have this digest, 64 hexadecimal digits; NULL: any */
    const char *public_key;           /* it must be signed by this key of minisign's; NULL: by none */
    const char *signature;            /* the signature file's text, where it is loaded from memory */
} graft_plugin_options;

/* Loads, checks and compiles the plugin at `path`, or the shipped one of that name ("ubiai"). A signature lies beside
 * it as path.minisig. */
GRAFT_API graft_status graft_plugin_load(graft_runtime *runtime GRAFT_OPT, const char *path,
                                         const graft_plugin_options *options GRAFT_OPT, graft_plugin **out,
                                         graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
/* The same from memory, which is copied; `name` is for messages. */
GRAFT_API graft_status graft_plugin_load_memory(graft_runtime *runtime GRAFT_OPT, const char *name GRAFT_OPT,
                                                const void *wasm, size_t size,
                                                const graft_plugin_options *options GRAFT_OPT, graft_plugin **out,
                                                graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT GRAFT_MUST_USE;
GRAFT_API void graft_plugin_retain(graft_plugin *plugin) GRAFT_NOEXCEPT;
GRAFT_API void graft_plugin_release(graft_plugin *plugin GRAFT_OPT) GRAFT_NOEXCEPT;
/* What it is, as JSON: name, world, sha256, imports, manifest, formats or metrics, options_schema. */
GRAFT_API graft_status graft_plugin_info(const graft_plugin *plugin, graft_buffer **out, graft_error **err GRAFT_OPT)
                                         GRAFT_NOEXCEPT;
/* How sure a converter is that it reads a file of this name and beginning (64 KiB are enough): 0 to 100. */
GRAFT_API graft_status graft_plugin_detect(const graft_plugin *plugin, const void *head, size_t size,
                                           const char *name GRAFT_OPT, uint32_t *out, graft_error **err GRAFT_OPT)
                                           GRAFT_NOEXCEPT;

typedef struct graft_convert_request {
    uint32_t struct_size;
    uint32_t reserved_0;
    const char *input_path;           /* the export, or ... */
    const graft_source *input;        /* ... the export from elsewhere (of an FD all of it) */
    const char *input_name;           /* what messages call `input` */
    const char *asset_dir;            /* the folder of the files it names; NULL: the folder of input_path */
    const char *output_path;          /* the data set to write, LLaVA JSON */
    const char *options_json;         /* the plugin's options, a JSON object; NULL: none */
    graft_progress_fn on_progress;    /* told bytes of the input that are behind */
    graft_diagnostic_fn on_diagnostic;
    void *userdata;                   /* first argument of both */
    graft_cancel *cancel;
} graft_convert_request;

typedef struct graft_convert_report {
    uint32_t struct_size;
    uint32_t reserved_0;
    uint64_t records;                 /* read */
    uint64_t samples;                 /* written */
    uint64_t skipped;                 /* records that gave no sample */
    uint64_t diagnostics;             /* remarks that were told */
} graft_convert_report;

/* Converts an export to a data set, which appears under its name only when the call succeeds. Several conversions with
 * one plugin may run at once, each in a sandbox of its own. */
GRAFT_API graft_status graft_plugin_convert(const graft_plugin *plugin, const graft_convert_request *request,
                                            graft_convert_report *report GRAFT_OPT, graft_error **err GRAFT_OPT)
                                            GRAFT_NOEXCEPT;

/* -------------------------------------------------------------------------------------------------- evaluations */

typedef struct graft_evaluation_request {
    uint32_t struct_size;
    uint32_t flags;                   /* 0 */
    graft_model *model;               /* who is asked */
    const graft_adapter_binding *adapters;
    size_t n_adapters;
    const graft_dataset *dataset;     /* what is asked: the last question of every sample */
    const graft_plugin *metric;       /* who scores: an evaluator */
    const char *metric_options_json;  /* its options, a JSON object; NULL: none */
    uint64_t seed;                    /* of what it leaves to chance */
    uint64_t limit;                   /* ask only this many samples, from the first on; 0: all */
    uint32_t max_tokens;              /* of an answer; 0: 128 */
    uint32_t n_context;               /* positions of the session that answers; 0: the model's, at most 4096 */
    const char *template_name;        /* the conversation template; NULL: the model's */
    const char *system;               /* instructions in place of the template's own; NULL: those */
    graft_model *judge;               /* whom a judge asks, which was loaded with GRAFT_PLUGIN_ALLOW_MODEL; NULL: nobody */
    const graft_adapter_binding *judge_adapters;
    size_t n_judge_adapters;
    const char *predictions_path;     /* a line for every sample goes there; NULL: nowhere */
    graft_progress_fn on_progress;    /* told samples that are done: "asking" */
    graft_diagnostic_fn on_diagnostic;/* told, at the end, what the metric remarked */
    void *userdata;                   /* first argument of both */
    graft_cancel *cancel;
} graft_evaluation_request;

/* Puts the questions of a data set to a model and scores the answers. The report is JSON: metrics with value, unit and
 * weight, failures, who answered, how long it took. A sample whose question cannot be put is left out and told in
 * it. After cancelling there is neither a report nor a file. */
GRAFT_API graft_status graft_evaluation_run(const graft_evaluation_request *request, graft_buffer **report,
                                            graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

/* -------------------------------------------------------------------------------------------------------- gguf */

typedef struct graft_write_options {
    uint32_t struct_size;
    uint32_t flags;
#define GRAFT_QUANTIZE_AGAIN 1u       /* also convert what is in a block type already, adding one error to the other */
    uint32_t n_threads;               /* 0: one per core */
    uint32_t reserved_0;
    graft_progress_fn progress;       /* told after every tensor, with its name as the stage */
    void *progress_userdata;
    graft_cancel *cancel;
} graft_write_options;

/* What a GGUF file holds, as JSON: version, alignment, parts, bytes, metadata (arrays shortened), tensors. Class A. */
GRAFT_API graft_status graft_gguf_inspect(const char *path, graft_buffer **out, graft_error **err GRAFT_OPT)
                                          GRAFT_NOEXCEPT;
/* Writes an F32, F16 or BF16 model, or vision half, with its matrices as `type` says: "Q4_K_M", "Q8_0", ... The report
 * is JSON: bytes_before, bytes_after, bits_per_weight, worst_tensor, worst_relative_error. Class A. */
GRAFT_API graft_status graft_gguf_quantize(const char *input, const char *output, const char *type,
                                           const graft_write_options *options GRAFT_OPT,
                                           graft_buffer **report GRAFT_OPT, graft_error **err GRAFT_OPT)
                                           GRAFT_NOEXCEPT;
/* Writes a Hugging Face checkpoint (LLaMA family, LLaVA-1.5) as GGUF: the language model to `output`, the vision half of
 * a LLaVA to `projector`. `type` is how matrices are stored, "F32", "F16" (NULL) or "BF16"; `vision_tower` is the folder
 * of the CLIP model where the checkpoint does not hold it. Of the options flags and n_threads are 0. The report is
 * JSON: model, projector, notes. Class A. */
GRAFT_API graft_status graft_gguf_import(const char *folder, const char *output, const char *projector GRAFT_OPT,
                                         const char *type GRAFT_OPT, const char *vision_tower GRAFT_OPT,
                                         const graft_write_options *options GRAFT_OPT,
                                         graft_buffer **report GRAFT_OPT, graft_error **err GRAFT_OPT) GRAFT_NOEXCEPT;

#ifdef __cplusplus
}
#endif
#endif /* GRAFT_H */
