/* Models through the C interface: model FILE */
#include <fcntl.h>
#include <unistd.h>

#include "check.h"
#include "graft.h"

static int released;

static void release(void *userdata) {
    released++;
    free(userdata);
}

struct file {
    FILE *stream;
    int reads;
};

static int32_t read_file(void *userdata, uint64_t offset, void *buffer, size_t length) {
    struct file *file = userdata;
    file->reads++;
    if (fseek(file->stream, (long)offset, SEEK_SET)) return 1;
    return fread(buffer, 1, length, file->stream) != length;
}

static int32_t read_nothing(void *userdata, uint64_t offset, void *buffer, size_t length) {
    (void)userdata, (void)offset, (void)buffer, (void)length;
    return 5;
}

static int32_t stop(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    (void)userdata, (void)stage;
    return done <= total;
}

static void log_line(void *userdata, graft_log_level level, const char *target, const char *message, size_t length) {
    (void)level, (void)target;
    CHECK(strlen(message) == length);
    ++*(int *)userdata;
}

static void count(void *userdata) { ++*(int *)userdata; }

static char *contents(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    CHECK(file && !fseek(file, 0, SEEK_END));
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size);
    CHECK(bytes && fread(bytes, 1, *size, file) == *size);
    fclose(file);
    return bytes;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    graft_error *error = NULL;
    graft_model *model = NULL;

    CHECK(graft_library_abi() == GRAFT_ABI && graft_library_version() == (0 << 16 | 1 << 8 | 0));
    CHECK(strstr(graft_library_build_info(), "\"kernels\""));

    /* A file, and what it says of itself. */
    OK(graft_model_open(NULL, argv[1], NULL, &model, &error));
    graft_model_info info = GRAFT_INIT(graft_model_info);
    OK(graft_model_get_info(model, &info));
    CHECK(info.n_layers > 0 && info.n_vocabulary > 0 && strlen(info.fingerprint) == 64);
    CHECK(info.capabilities == GRAFT_MODEL_TEXT && info.n_image_tokens == 0);
    CHECK(!strcmp(info.architecture, "llama") && info.file_bytes > 0);
    graft_buffer *json = NULL;
    OK(graft_model_metadata(model, NULL, &json, &error));
    CHECK(strstr(graft_buffer_data(json), "\"general.architecture\":\"llama\""));
    CHECK(strlen(graft_buffer_data(json)) == graft_buffer_size(json));
    graft_buffer_release(json);
    OK(graft_model_metadata(model, "general.architecture", &json, &error));
    CHECK(!strcmp(graft_buffer_data(json), "\"llama\""));
    graft_buffer_release(json);
    FAILS(graft_model_metadata(model, "no.such.key", &json, &error), GRAFT_E_NOT_FOUND, "no.such.key");
    OK(graft_model_tensors(model, &json, &error));
    CHECK(strstr(graft_buffer_data(json), "token_embd.weight"));
    graft_buffer_release(json);

    /* References, and what is no model. */
    graft_model_retain(model);
    graft_model_release(model);
    OK(graft_model_get_info(model, &info));
    graft_model_release(model);
    CHECK(graft_model_get_info(model, &info) == GRAFT_E_HANDLE);
    FAILS(graft_model_metadata(model, NULL, &json, &error), GRAFT_E_HANDLE, "was released");
    graft_model_release(model);
    FAILS(graft_model_metadata((graft_model *)&info, NULL, &json, &error), GRAFT_E_HANDLE, "never was one");
    FAILS(graft_model_metadata(NULL, NULL, &json, &error), GRAFT_E_HANDLE, "NULL");
    FAILS(graft_model_open(NULL, "no/such/file.gguf", NULL, &model, &error), GRAFT_E_NOT_FOUND, "no/such/file.gguf");
    FAILS(graft_model_open(NULL, __FILE__, NULL, &model, &error), GRAFT_E_FORMAT, "not a GGUF file");
    FAILS(graft_model_open(NULL, NULL, NULL, &model, &error), GRAFT_E_ARGUMENT, "path is NULL");
    FAILS(graft_model_open(NULL, "\xff", NULL, &model, &error), GRAFT_E_ARGUMENT, "UTF-8");
    FAILS(graft_model_open(NULL, argv[1], NULL, NULL, &error), GRAFT_E_ARGUMENT, "out is NULL");
    CHECK(graft_model_open(NULL, "no/such/file.gguf", NULL, &model, NULL) == GRAFT_E_NOT_FOUND);
    CHECK(graft_model_open(NULL, "no/such/file.gguf", NULL, &model, &error) == GRAFT_E_NOT_FOUND);
    CHECK(!strcmp(graft_error_detail(error, "path"), "no/such/file.gguf") && !graft_error_detail(error, "offset"));
    CHECK(graft_error_status(error) == GRAFT_E_NOT_FOUND);
    OK(graft_error_json(error, &json));
    CHECK(strstr(graft_buffer_data(json), "\"GRAFT_E_NOT_FOUND\""));
    graft_buffer_release(json);
    graft_error_release(error);
    CHECK(graft_error_status(error) == GRAFT_E_HANDLE && !strcmp(graft_error_message(error), ""));
    error = NULL;

    /* Options of no size, and from the future. */
    graft_model_options options = GRAFT_INIT(graft_model_options);
    options.struct_size = 0;
    FAILS(graft_model_open(NULL, argv[1], &options, &model, &error), GRAFT_E_ARGUMENT, "GRAFT_INIT");
    struct { graft_model_options known; uint64_t unknown; } later = {GRAFT_INIT(graft_model_options), 0};
    later.known.struct_size = sizeof later;
    OK(graft_model_open(NULL, argv[1], &later.known, &model, &error));
    graft_model_release(model);
    later.unknown = 1;
    FAILS(graft_model_open(NULL, argv[1], &later.known, &model, &error), GRAFT_E_VERSION, "does not know");
    graft_model_options flagged = GRAFT_INIT(graft_model_options);
    flagged.flags = 1;
    FAILS(graft_model_open(NULL, argv[1], &flagged, &model, &error), GRAFT_E_ARGUMENT, "flags");

    /* Memory. */
    size_t size;
    graft_source source = GRAFT_INIT(graft_source);
    source.kind = GRAFT_SOURCE_MEMORY;
    source.data = source.userdata = contents(argv[1], &size);
    source.length = size;
    source.destroy = release;
    OK(graft_model_open_source(NULL, &source, NULL, &model, &error));
    graft_model_info same = GRAFT_INIT(graft_model_info);
    OK(graft_model_get_info(model, &same));
    CHECK(!strcmp(info.fingerprint, same.fingerprint) && released == 0);
    graft_model_release(model);
    CHECK(released == 1);
    source.data = source.userdata = contents(argv[1], &size);
    source.length = size / 2;
    FAILS(graft_model_open_source(NULL, &source, NULL, &model, &error), GRAFT_E_CORRUPT, "truncated");
    CHECK(released == 2);

    /* A part of an open file. */
    char packed[] = "/tmp/graft-packed-XXXXXX";
    int fd = mkstemp(packed);
    char *bytes = contents(argv[1], &size);
    CHECK(fd >= 0 && write(fd, "0123456", 7) == 7 && write(fd, bytes, size) == (ssize_t)size && write(fd, "z", 1) == 1);
    free(bytes);
    graft_source part = GRAFT_INIT(graft_source);
    part.kind = GRAFT_SOURCE_FD;
    part.fd = fd;
    part.offset = 7;
    part.length = size;
    OK(graft_model_open_source(NULL, &part, NULL, &model, &error));
    part.length = size + 2;
    graft_model *beyond = NULL;
    FAILS(graft_model_open_source(NULL, &part, NULL, &beyond, &error), GRAFT_E_IO, "not inside");
    close(fd);
    unlink(packed);
    OK(graft_model_get_info(model, &same));
    CHECK(!strcmp(info.fingerprint, same.fingerprint));
    graft_model_release(model);
    FAILS(graft_model_open_source(NULL, &part, NULL, &model, &error), GRAFT_E_IO, "duplicate");

    /* A reader: it works, fails, is stopped. */
    struct file file = {fopen(argv[1], "rb"), 0};
    graft_source reader = GRAFT_INIT(graft_source);
    reader.kind = GRAFT_SOURCE_READER;
    reader.read = read_file;
    reader.userdata = &file;
    reader.length = size;
    OK(graft_model_open_source(NULL, &reader, NULL, &model, &error));
    OK(graft_model_get_info(model, &same));
    CHECK(!strcmp(info.fingerprint, same.fingerprint) && file.reads > 0);
    graft_model_release(model);
    graft_model_options stopped = GRAFT_INIT(graft_model_options);
    OK(graft_cancel_create(&stopped.cancel));
    graft_cancel_signal(stopped.cancel);
    FAILS(graft_model_open_source(NULL, &reader, &stopped, &model, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_cancel_reset(stopped.cancel);
    CHECK(!graft_cancel_is_signalled(stopped.cancel));
    reader.read = read_nothing;
    FAILS(graft_model_open_source(NULL, &reader, &stopped, &model, &error), GRAFT_E_CALLBACK, "byte 0");
    reader.read = read_file;
    stopped.progress = stop;
    graft_status answer = graft_model_open_source(NULL, &reader, &stopped, &model, &error);
    /* It asks to stop after the last part, too late to matter for a file of one part. */
    CHECK(answer == GRAFT_E_CANCELLED || answer == GRAFT_OK);
    if (answer == GRAFT_OK) graft_model_release(model);
    graft_error_release(error);
    error = NULL;
    graft_cancel_release(stopped.cancel);
    fclose(file.stream);

    /* A runtime, its log and what ends with it. */
    int lines = 0, ends = 0;
    graft_runtime *runtime = NULL;
    graft_runtime_options with = GRAFT_INIT(graft_runtime_options);
    with.n_threads = 1;
    with.log_level = GRAFT_LOG_TRACE;
    with.log = log_line;
    with.log_userdata = &lines;
    OK(graft_runtime_create(&with, &runtime, &error));
    OK(graft_model_open(runtime, argv[1], NULL, &model, &error));
    graft_runtime_release(runtime);
    OK(graft_model_get_info(model, &info));
    CHECK(info.n_threads == 1);
    graft_model_release(model);
    OK(graft_runtime_create(&with, &runtime, &error));
    OK(graft_runtime_set_log(runtime, GRAFT_LOG_DEBUG, log_line, &ends, count, &error));
    CHECK(ends == 0);
    CHECK(graft_model_get_info(NULL, &info) == GRAFT_E_HANDLE);
    CHECK(ends == 1); /* the refusal was told */
    graft_memory_stats stats = GRAFT_INIT(graft_memory_stats);
    OK(graft_runtime_memory(runtime, &stats));
    CHECK(stats.planned == 0 && stats.limit == 0);
    uint32_t devices = 0;
    graft_device_info device = GRAFT_INIT(graft_device_info);
    OK(graft_device_count(runtime, &devices));
    OK(graft_device_get(runtime, 0, &device));
    CHECK(devices >= 1 && device.kind == GRAFT_DEVICE_CPU && device.n_threads == 1 && device.kernels[0]);
    CHECK(graft_device_get(runtime, devices, &device) == GRAFT_E_NOT_FOUND);
    graft_model_options on = GRAFT_INIT(graft_model_options);
    on.device = "nonsense";
    CHECK(graft_model_open(runtime, argv[1], &on, &model, &error) == GRAFT_E_ARGUMENT);
    graft_error_release(error);
    error = NULL;
    on.device = "gpu:no such card";
    graft_status refused = graft_model_open(runtime, argv[1], &on, &model, &error);
    CHECK(refused == GRAFT_E_DEVICE || refused == GRAFT_E_UNSUPPORTED);
    graft_error_release(error);
    error = NULL;
    on.device = "auto";
    OK(graft_model_open(runtime, argv[1], &on, &model, &error));
    graft_model_release(model);
    for (uint32_t card = 1; card < devices; card++) {
        OK(graft_device_get(runtime, card, &device));
        CHECK(device.kind == GRAFT_DEVICE_GPU && device.description[0]);
        on.device = device.name;
        on.n_device_layers = 1;
        on.n_device_context = 32;
        OK(graft_model_open(runtime, argv[1], &on, &model, &error));
        graft_model_release(model);
    }
    int before = ends;
    graft_runtime_release(runtime);
    CHECK(ends == before + 1);
    with.log_level = 9;
    with.log_destroy = count;
    with.log_userdata = &ends;
    FAILS(graft_runtime_create(&with, &runtime, &error), GRAFT_E_ARGUMENT, "log level 9");
    CHECK(ends == before + 2);
    return 0;
}
