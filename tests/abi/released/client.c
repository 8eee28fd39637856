/* A program of the day when graft 0.1 came out: client MODEL ADAPTER FOLDER
 *
 * It is compiled with the header of that day, graft-0.1.h, and runs with the library of today. Neither this file nor that
 * header is changed when graft.h grows: what is tested is that programs which nobody compiles again go on working, with
 * structs as long as they were then, and with those of older programs still, which were shorter. */
#include "graft-0.1.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

#define OK(call)                                                                      \
    do {                                                                              \
        graft_status got_ = (call);                                                   \
        if (got_ < 0) {                                                               \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call,         \
                    graft_status_name(got_), graft_error_message(error));             \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

static graft_error *error;

/* A struct that the library writes, as an older program had it: up to `last`, with bytes behind that are its own. */
#define GUARD 0x5c
#define WRITTEN(type, last, name, call)                                                          \
    union {                                                                                      \
        type as;                                                                                 \
        unsigned char bytes[sizeof(type) + 64];                                                  \
    } name;                                                                                      \
    for (int whole_ = 0; whole_ < 2; whole_++) {                                                 \
        size_t size_ = whole_ ? sizeof(type) : offsetof(type, last);                             \
        memset(&name, GUARD, sizeof name);                                                       \
        name.as.struct_size = (uint32_t)size_;                                                   \
        OK(call);                                                                                \
        CHECK(name.as.struct_size == size_);                                                     \
        for (size_t i_ = size_; i_ < sizeof name.bytes; i_++) CHECK(name.bytes[i_] == GUARD);    \
    }

/* The beginning of a struct that is given: every byte behind it would be nonsense. */
#define GIVEN(type, name, size) \
    type name;                  \
    memset(&name, GUARD, sizeof name); \
    memset(&name, 0, (size));   \
    name.struct_size = (uint32_t)(size)

static int32_t count(void *userdata, const char *text, size_t length) {
    CHECK(strlen(text) == length);
    ++*(int *)userdata;
    return 0;
}

static int32_t look(void *userdata, const graft_train_metrics *metrics) {
    CHECK(metrics->steps == 2 && metrics->struct_size >= sizeof *metrics);
    ++*(int *)userdata;
    return 0;
}

static void answer(graft_model *model, graft_adapter *adapter) {
    graft_session *session = NULL;
    GIVEN(graft_session_options, options, offsetof(graft_session_options, memory_budget));
    options.n_context = 256;
    OK(graft_session_create(model, &options, &session, &error));
    GIVEN(graft_adapter_binding, binding, sizeof binding);
    binding.adapter = adapter;
    binding.strength = 0.5f;
    OK(graft_session_set_adapters(session, &binding, 1, 0, &error));
    GIVEN(graft_message, message, sizeof message);
    message.role = "user";
    message.text = "How are you?";
    message.text_len = GRAFT_NUL_TERMINATED;
    GIVEN(graft_sampling, sampling, offsetof(graft_sampling, min_p));
    sampling.temperature = 0;
    sampling.top_p = 0.9f;
    int calls = 0;
    GIVEN(graft_generate_request, request, sizeof request);
    request.messages = &message;
    request.n_messages = 1;
    request.max_tokens = 6;
    request.sampling = &sampling;
    request.on_text = count;
    request.userdata = &calls;
    WRITTEN(graft_generate_result, n_generated, result, graft_session_generate(session, &request, &result.as, &error));
    CHECK(calls > 0 && result.as.n_prompt > 0 && result.as.n_generated > 0 && result.as.n_generated <= 6);
    WRITTEN(graft_session_info, planned, info, graft_session_get_info(session, &info.as));
    CHECK(info.as.n_context == 256 && info.as.planned > 0);
    union {
        graft_adapter_binding as;
        unsigned char bytes[sizeof(graft_adapter_binding) + 64];
    } held;
    memset(&held, GUARD, sizeof held);
    held.as.struct_size = sizeof held.as;
    size_t n = 0;
    OK(graft_session_adapters(session, &held.as, 1, &n, &error));
    CHECK(n == 1 && held.as.strength == 0.5f && held.bytes[sizeof held.as] == GUARD);
    graft_adapter_release(held.as.adapter);

    /* In the background. */
    graft_job *job = NULL;
    request.on_text = NULL;
    OK(graft_session_generate_start(session, &request, &job, &error));
    OK(graft_job_wait(job, GRAFT_FOREVER, &error));
    WRITTEN(graft_event, metrics, event, graft_job_next_event(job, 0, &event.as));
    graft_job_release(job);

    /* Together with itself as it was. */
    graft_batch *batch = NULL;
    GIVEN(graft_batch_options, room, offsetof(graft_batch_options, memory_budget));
    room.n_sessions = 1;
    room.n_context = 256;
    OK(graft_batch_create(model, &room, &batch, &error));
    GIVEN(graft_batch_request, asked, sizeof asked);
    asked.session = session;
    asked.request = &request;
    OK(graft_batch_generate(batch, &asked, 1, NULL, &error));
    graft_batch_release(batch);
    graft_session_release(session);
}

static void train(graft_model *model, const char *data) {
    graft_dataset *dataset = NULL;
    graft_trainer *trainer = NULL;
    OK(graft_dataset_open(data, NULL, &dataset, &error));
    GIVEN(graft_dataset_check_options, checking, offsetof(graft_dataset_check_options, template_name));
    checking.model = model;
    uint64_t errors = 1;
    OK(graft_dataset_check(dataset, &checking, NULL, NULL, &errors, &error));
    CHECK(errors == 0);
    /* As an older program knew it: without what came after the options of memory. */
    GIVEN(graft_train_options, options, offsetof(graft_train_options, weights_place));
    options.rank = 2;
    options.max_steps = 2;
    WRITTEN(graft_plan, longest, plan,
            graft_plan_training(model, dataset, NULL, &options, &plan.as, NULL, &error));
    CHECK(plan.as.steps == 2 && plan.as.fits == 1);
    OK(graft_trainer_create(model, dataset, NULL, &options, &trainer, &error));
    int calls = 0;
    CHECK(graft_trainer_run(trainer, look, &calls, NULL, &error) == GRAFT_DONE && calls == 2);
    WRITTEN(graft_train_metrics, eval_since_best, metrics, graft_trainer_metrics(trainer, &metrics.as));
    CHECK(metrics.as.step == 2 && metrics.as.state == GRAFT_TRAIN_FINISHED);
    graft_adapter *learned = NULL;
    OK(graft_trainer_adapter(trainer, &learned, &error));
    WRITTEN(graft_adapter_info, n_pairs, info, graft_adapter_get_info(learned, &info.as));
    CHECK(info.as.max_rank == 2);
    graft_adapter_release(learned);
    graft_trainer_release(trainer);
    graft_dataset_release(dataset);
}

static void convert(const char *folder, const char *data) {
    if (!graft_library_has_feature("plugins")) return;
    static const char export[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"One?\"},"
                                 "{\"role\":\"assistant\",\"content\":\"Two.\"}]}\n";
    (void)folder;
    graft_plugin *plugin = NULL;
    GIVEN(graft_plugin_limits, limits, offsetof(graft_plugin_limits, diagnostics));
    limits.samples = 10;
    GIVEN(graft_plugin_options, options, offsetof(graft_plugin_options, sha256));
    options.limits = &limits;
    OK(graft_plugin_load(NULL, "openai-chat", &options, &plugin, &error));
    GIVEN(graft_source, source, offsetof(graft_source, fd));
    source.kind = GRAFT_SOURCE_MEMORY;
    source.data = export;
    source.length = sizeof export - 1;
    GIVEN(graft_convert_request, request, offsetof(graft_convert_request, options_json));
    request.input = &source;
    request.output_path = data;
    WRITTEN(graft_convert_report, diagnostics, report,
            graft_plugin_convert(plugin, &request, &report.as, &error));
    CHECK(report.as.records == 1 && report.as.samples == 1);
    graft_plugin_release(plugin);
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    CHECK(graft_library_abi() == GRAFT_ABI);
    CHECK(graft_library_version() >= (GRAFT_VERSION_MAJOR << 16 | GRAFT_VERSION_MINOR << 8 | GRAFT_VERSION_PATCH));
    graft_runtime *runtime = NULL;
    graft_model *model = NULL;
    graft_adapter *adapter = NULL;
    graft_registry *registry = NULL;
    GIVEN(graft_runtime_options, options, offsetof(graft_runtime_options, cache_dir));
    options.n_threads = 1;
    OK(graft_runtime_create(&options, &runtime, &error));
    WRITTEN(graft_memory_stats, process_peak, stats, graft_runtime_memory(runtime, &stats.as));
    CHECK(stats.as.limit == 0);
    WRITTEN(graft_device_info, memory_total, device, graft_device_get(runtime, 0, &device.as));
    CHECK(device.as.n_threads == 1);
    GIVEN(graft_model_options, opening, offsetof(graft_model_options, projector));
    OK(graft_model_open(runtime, argv[1], &opening, &model, &error));
    WRITTEN(graft_model_info, n_layers, info, graft_model_get_info(model, &info.as));
    CHECK(info.as.n_threads == 1 && strlen(info.as.fingerprint) == 64);
    WRITTEN(graft_plan, steps, plan, graft_plan_session(model, 64, 0, 0, &plan.as, NULL, &error));
    CHECK(plan.as.peak_bytes > 0);
    graft_image *image = NULL;
    const unsigned char pixels[12] = {0};
    OK(graft_image_from_pixels(runtime, pixels, 2, 2, 0, &image, &error));
    WRITTEN(graft_image_info, height, size, graft_image_get_info(image, &size.as));
    CHECK(size.as.width == 2 && size.as.height == 2);
    graft_image_release(image);

    GIVEN(graft_registry_options, shelf, sizeof shelf);
    shelf.max_adapters = 2;
    OK(graft_registry_create(model, &shelf, &registry, &error));
    char generation[GRAFT_GENERATION_SIZE];
    OK(graft_registry_load(registry, "a", argv[2], GRAFT_PUBLISH_CREATE, NULL, generation, &error));
    OK(graft_registry_get(registry, "a", &adapter, NULL, &error));
    WRITTEN(graft_registry_info, n_in_memory, kept, graft_registry_get_info(registry, &kept.as));
    CHECK(kept.as.n_names == 1 && kept.as.max_adapters == 2);
    answer(model, adapter);

    char data[4096];
    snprintf(data, sizeof data, "%s/train.json", argv[3]);
    convert(argv[3], data);
    if (graft_library_has_feature("plugins")) train(model, data);

    /* Errors as they were. */
    CHECK(graft_model_open(runtime, "no/such.gguf", NULL, &model, &error) == GRAFT_E_NOT_FOUND);
    CHECK(!strcmp(graft_error_detail(error, "path"), "no/such.gguf"));
    graft_error_release(error);
    graft_registry_release(registry);
    graft_adapter_release(adapter);
    graft_model_release(model);
    graft_runtime_release(runtime);
    return 0;
}
