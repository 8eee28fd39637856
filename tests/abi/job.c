/* Answers in the background, and evaluations: job MODEL MMPROJ DATA IMAGES OUTPUT_FOLDER */
#include <poll.h>

#include "check.h"
#include "graft.h"

static void collect(graft_job *job, char *text, size_t room, graft_generate_result *result) {
    graft_event event = GRAFT_INIT(graft_event);
    graft_status status;
    size_t length = 0;
    int progress = 0, finished = 0;
    while ((status = graft_job_next_event(job, GRAFT_FOREVER, &event)) == GRAFT_OK) {
        CHECK(!finished);
        if (event.kind == GRAFT_EVENT_PROGRESS) {
            CHECK(event.done <= event.total);
            progress++;
        } else if (event.kind == GRAFT_EVENT_TEXT) {
            CHECK(strlen(event.text) == event.text_len && length + event.text_len < room);
            memcpy(text + length, event.text, event.text_len);
            length += event.text_len;
        } else if (event.kind == GRAFT_EVENT_ANSWERED) {
            *result = *event.result;
        } else {
            CHECK(event.kind == GRAFT_EVENT_FINISHED);
            finished = 1;
        }
    }
    CHECK(status == GRAFT_DONE && finished && progress > 0);
    text[length] = 0;
}

struct text {
    char bytes[4096];
    size_t length;
};

static int32_t on_text(void *userdata, const char *text, size_t length) {
    struct text *all = userdata;
    CHECK(all->length + length < sizeof all->bytes);
    memcpy(all->bytes + all->length, text, length);
    all->length += length;
    all->bytes[all->length] = 0;
    return 0;
}

static int32_t count(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    CHECK(!strcmp(stage, "asking") && done <= total);
    ++*(int *)userdata;
    return 0;
}

static int32_t stop(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    (void)userdata, (void)stage, (void)done, (void)total;
    return 1;
}

int main(int argc, char **argv) {
    CHECK(argc == 6);
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_session *session = NULL;
    graft_job *job = NULL;
    graft_model_options seeing = GRAFT_INIT(graft_model_options);
    seeing.projector_path = argv[2];
    OK(graft_model_open(NULL, argv[1], &seeing, &model, &error));
    OK(graft_session_create(model, NULL, &session, &error));

    /* The same answer as in the foreground; the request may go when the call returns. */
    struct text wanted = {{0}, 0};
    graft_generate_request request = GRAFT_INIT(graft_generate_request);
    request.text = "Which digit is this?";
    request.text_len = GRAFT_NUL_TERMINATED;
    request.max_tokens = 12;
    request.on_text = on_text;
    request.userdata = &wanted;
    graft_generate_result result = GRAFT_INIT(graft_generate_result), there = GRAFT_INIT(graft_generate_result);
    OK(graft_session_generate(session, &request, &result, &error));
    FAILS(graft_session_generate_start(session, &request, &job, &error), GRAFT_E_ARGUMENT, "on_text");
    OK(graft_session_reset(session, &error));
    char prompt[] = "Which digit is this?";
    request.text = prompt;
    request.on_text = NULL;
    OK(graft_session_generate_start(session, &request, &job, &error));
    memset(prompt, 'x', sizeof prompt - 1);
    intptr_t fd = -1;
    OK(graft_job_event_fd(job, &fd, &error));
    struct pollfd watched = {(int)fd, POLLIN, 0};
    CHECK(poll(&watched, 1, 60000) == 1);
    char text[4096];
    collect(job, text, sizeof text, &there);
    CHECK(!strcmp(text, wanted.bytes));
    CHECK(there.finish == result.finish && there.n_generated == result.n_generated);
    OK(graft_job_wait(job, 0, &error));
    graft_job_release(job);

    /* A request that cannot be meant is refused by the call itself; a busy session too. */
    request.flags = 128;
    FAILS(graft_session_generate_start(session, &request, &job, &error), GRAFT_E_ARGUMENT, "flags");
    request.flags = 0;
    request.max_tokens = 0;
    OK(graft_session_generate_start(session, &request, &job, &error));
    graft_job *second = NULL;
    graft_status status = graft_session_generate_start(session, &request, &second, &error);
    if (status == GRAFT_OK) { /* the first answer was very short */
        graft_job_release(second);
    } else {
        CHECK(status == GRAFT_E_BUSY);
        graft_error_release(error);
        error = NULL;
    }
    graft_job_cancel(job);
    status = graft_job_wait(job, 60000, &error);
    CHECK(status == GRAFT_E_CANCELLED || status == GRAFT_OK);
    graft_error_release(error);
    error = NULL;
    graft_job_release(job);
    OK(graft_session_reset(session, &error));
    graft_session_release(session);

    /* An evaluation: every sample is asked and scored. */
    graft_dataset *data = NULL;
    graft_plugin *metric = NULL;
    OK(graft_dataset_open(argv[3], argv[4], &data, &error));
    OK(graft_plugin_load(NULL, "exact-match", NULL, &metric, &error));
    char predictions[4096];
    snprintf(predictions, sizeof predictions, "%s/predictions.jsonl", argv[5]);
    int asked = 0;
    graft_buffer *report = NULL;
    graft_evaluation_request evaluation = GRAFT_INIT(graft_evaluation_request);
    evaluation.model = model;
    evaluation.dataset = data;
    evaluation.metric = metric;
    evaluation.limit = 3;
    evaluation.max_tokens = 8;
    evaluation.predictions_path = predictions;
    evaluation.on_progress = stop;
    FAILS(graft_evaluation_run(&evaluation, &report, &error), GRAFT_E_CANCELLED, "interrupted");
    CHECK(!fopen(predictions, "rb"));
    evaluation.on_progress = count;
    evaluation.userdata = &asked;
    /* Stopping raised no token of ours: there was none. */
    OK(graft_evaluation_run(&evaluation, &report, &error));
    CHECK(asked == 3 && strstr(graft_buffer_data(report), "\"accuracy\""));
    CHECK(strstr(graft_buffer_data(report), "\"samples\":3"));
    graft_buffer_release(report);
    CHECK(!remove(predictions));
    FAILS(graft_evaluation_run(NULL, &report, &error), GRAFT_E_ARGUMENT, "request is NULL");
    evaluation.metric_options_json = "{\"no-such-option\":1}";
    FAILS(graft_evaluation_run(&evaluation, &report, &error), GRAFT_E_ARGUMENT, "option");
    evaluation.metric_options_json = NULL;
    graft_plugin *converter = NULL;
    OK(graft_plugin_load(NULL, "ubiai", NULL, &converter, &error));
    evaluation.metric = converter;
    FAILS(graft_evaluation_run(&evaluation, &report, &error), GRAFT_E_INCOMPATIBLE, "is a converter");
    graft_plugin_release(converter);
    graft_plugin *judge = NULL;
    FAILS(graft_plugin_load(NULL, "judge", NULL, &judge, &error), GRAFT_E_DENIED, "granted");
    graft_plugin_options allowed = GRAFT_INIT(graft_plugin_options);
    allowed.flags = GRAFT_PLUGIN_ALLOW_MODEL;
    OK(graft_plugin_load(NULL, "judge", &allowed, &judge, &error));
    evaluation.metric = judge;
    evaluation.judge = model;
    evaluation.limit = 1;
    OK(graft_evaluation_run(&evaluation, &report, &error));
    CHECK(strstr(graft_buffer_data(report), "\"judge\":{"));
    graft_buffer_release(report);
    remove(predictions);

    graft_plugin_release(judge);
    graft_plugin_release(metric);
    graft_dataset_release(data);
    graft_model_release(model);
    return 0;
}
