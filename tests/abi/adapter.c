/* Adapters through the C interface: adapter MODEL ADAPTER OTHER-ADAPTER FOLDER */
#include <unistd.h>

#include "check.h"
#include "graft.h"

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

static char *in(const char *folder, const char *name) {
    char *path = malloc(strlen(folder) + strlen(name) + 2);
    CHECK(path);
    sprintf(path, "%s/%s", folder, name);
    return path;
}

static int32_t count(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    CHECK(strlen(stage) > 0 && done <= total);
    ++*(int *)userdata;
    return 0;
}

static int32_t stop(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    (void)userdata, (void)stage, (void)done, (void)total;
    return 1;
}

/* Logits after a few tokens, with one adapter or none. */
static float *logits(graft_model *model, graft_adapter *adapter, float strength, size_t *n) {
    graft_error *error = NULL;
    graft_session *session = NULL;
    graft_session_options options = GRAFT_INIT(graft_session_options);
    options.n_context = 16;
    OK(graft_session_create(model, &options, &session, &error));
    graft_adapter_binding binding = GRAFT_INIT(graft_adapter_binding);
    binding.adapter = adapter;
    binding.strength = strength;
    OK(graft_session_set_adapters(session, &binding, adapter != NULL, 0, &error));
    graft_token ids[] = {1, 5, 9, 20};
    OK(graft_session_feed(session, ids, 4, NULL, &error));
    const float *borrowed = NULL;
    OK(graft_session_logits(session, NULL, &borrowed, n, &error));
    float *copy = malloc(*n * sizeof *copy);
    CHECK(copy);
    memcpy(copy, borrowed, *n * sizeof *copy);
    graft_session_release(session);
    return copy;
}

/* The largest distance of two answers, relative to the largest logit. */
static double distance(graft_model *a, graft_adapter *on_a, float strength_a, graft_model *b, graft_adapter *on_b,
                       float strength_b) {
    size_t n, m;
    float *x = logits(a, on_a, strength_a, &n), *y = logits(b, on_b, strength_b, &m);
    double most = 0, largest = 0;
    CHECK(n == m);
    for (size_t i = 0; i < n; i++) {
        double d = x[i] > y[i] ? x[i] - y[i] : y[i] - x[i], l = x[i] > 0 ? x[i] : -x[i];
        if (d > most) most = d;
        if (l > largest) largest = l;
    }
    free(x);
    free(y);
    return most / largest;
}

