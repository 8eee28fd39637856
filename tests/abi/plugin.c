/* Plugins through the C interface: plugin EXPORT_FOLDER OUTPUT_FOLDER */
#include "check.h"
#include "graft.h"

struct seen {
    int progress, remarks, stop_at;
    char code[64];
};

static int32_t on_progress(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    struct seen *seen = userdata;
    CHECK(!strcmp(stage, "converting") && done <= total);
    return ++seen->progress == seen->stop_at;
}

static int32_t on_remark(void *userdata, uint32_t severity, const char *code, const char *message, const char *json) {
    struct seen *seen = userdata;
    CHECK(severity <= GRAFT_SEVERITY_ERROR && strlen(message) && json[0] == '{' && strstr(json, code));
    snprintf(seen->code, sizeof seen->code, "%s", code);
    seen->remarks++;
    return 0;
}

static int32_t read_text(void *userdata, uint64_t offset, void *buffer, size_t length) {
    memcpy(buffer, (const char *)userdata + offset, length);
    return 0;
}

static int32_t read_fails(void *userdata, uint64_t offset, void *buffer, size_t length) {
    (void)userdata, (void)offset, (void)buffer, (void)length;
    return 1;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    char input[4096], output[4096];
    snprintf(input, sizeof input, "%s/export.json", argv[1]);
    snprintf(output, sizeof output, "%s/train.json", argv[2]);
    graft_error *error = NULL;
    graft_plugin *plugin = NULL;

    /* A converter, what it is, what it knows. */
    OK(graft_plugin_load(NULL, "ubiai", NULL, &plugin, &error));
    graft_buffer *info = NULL;
    OK(graft_plugin_info(plugin, &info, &error));
    CHECK(strstr(graft_buffer_data(info), "\"world\":\"converter-plugin\""));
    CHECK(strstr(graft_buffer_data(info), "\"options_schema\":{"));
    graft_buffer_release(info);
    uint32_t sure = 7;
    OK(graft_plugin_detect(plugin, "a,b\n", 4, "table.csv", &sure, &error));
    CHECK(sure == 0);

    /* An export becomes a data set. */
    struct seen seen = {0};
    graft_convert_request request = GRAFT_INIT(graft_convert_request);
    graft_convert_report report = GRAFT_INIT(graft_convert_report);
    char assets[4096];
    snprintf(assets, sizeof assets, "%s/images", argv[1]);
    request.input_path = input;
    request.output_path = output;
    request.asset_dir = assets;
    request.on_progress = on_progress;
    request.on_diagnostic = on_remark;
    request.userdata = &seen;
    OK(graft_plugin_convert(plugin, &request, &report, &error));
    CHECK(report.samples > 0 && report.records >= report.samples && seen.progress > 0);
    remove(output);

    /* Stopped from the outside and by a callback; nothing is left. */
    OK(graft_cancel_create(&request.cancel));
    graft_cancel_signal(request.cancel);
    FAILS(graft_plugin_convert(plugin, &request, NULL, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_cancel_reset(request.cancel);
    seen.progress = 0;
    seen.stop_at = 1;
    FAILS(graft_plugin_convert(plugin, &request, NULL, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_cancel_release(request.cancel);
    request.cancel = NULL;
    CHECK(!fopen(output, "rb"));

    /* From memory and from a reader, with remarks; nothing comes of some. */
    const char *text = "{\"conversations\":[{\"from\":\"human\",\"value\":\"hi\"},{\"from\":\"gpt\",\"value\":\"ho\"}]}\n"
                       "{\"conversations\":7}\n";
    graft_plugin *sharegpt = NULL;
    OK(graft_plugin_load(NULL, "sharegpt", NULL, &sharegpt, &error));
    graft_source source = GRAFT_INIT(graft_source);
    source.kind = GRAFT_SOURCE_MEMORY;
    source.data = text;
    source.userdata = (void *)text;
    source.length = strlen(text);
    graft_convert_request from = GRAFT_INIT(graft_convert_request);
    from.input = &source;
    from.input_name = "chat.jsonl";
    from.output_path = output;
    from.on_diagnostic = on_remark;
    from.userdata = &seen;
    OK(graft_plugin_convert(sharegpt, &from, &report, &error));
    CHECK(report.records == 2 && report.samples == 1 && report.skipped == 1);
    CHECK(report.diagnostics > 0 && seen.remarks > 0 && seen.code[0]);
    source.kind = GRAFT_SOURCE_READER;
    source.read = read_text;
    OK(graft_plugin_convert(sharegpt, &from, &report, &error));
    CHECK(report.samples == 1);
    source.read = read_fails;
    FAILS(graft_plugin_convert(sharegpt, &from, &report, &error), GRAFT_E_IO, "byte 0");
    source.read = read_text;
    source.length = 0;
    FAILS(graft_plugin_convert(sharegpt, &from, &report, &error), GRAFT_E_FORMAT, "");
    source.length = strlen(text);

    /* What cannot be meant. */
    FAILS(graft_plugin_convert(sharegpt, NULL, &report, &error), GRAFT_E_ARGUMENT, "request is NULL");
    from.options_json = "[";
    FAILS(graft_plugin_convert(sharegpt, &from, &report, &error), GRAFT_E_ARGUMENT, "options");
    from.options_json = NULL;
    from.input_path = input;
    FAILS(graft_plugin_convert(sharegpt, &from, &report, &error), GRAFT_E_ARGUMENT, "either");
    from.input = NULL;
    from.input_path = "no/such/export.json";
    FAILS(graft_plugin_convert(sharegpt, &from, &report, &error), GRAFT_E_NOT_FOUND, "no/such/export.json");
    FAILS(graft_plugin_load(NULL, "no-such-plugin", NULL, &plugin, &error), GRAFT_E_NOT_FOUND, "ubiai");
    FAILS(graft_plugin_load_memory(NULL, "text", "text", 4, NULL, &plugin, &error), GRAFT_E_FORMAT, "text");
    graft_plugin *evaluator = NULL;
    OK(graft_plugin_load(NULL, "exact-match", NULL, &evaluator, &error));
    FAILS(graft_plugin_convert(evaluator, &request, NULL, &error), GRAFT_E_INCOMPATIBLE, "is an evaluator");
    graft_plugin_release(evaluator);

    /* Limits and trust. */
    graft_plugin_limits limits = GRAFT_INIT(graft_plugin_limits);
    limits.samples = 3;
    graft_plugin_options options = GRAFT_INIT(graft_plugin_options);
    options.limits = &limits;
    graft_plugin *small = NULL;
    OK(graft_plugin_load(NULL, "ubiai", &options, &small, &error));
    seen.stop_at = 0;
    FAILS(graft_plugin_convert(small, &request, NULL, &error), GRAFT_E_PLUGIN_LIMIT, "samples");
    graft_plugin_release(small);
    options.sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
    FAILS(graft_plugin_load(NULL, "ubiai", &options, &small, &error), GRAFT_E_CORRUPT, "SHA-256");
    options.sha256 = "12";
    FAILS(graft_plugin_load(NULL, "ubiai", &options, &small, &error), GRAFT_E_ARGUMENT, "64");
    options.sha256 = NULL;
    options.flags = 8;
    FAILS(graft_plugin_load(NULL, "ubiai", &options, &small, &error), GRAFT_E_ARGUMENT, "flags");

    graft_plugin_release(plugin);
    graft_plugin_release(sharegpt);
    return 0;
}
