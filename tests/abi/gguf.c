/* GGUF files through the C interface: gguf MODEL OUTPUT_FOLDER */
#include "check.h"
#include "graft.h"

static int32_t count(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    CHECK(strlen(stage) && done <= total);
    ++*(int *)userdata;
    return 0;
}

static int32_t stop(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    (void)userdata, (void)stage, (void)done, (void)total;
    return 1;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    char output[4096];
    snprintf(output, sizeof output, "%s/small.gguf", argv[2]);
    graft_error *error = NULL;
    graft_buffer *json = NULL;
    OK(graft_gguf_inspect(argv[1], &json, &error));
    CHECK(strstr(graft_buffer_data(json), "\"tensors\":[{") && strstr(graft_buffer_data(json), "\"version\":3"));
    graft_buffer_release(json);
    FAILS(graft_gguf_inspect("no/such.gguf", &json, &error), GRAFT_E_NOT_FOUND, "no/such.gguf");

    int tensors = 0;
    graft_write_options options = GRAFT_INIT(graft_write_options);
    options.flags = GRAFT_QUANTIZE_AGAIN;
    options.progress = count;
    options.progress_userdata = &tensors;
    OK(graft_gguf_quantize(argv[1], output, "Q8_0", &options, &json, &error));
    CHECK(tensors > 0 && strstr(graft_buffer_data(json), "\"bits_per_weight\":"));
    graft_buffer_release(json);
    options.progress = stop;
    /* A callback that stops its call leaves the token alone: others may have it. */
    graft_cancel *shared = NULL;
    OK(graft_cancel_create(&shared));
    options.cancel = shared;
    char other[4096];
    snprintf(other, sizeof other, "%s/other.gguf", argv[2]);
    FAILS(graft_gguf_quantize(argv[1], other, "Q8_0", &options, NULL, &error), GRAFT_E_CANCELLED, "interrupted");
    CHECK(!graft_cancel_is_signalled(shared));
    graft_cancel_signal(shared);
    options.progress = NULL;
    FAILS(graft_gguf_quantize(argv[1], other, "Q8_0", &options, NULL, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_cancel_release(shared);
    FAILS(graft_gguf_quantize(argv[1], other, "Q9", NULL, NULL, &error), GRAFT_E_ARGUMENT, "Q9");
    FAILS(graft_gguf_quantize(output, other, "Q4_0", NULL, NULL, &error), GRAFT_E_UNSUPPORTED, "quantizing twice");
    FAILS(graft_gguf_import("no/such/folder", other, NULL, NULL, NULL, NULL, NULL, &error), GRAFT_E_NOT_FOUND, "no/such/folder");
    FAILS(graft_gguf_import(argv[2], other, NULL, "Q8_0", NULL, NULL, NULL, &error), GRAFT_E_ARGUMENT, "BF16");
    return 0;
}