int main(int argc, char **argv) {
    CHECK(argc == 5);
    const char *folder = argv[4];
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_adapter *adapter = NULL, *other = NULL, *made = NULL;
    graft_buffer *report = NULL;
    OK(graft_model_open(NULL, argv[1], NULL, &model, &error));
    OK(graft_adapter_open(model, argv[2], &adapter, &error));
    OK(graft_adapter_open(NULL, argv[3], &other, &error));

    /* What it is. */
    graft_model_info base = GRAFT_INIT(graft_model_info);
    OK(graft_model_get_info(model, &base));
    graft_adapter_info info = GRAFT_INIT(graft_adapter_info);
    OK(graft_adapter_get_info(adapter, &info));
    CHECK(!strcmp(info.name, "test") && !strcmp(info.base_fingerprint, base.fingerprint));
    CHECK(info.n_pairs == 7 * base.n_layers && info.max_rank == 2 && info.capabilities == 0);
    OK(graft_adapter_metadata(adapter, &report, &error));
    CHECK(strstr(graft_buffer_data(report), "\"generation\":\"") && strstr(graft_buffer_data(report), "blk.0.attn_q"));
    graft_buffer_release(report);
    OK(graft_adapter_check(adapter, model, &error));
    FAILS(graft_adapter_check(other, model, &error), GRAFT_E_INCOMPATIBLE, "elsewhere");
    FAILS(graft_adapter_open(model, argv[3], &made, &error), GRAFT_E_INCOMPATIBLE, "elsewhere");
    FAILS(graft_adapter_open(NULL, folder, &made, &error), GRAFT_E_ARGUMENT, "is a folder");
    FAILS(graft_adapter_open(NULL, argv[1], &made, &error), GRAFT_E_FORMAT, "is not an adapter");
    FAILS(graft_adapter_open(NULL, "no/such.gguf", &made, &error), GRAFT_E_NOT_FOUND, "no/such.gguf");
    CHECK(distance(model, NULL, 0, model, adapter, 1) > 1e-3);

    /* From memory. */
    size_t size;
    char *bytes = contents(argv[2], &size);
    graft_source source = GRAFT_INIT(graft_source);
    source.kind = GRAFT_SOURCE_MEMORY;
    source.data = bytes;
    source.length = size;
    source.userdata = bytes;
    source.destroy = free;
    OK(graft_adapter_open_source(model, &source, NULL, &made, &error));
    CHECK(distance(model, adapter, 1, model, made, 1) == 0);
    graft_adapter_release(made);
    bytes = contents(argv[2], &size);
    source.data = source.userdata = bytes;
    source.length = size / 3;
    FAILS(graft_adapter_open_source(model, &source, NULL, &made, &error), GRAFT_E_CORRUPT, "truncated");
    bytes = contents(argv[2], &size);
    source.data = source.userdata = bytes;
    source.length = size;
    graft_source copy = source;
    copy.data = copy.userdata = contents(argv[2], &size);
    graft_adapter_options beside = GRAFT_INIT(graft_adapter_options);
    beside.companion = &copy;
    FAILS(graft_adapter_open_source(model, &source, &beside, &made, &error), GRAFT_E_CORRUPT, "vision half");

    /* The vision half is a file of its own, and belongs to the first. */
    char *first = in(folder, "seeing.gguf"), *second = in(folder, "seeing.vision.gguf");
    OK(graft_adapter_open(model, first, &made, &error));
    graft_adapter_release(made);
    source.data = source.userdata = contents(first, &size);
    source.length = size;
    copy = source;
    copy.data = copy.userdata = contents(second, &size);
    copy.length = size;
    OK(graft_adapter_open_source(model, &source, &beside, &made, &error));
    OK(graft_adapter_get_info(made, &info));
    CHECK(info.capabilities == GRAFT_ADAPTER_IMAGES && info.n_pairs == 7 * base.n_layers + 1);
    FAILS(graft_adapter_check(made, model, &error), GRAFT_E_INCOMPATIBLE, "vision half");
    graft_adapter_release(made);
    source.data = source.userdata = contents(first, &size);
    FAILS(graft_adapter_open_source(model, &source, NULL, &made, &error), GRAFT_E_NOT_FOUND, "vision.gguf");
    free(first);
    free(second);

    /* Files. */
    char *path = in(folder, "saved.gguf"), *peft = in(folder, "peft"), *merged = in(folder, "merged.gguf");
    graft_adapter_save_options save = GRAFT_INIT(graft_adapter_save_options);
    OK(graft_adapter_save(adapter, path, NULL, &error));
    OK(graft_adapter_open(model, path, &made, &error));
    CHECK(distance(model, adapter, 1, model, made, 1) == 0);
    graft_adapter_release(made);
    save.quant_type = "F16";
    OK(graft_adapter_save(adapter, path, &save, &error));
    OK(graft_adapter_open(model, path, &made, &error));
    CHECK(distance(model, adapter, 1, model, made, 1) < 1e-2);
    graft_adapter_release(made);
    save.format = "peft";
    FAILS(graft_adapter_save(adapter, peft, &save, &error), GRAFT_E_HANDLE, "model");
    save.model = model;
    save.layout = "llava";
    save.base_model = "base";
    OK(graft_adapter_save(adapter, peft, &save, &error));
    OK(graft_adapter_open(model, peft, &made, &error));
    CHECK(distance(model, adapter, 1, model, made, 1) < 1e-3);
    graft_adapter_release(made);
    save.layout = "?";
    FAILS(graft_adapter_save(adapter, peft, &save, &error), GRAFT_E_ARGUMENT, "layout");
    save.format = "zip";
    FAILS(graft_adapter_save(adapter, peft, &save, &error), GRAFT_E_ARGUMENT, "format");
    save.format = "gguf";
    save.quant_type = "Q4_K";
    FAILS(graft_adapter_save(adapter, path, &save, &error), GRAFT_E_ARGUMENT, "quant_type");

    /* Algebra. */
    graft_adapter_binding parts[2] = {GRAFT_INIT(graft_adapter_binding), GRAFT_INIT(graft_adapter_binding)};
    parts[0].adapter = parts[1].adapter = adapter;
    parts[0].strength = 0.75f;
    parts[1].strength = -0.25f;
    OK(graft_adapter_combine(parts, 2, "both", &made, &error));
    OK(graft_adapter_get_info(made, &info));
    CHECK(!strcmp(info.name, "both") && info.max_rank == 4);
    CHECK(distance(model, adapter, 0.5f, model, made, 1) < 1e-3);
    graft_compress_options keep = GRAFT_INIT(graft_compress_options);
    FAILS(graft_adapter_compress(NULL, made, &keep, &other, &report, &error), GRAFT_E_ARGUMENT, "rank or an energy");
    keep.rank = 2;
    graft_adapter *small = NULL;
    OK(graft_adapter_compress(NULL, made, &keep, &small, &report, &error));
    CHECK(strstr(graft_buffer_data(report), "\"rank_before\":4"));
    graft_buffer_release(report);
    OK(graft_adapter_get_info(small, &info));
    CHECK(info.max_rank == 2 && distance(model, made, 1, model, small, 1) < 1e-3);
    graft_adapter_release(small);
    keep.rank = 0;
    keep.energy = 0.999;
    OK(graft_adapter_compress(NULL, made, &keep, &small, NULL, &error));
    graft_adapter_release(small);
    keep.energy = 2;
    FAILS(graft_adapter_compress(NULL, made, &keep, &small, NULL, &error), GRAFT_E_ARGUMENT, "energy");
    keep.energy = 0.5;
    OK(graft_cancel_create(&keep.cancel));
    graft_cancel_signal(keep.cancel);
    FAILS(graft_adapter_compress(NULL, made, &keep, &small, NULL, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_cancel_release(keep.cancel);
    graft_adapter_release(made);
    OK(graft_adapter_scale(adapter, 0.5f, &made, &error));
    CHECK(distance(model, adapter, 0.5f, model, made, 1) < 1e-5);
    graft_adapter_release(made);
    FAILS(graft_adapter_scale(adapter, 0, &made, &error), GRAFT_E_ARGUMENT, "0");
    OK(graft_adapter_rename(adapter, "of May", &made, &error));
    OK(graft_adapter_get_info(made, &info));
    CHECK(!strcmp(info.name, "of May"));
    graft_adapter_release(made);
    FAILS(graft_adapter_rename(adapter, "", &made, &error), GRAFT_E_ARGUMENT, "name");
    parts[1].adapter = other;
    parts[1].strength = 1;
    FAILS(graft_adapter_combine(parts, 2, "two bases", &made, &error), GRAFT_E_INCOMPATIBLE, "one base");
    FAILS(graft_adapter_combine(parts, 0, "none", &made, &error), GRAFT_E_ARGUMENT, "nothing to combine");

    /* Into the model, and out of it. */
    int told = 0;
    graft_model *tuned = NULL;
    graft_merge_options into = GRAFT_INIT(graft_merge_options);
    into.quant_type = "F32";
    into.n_threads = 1;
    into.progress = count;
    into.progress_userdata = &told;
    parts[0].strength = 1;
    OK(graft_adapter_merge(argv[1], parts, 1, merged, &into, &report, &error));
    CHECK(told > 0 && strstr(graft_buffer_data(report), "\"kept\":"));
    graft_buffer_release(report);
    OK(graft_model_open(NULL, merged, NULL, &tuned, &error));
    CHECK(distance(model, adapter, 1, tuned, NULL, 0) < 0.1);
    graft_model_release(tuned);
    told = 0;
    graft_difference_options options = GRAFT_INIT(graft_difference_options);
    options.rank = 2;
    options.n_threads = 1;
    options.progress = count;
    options.progress_userdata = &told;
    OK(graft_adapter_difference(argv[1], merged, &options, &made, &report, &error));
    CHECK(told > 0 && strstr(graft_buffer_data(report), "\"left_out\":"));
    graft_buffer_release(report);
    CHECK(distance(model, adapter, 1, model, made, 1) < 0.05);
    graft_adapter_release(made);
    options.rank = 0;
    FAILS(graft_adapter_difference(argv[1], merged, &options, &made, NULL, &error), GRAFT_E_ARGUMENT, "rank");
    options.rank = 2;
    FAILS(graft_adapter_difference(argv[1], argv[1], &options, &made, NULL, &error), GRAFT_E_FORMAT, "the same");

    /* One that is stopped leaves no file. */
    CHECK(!unlink(merged));
    into.progress = stop;
    FAILS(graft_adapter_merge(argv[1], parts, 1, merged, &into, NULL, &error), GRAFT_E_CANCELLED, "interrupted");
    CHECK(access(merged, F_OK));
    FAILS(graft_adapter_merge(argv[1], parts, 0, merged, NULL, NULL, &error), GRAFT_E_ARGUMENT, "nothing to merge");
    parts[0].adapter = other;
    FAILS(graft_adapter_merge(argv[1], parts, 1, merged, NULL, NULL, &error), GRAFT_E_INCOMPATIBLE, "elsewhere");
    into.quant_type = "Q9";
    parts[0].adapter = adapter;
    FAILS(graft_adapter_merge(argv[1], parts, 1, merged, &into, NULL, &error), GRAFT_E_ARGUMENT, "Q9");
    into.quant_type = NULL;
    into.projector_path = argv[1];
    FAILS(graft_adapter_merge(argv[1], parts, 1, merged, &into, NULL, &error), GRAFT_E_ARGUMENT, "belong together");

    graft_adapter_retain(adapter);
    graft_adapter_release(adapter);
    OK(graft_adapter_get_info(adapter, &info));
    graft_adapter_release(adapter);
    CHECK(graft_adapter_get_info(adapter, &info) == GRAFT_E_HANDLE);
    graft_adapter_release(other);
    graft_model_release(model);
    free(path);
    free(peft);
    free(merged);
    return 0;
}
