/* Data sets, plans, trainers and jobs through the C interface: trainer MODEL MMPROJ DATA HELD_OUT IMAGES SCRATCH */
#define _DEFAULT_SOURCE
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "graft.h"

static graft_error *error;
static graft_model *model;
static graft_dataset *data, *held_out;
static const char *scratch;

/* A path in the scratch folder. */
static const char *in_scratch(const char *name) {
    static char paths[64][512];
    static int next;
    CHECK(next < 64);
    snprintf(paths[next], sizeof paths[0], "%s/%s", scratch, name);
    return paths[next++];
}

static graft_train_options usual(void) {
    graft_train_options options = GRAFT_INIT(graft_train_options);
    options.rank = 4;
    options.batch_size = 4;
    options.learning_rate = 1e-3;
    options.dropout = 0.1f;
    options.max_steps = 6;
    return options;
}

static graft_trainer *trainer_of(const graft_train_options *options, const graft_dataset *eval_data) {
    graft_trainer *trainer = NULL;
    OK(graft_trainer_create(model, data, eval_data, options, &trainer, &error));
    return trainer;
}

/* ------------------------------------------------------------------------------------------------------ datasets */

struct remarks {
    int errors, others;
    int32_t answer;
    char code[64], location[256];
};

static int32_t remark(void *userdata, uint32_t severity, const char *code, const char *message, const char *location) {
    struct remarks *remarks = userdata;
    CHECK(severity <= GRAFT_SEVERITY_ERROR && strlen(message) > 10);
    severity == GRAFT_SEVERITY_ERROR ? remarks->errors++ : remarks->others++;
    snprintf(remarks->code, sizeof remarks->code, "%s", code);
    snprintf(remarks->location, sizeof remarks->location, "%s", location ? location : "");
    return remarks->answer;
}

static void datasets(const char *path) {
    uint64_t count = 0, errors = 99;
    OK(graft_dataset_count(data, &count));
    CHECK(count == 24);
    graft_buffer *json = NULL;
    OK(graft_dataset_sample(data, 0, &json, &error));
    CHECK(strstr(graft_buffer_data(json), "\"conversations\"") && strstr(graft_buffer_data(json), ".png"));
    graft_buffer_release(json);
    FAILS(graft_dataset_sample(data, count, &json, &error), GRAFT_E_NOT_FOUND, "there are 24");

    struct remarks remarks = {0};
    graft_dataset_check_options options = GRAFT_INIT(graft_dataset_check_options);
    options.model = model;
    OK(graft_dataset_check(data, &options, remark, &remarks, &errors, &error));
    CHECK(errors == 0 && remarks.errors == 0 && remarks.others == 0);
    options.max_length = 4;
    OK(graft_dataset_check(data, &options, remark, &remarks, &errors, &error));
    CHECK(errors == 0 && remarks.others == 24 && !strcmp(remarks.code, "no-answer"));
    CHECK(strstr(remarks.location, "\"record_index\":23"));

    /* Where no images are. */
    graft_dataset *blind = NULL;
    OK(graft_dataset_open(path, scratch, &blind, &error));
    OK(graft_dataset_check(blind, NULL, remark, &remarks, &errors, &error));
    CHECK(errors == 24 && remarks.errors == 24 && !strcmp(remarks.code, "image-missing"));
    OK(graft_dataset_check(blind, NULL, NULL, NULL, &errors, &error));
    remarks.answer = 1;
    FAILS(graft_dataset_check(blind, NULL, remark, &remarks, &errors, &error), GRAFT_E_CANCELLED, "interrupted");
    CHECK(remarks.errors == 25);
    options = (graft_dataset_check_options)GRAFT_INIT(graft_dataset_check_options);
    OK(graft_cancel_create(&options.cancel));
    graft_cancel_signal(options.cancel);
    FAILS(graft_dataset_check(blind, &options, NULL, NULL, NULL, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_cancel_release(options.cancel);
    graft_trainer *none = NULL;
    FAILS(graft_trainer_create(model, blind, NULL, NULL, &none, &error), GRAFT_E_FORMAT, "there is no image");

    graft_dataset_retain(blind);
    graft_dataset_release(blind);
    OK(graft_dataset_count(blind, &count));
    graft_dataset_release(blind);
    CHECK(graft_dataset_count(blind, &count) == GRAFT_E_HANDLE);
    FAILS(graft_dataset_open("no/such.json", NULL, &blind, &error), GRAFT_E_NOT_FOUND, "no/such.json");
    FAILS(graft_dataset_open(__FILE__, NULL, &blind, &error), GRAFT_E_FORMAT, "line");
    FAILS(graft_dataset_open(NULL, NULL, &blind, &error), GRAFT_E_ARGUMENT, "path is NULL");
    FAILS(graft_dataset_check((graft_dataset *)model, NULL, NULL, NULL, NULL, &error), GRAFT_E_HANDLE, "is a model");
}

/* --------------------------------------------------------------------------------------------------------- plans */

static void plans(const char *model_path) {
    graft_train_options options = usual();
    graft_plan plan = GRAFT_INIT(graft_plan), lean = GRAFT_INIT(graft_plan);
    graft_buffer *details = NULL;
    OK(graft_plan_training(model, data, held_out, &options, &plan, &details, &error));
    CHECK(plan.fits && plan.steps == 6 && plan.n_samples == 24 && plan.n_images == 32 && plan.n_trained > 0);
    CHECK(plan.smallest_bytes < plan.peak_bytes && plan.peak_bytes == plan.fastest_bytes);
    CHECK(plan.anonymous_bytes < plan.peak_bytes && plan.longest > 0 && plan.recomputed_layers == 0);
    CHECK(strstr(graft_buffer_data(details), "\"optimizer state\"") && strstr(graft_buffer_data(details), "\"levers\""));
    graft_buffer_release(details);
    options.memory_budget = plan.smallest_bytes;
    OK(graft_plan_training(model, data, held_out, &options, &lean, NULL, &error));
    CHECK(lean.fits && lean.peak_bytes == plan.smallest_bytes && lean.recomputed_layers > 0);
    options.memory_budget--;
    OK(graft_plan_training(model, data, held_out, &options, &lean, NULL, &error));
    CHECK(!lean.fits && lean.peak_bytes == plan.smallest_bytes);
    graft_trainer *none = NULL;
    CHECK(graft_trainer_create(model, data, held_out, &options, &none, &error) == GRAFT_E_BUDGET);
    CHECK(strtoull(graft_error_detail(error, "smallest"), NULL, 10) == plan.smallest_bytes);
    graft_error_release(error);
    error = NULL;

    OK(graft_plan_session(model, 256, 0, 0, &plan, &details, &error));
    CHECK(plan.fits && strstr(graft_buffer_data(details), "keys and values"));
    graft_buffer_release(details);
    OK(graft_plan_session(model, 256, 0, plan.peak_bytes - 1, &lean, NULL, &error));
    CHECK(!lean.fits);
    FAILS(graft_plan_session(NULL, 256, 0, 0, &plan, NULL, &error), GRAFT_E_HANDLE, "NULL");
    FAILS(graft_plan_session(model, UINT32_MAX, UINT32_MAX, 0, &plan, NULL, &error), GRAFT_E_ARGUMENT, "the most");
    FAILS(graft_plan_session(model, 256, 0, 0, NULL, NULL, &error), GRAFT_E_ARGUMENT, "out is NULL");

    /* A runtime with a limit: what lives is counted, and comes back. */
    graft_runtime *runtime = NULL;
    graft_runtime_options with = GRAFT_INIT(graft_runtime_options);
    graft_memory_stats stats = GRAFT_INIT(graft_memory_stats);
    graft_model *other = NULL;
    for (int small = 0; small < 2; small++) {
        with.memory_limit = small ? 1 << 20 : 1u << 30;
        OK(graft_runtime_create(&with, &runtime, &error));
        OK(graft_model_open(runtime, model_path, NULL, &other, &error));
        graft_dataset *text = NULL;
        FILE *file = fopen(in_scratch("text.json"), "w");
        CHECK(file && fputs("{\"id\": \"1\", \"conversations\": [{\"from\": \"human\", \"value\": \"What?\"}, "
                            "{\"from\": \"gpt\", \"value\": \"one\"}]}\n", file) > 0 && !fclose(file));
        OK(graft_dataset_open(in_scratch("text.json"), NULL, &text, &error));
        graft_train_options short_run = usual();
        OK(graft_plan_training(other, text, NULL, &short_run, &plan, NULL, &error));
        CHECK(plan.fits == !small);
        if (small) {
            FAILS(graft_trainer_create(other, text, NULL, &short_run, &none, &error), GRAFT_E_BUDGET, "do not fit");
        } else {
            graft_trainer *counted = NULL;
            OK(graft_trainer_create(other, text, NULL, &short_run, &counted, &error));
            OK(graft_runtime_memory(runtime, &stats));
            CHECK(stats.planned == plan.anonymous_bytes);
            graft_trainer_release(counted);
        }
        OK(graft_runtime_memory(runtime, &stats));
        CHECK(stats.planned == 0);
        graft_dataset_release(text);
        graft_model_release(other);
        graft_runtime_release(runtime);
    }
}

/* ------------------------------------------------------------------------------------------------------- updates */

static graft_trainer *called;

static int32_t watch(void *userdata, const graft_train_metrics *metrics) {
    graft_train_metrics now = GRAFT_INIT(graft_train_metrics);
    OK(graft_trainer_metrics(called, &now));
    CHECK(now.step == metrics->step && metrics->state == GRAFT_TRAIN_RUNNING);
    graft_status again = graft_trainer_step(called, 1, NULL, NULL, NULL);
    CHECK(again == GRAFT_E_BUSY);
    const int32_t *answers = userdata;
    return answers[metrics->step];
}

static void updates(void) {
    graft_train_options options = usual();
    graft_train_metrics metrics = GRAFT_INIT(graft_train_metrics);
    double losses[7] = {0};
    graft_trainer *trainer = trainer_of(&options, held_out);
    OK(graft_trainer_metrics(trainer, &metrics));
    CHECK(metrics.state == GRAFT_TRAIN_READY && metrics.step == 0 && metrics.steps == 6 && metrics.planned_bytes > 0);
    double before = 0, after = 0;
    OK(graft_trainer_evaluate(trainer, NULL, &before, &error));
    for (int i = 1; i <= 6; i++) {
        graft_status status = graft_trainer_step(trainer, 1, NULL, &metrics, &error);
        CHECK(status == (i < 6 ? GRAFT_OK : GRAFT_DONE) && metrics.step == (uint64_t)i && metrics.loss > 0);
        CHECK(metrics.tokens > metrics.learned_tokens && metrics.learned_tokens > 0 && metrics.grad_norm > 0);
        losses[i] = metrics.loss;
    }
    CHECK(metrics.state == GRAFT_TRAIN_FINISHED && metrics.eval_step == 6 && metrics.best_step == 6);
    CHECK(graft_trainer_step(trainer, 1, NULL, &metrics, &error) == GRAFT_DONE && metrics.step == 6);
    OK(graft_trainer_evaluate(trainer, NULL, &after, &error));
    CHECK(after == metrics.eval_loss && after < before);

    /* What was learned is used while the trainer lives, and after. */
    graft_adapter *adapter = NULL;
    OK(graft_trainer_adapter(trainer, &adapter, &error));
    graft_trainer_release(trainer);
    options.initial = adapter;
    trainer = trainer_of(&options, held_out);
    graft_adapter_retain(adapter);
    graft_adapter_release(adapter);
    graft_adapter_release(adapter);
    double begins = 0;
    OK(graft_trainer_evaluate(trainer, NULL, &begins, &error));
    CHECK(begins == after);
    graft_trainer_release(trainer);
    options.initial = NULL;

    /* Half of it, saved; the rest in another trainer, from the checkpoint: the same losses, bit for bit. */
    trainer = trainer_of(&options, NULL);
    OK(graft_trainer_step(trainer, 3, NULL, &metrics, &error));
    CHECK(metrics.loss == losses[3]);
    graft_buffer *path = NULL;
    OK(graft_trainer_checkpoint(trainer, in_scratch("half"), &path, &error));
    CHECK(!strcmp(graft_buffer_data(path), in_scratch("half")));
    graft_buffer_release(path);
    OK(graft_trainer_checkpoint(trainer, in_scratch("half"), NULL, &error));
    FAILS(graft_trainer_checkpoint(trainer, scratch, NULL, &error), GRAFT_E_FORMAT, "something else");
    FAILS(graft_trainer_checkpoint(trainer, NULL, NULL, &error), GRAFT_E_ARGUMENT, "run folder");
    FAILS(graft_trainer_evaluate(trainer, NULL, &after, &error), GRAFT_E_STATE, "evaluation data");
    OK(graft_trainer_step(trainer, 1, NULL, &metrics, &error));
    CHECK(metrics.loss == losses[4]);
    OK(graft_trainer_resume(trainer, in_scratch("half"), &error));
    OK(graft_trainer_metrics(trainer, &metrics));
    CHECK(metrics.step == 3 && metrics.state == GRAFT_TRAIN_READY);
    OK(graft_trainer_step(trainer, 1, NULL, &metrics, &error));
    CHECK(metrics.loss == losses[4]);
    graft_trainer_release(trainer);
    graft_train_options as_saved = GRAFT_INIT(graft_train_options);
    as_saved.resume_from = in_scratch("half");
    as_saved.flags = GRAFT_TRAIN_AS_CHECKPOINT;
    trainer = trainer_of(&as_saved, NULL);
    for (int i = 4; i <= 6; i++) {
        OK(graft_trainer_step(trainer, 1, NULL, &metrics, &error));
        CHECK(metrics.loss == losses[i]);
    }
    OK(graft_trainer_export(trainer, in_scratch("a.gguf"), NULL, &error));
    OK(graft_trainer_export(trainer, in_scratch("peft"), "peft", &error));
    CHECK(!access(in_scratch("a.gguf"), R_OK) && !access(in_scratch("peft/adapter_config.json"), R_OK));
    FAILS(graft_trainer_export(trainer, in_scratch("b.gguf"), "mmproj", &error), GRAFT_E_STATE, "projector");
    FAILS(graft_trainer_export(trainer, in_scratch("b.gguf"), "onnx", &error), GRAFT_E_ARGUMENT, "onnx");
    CHECK(access(in_scratch("b.gguf"), F_OK));
    graft_trainer_release(trainer);
    graft_train_options other = usual();
    other.resume_from = in_scratch("half");
    other.learning_rate = 2e-3;
    FAILS(graft_trainer_create(model, data, NULL, &other, &trainer, &error), GRAFT_E_FORMAT, "the options changed");

    /* A callback pauses after the second, and ends it after the fourth; a pause from outside waits for the next call. */
    called = trainer = trainer_of(&options, NULL);
    int32_t answers[7] = {0, 0, 1, 0, 2, 0, 0};
    CHECK(graft_trainer_run(trainer, watch, answers, NULL, &error) == GRAFT_OK);
    OK(graft_trainer_metrics(trainer, &metrics));
    CHECK(metrics.state == GRAFT_TRAIN_PAUSED && metrics.step == 2);
    graft_trainer_pause(trainer);
    CHECK(graft_trainer_run(trainer, watch, answers, NULL, &error) == GRAFT_OK);
    OK(graft_trainer_metrics(trainer, &metrics));
    CHECK(metrics.step == 2);
    CHECK(graft_trainer_run(trainer, watch, answers, NULL, &error) == GRAFT_DONE);
    OK(graft_trainer_metrics(trainer, &metrics));
    CHECK(metrics.state == GRAFT_TRAIN_FINISHED && metrics.step == 4 && metrics.loss == losses[4]);
    graft_trainer_release(trainer);
    called = trainer = trainer_of(&options, NULL);
    answers[1] = 7;
    FAILS(graft_trainer_run(trainer, watch, answers, NULL, &error), GRAFT_E_CALLBACK, "returned 7");
    OK(graft_trainer_step(trainer, 1, NULL, &metrics, &error));
    CHECK(metrics.step == 2 && metrics.loss == losses[2]);
    graft_trainer_release(trainer);
    CHECK(graft_trainer_metrics(trainer, &metrics) == GRAFT_E_HANDLE);
    FAILS(graft_trainer_step(trainer, 1, NULL, NULL, &error), GRAFT_E_HANDLE, "released");
    graft_trainer_pause(trainer);
}

/* ----------------------------------------------------------------------------------------------------- cancelling */

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double raised_at;

static void *raise_later(void *cancel) {
    usleep(60 * 1000);
    raised_at = cpu_seconds();
    graft_cancel_signal(cancel);
    return NULL;
}

static void cancelling(void) {
    graft_train_options options = usual();
    options.batch_size = 24; /* so that it is raised within an update */
    options.max_steps = UINT64_MAX;
    graft_trainer *trainer = trainer_of(&options, NULL);
    graft_cancel *cancel = NULL;
    pthread_t thread;
    OK(graft_cancel_create(&cancel));
    CHECK(!pthread_create(&thread, NULL, raise_later, cancel));
    CHECK(graft_trainer_run(trainer, NULL, NULL, cancel, &error) == GRAFT_E_CANCELLED);
    /* 100 ms of each thread, however busy the machine is. */
    double cpu = cpu_seconds() - raised_at;
    CHECK(!pthread_join(thread, NULL));
    CHECK(cpu < 0.1 * (double)sysconf(_SC_NPROCESSORS_ONLN));
    graft_error_release(error);
    error = NULL;
    graft_train_metrics metrics = GRAFT_INIT(graft_train_metrics);
    OK(graft_trainer_metrics(trainer, &metrics));
    CHECK(metrics.state == GRAFT_TRAIN_PAUSED);
    uint64_t done = metrics.step;
    FAILS(graft_trainer_step(trainer, 1, cancel, NULL, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_cancel_reset(cancel);
    OK(graft_trainer_step(trainer, 1, cancel, &metrics, &error));
    CHECK(metrics.step == done + 1 && metrics.state == GRAFT_TRAIN_READY);
    graft_trainer_release(trainer);

    graft_cancel_signal(cancel);
    options.cancel = cancel;
    FAILS(graft_trainer_create(model, data, NULL, &options, &trainer, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_cancel_release(cancel);
}

/* ----------------------------------------------------------------------------------------------------------- jobs */

static void jobs(void) {
    graft_train_options options = usual();
    options.run_folder = in_scratch("run");
    options.save_every = 2;
    options.eval_every = 3;
    graft_trainer *trainer = trainer_of(&options, held_out), *other = NULL;
    FAILS(graft_trainer_create(model, data, NULL, &options, &other, &error), GRAFT_E_BUSY, "is at work");
    graft_job *job = NULL;
    OK(graft_trainer_start(trainer, &job, &error));
    intptr_t fd = -1;
    OK(graft_job_event_fd(job, &fd, &error));
    uint64_t steps = 0, checkpoints = 0, finished = 0;
    for (;;) {
        struct pollfd waits = {.fd = (int)fd, .events = POLLIN, .revents = 0};
        CHECK(poll(&waits, 1, -1) == 1 && waits.revents == POLLIN);
        graft_event event = GRAFT_INIT(graft_event);
        graft_status status = graft_job_next_event(job, 0, &event);
        if (status == GRAFT_DONE) break;
        CHECK(status == GRAFT_OK && !finished);
        switch (event.kind) {
        case GRAFT_EVENT_METRICS:
            CHECK(event.metrics->step == ++steps && event.done == steps && event.total == 6);
            break;
        case GRAFT_EVENT_CHECKPOINT:
            CHECK(strstr(event.text, "/run/checkpoint-") && strlen(event.text) == event.text_len);
            checkpoints++;
            break;
        case GRAFT_EVENT_FINISHED:
            CHECK(event.status == GRAFT_DONE);
            finished = 1;
            break;
        default:
            CHECK(0);
        }
    }
    CHECK(steps == 6 && checkpoints == 3 && finished);
    CHECK(graft_job_wait(job, 0, &error) == GRAFT_DONE && graft_job_wait(job, GRAFT_FOREVER, &error) == GRAFT_DONE);
    graft_job_release(job);
    CHECK(!access(in_scratch("run/adapter.gguf"), R_OK) && !access(in_scratch("run/metrics.jsonl"), R_OK));
    CHECK(!access(in_scratch("run/checkpoint-6/state.json"), R_OK) && access(in_scratch("run/checkpoint-2"), F_OK));

    /* Back to an earlier one, in the same folder. */
    OK(graft_trainer_resume(trainer, in_scratch("run/checkpoint-4"), &error));
    graft_train_metrics metrics = GRAFT_INIT(graft_train_metrics);
    CHECK(graft_trainer_step(trainer, 2, NULL, &metrics, &error) == GRAFT_DONE && metrics.step == 6);
    graft_trainer_release(trainer);
    FAILS(graft_trainer_create(model, data, NULL, &options, &trainer, &error), GRAFT_E_STATE, "already holds a run");
    options.resume_from = in_scratch("run");
    trainer = trainer_of(&options, held_out);
    CHECK(graft_trainer_step(trainer, 1, NULL, &metrics, &error) == GRAFT_DONE && metrics.step == 6);
    graft_trainer_release(trainer);

    /* The trainer is the job's until the job ends: by cancelling, by pausing, by letting it go. */
    options = usual();
    options.max_steps = 1000000;
    trainer = trainer_of(&options, NULL);
    graft_job *second = NULL;
    OK(graft_trainer_start(trainer, &job, &error));
    FAILS(graft_trainer_step(trainer, 1, NULL, NULL, &error), GRAFT_E_BUSY, "another call");
    FAILS(graft_trainer_start(trainer, &second, &error), GRAFT_E_BUSY, "another call");
    CHECK(graft_job_wait(job, 1, &error) == GRAFT_PENDING);
    graft_job_cancel(job);
    FAILS(graft_job_wait(job, GRAFT_FOREVER, &error), GRAFT_E_CANCELLED, "interrupted");
    FAILS(graft_job_wait(job, 0, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_job_release(job);
    OK(graft_trainer_start(trainer, &job, &error));
    graft_trainer_pause(trainer);
    CHECK(graft_job_wait(job, GRAFT_FOREVER, &error) == GRAFT_OK);
    graft_job_release(job);
    OK(graft_trainer_start(trainer, &job, &error));
    graft_trainer_release(trainer);
    graft_job_release(job);
    CHECK(graft_job_wait(job, 0, NULL) == GRAFT_E_HANDLE);
    graft_job_cancel(job);
    graft_job_release(NULL);
}

/* A file may not grow: the run waits, says so, and goes on. */
static void waiting(void) {
    graft_train_options options = usual();
    options.run_folder = in_scratch("waits");
    graft_trainer *trainer = trainer_of(&options, NULL);
    struct rlimit limit;
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && !getrlimit(RLIMIT_FSIZE, &limit));
    struct rlimit small = {.rlim_cur = 600, .rlim_max = limit.rlim_max};
    CHECK(!setrlimit(RLIMIT_FSIZE, &small));
    graft_job *job = NULL;
    OK(graft_trainer_start(trainer, &job, &error));
    graft_event event = GRAFT_INIT(graft_event);
    int waits = 0;
    while (!waits) {
        CHECK(graft_job_next_event(job, GRAFT_FOREVER, &event) == GRAFT_OK);
        waits = event.kind == GRAFT_EVENT_METRICS && event.metrics->state == GRAFT_TRAIN_WAITING;
    }
    CHECK(event.metrics->lack == GRAFT_LACK_LENGTH);
    graft_train_metrics metrics = GRAFT_INIT(graft_train_metrics);
    OK(graft_trainer_metrics(trainer, &metrics));
    CHECK(metrics.state == GRAFT_TRAIN_WAITING);
    graft_trainer_pause(trainer); /* ends the wait; what is owed is written first when it goes on */
    CHECK(graft_job_wait(job, GRAFT_FOREVER, &error) == GRAFT_OK);
    graft_job_release(job);
    CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
    CHECK(graft_trainer_run(trainer, NULL, NULL, NULL, &error) == GRAFT_DONE);
    graft_trainer_release(trainer);
    char line[2048];
    int lines = 0;
    FILE *record = fopen(in_scratch("waits/metrics.jsonl"), "r");
    CHECK(record);
    while (fgets(line, sizeof line, record)) lines++;
    fclose(record);
    CHECK(lines == 6);
}

/* -------------------------------------------------------------------------------------------------------- options */

static void refused_options(void) {
    graft_trainer *none = NULL;
    graft_train_options options = usual();
#define REFUSED(change, field, words)                                                                  \
    do {                                                                                               \
        options = usual();                                                                             \
        change;                                                                                        \
        CHECK(graft_trainer_create(model, data, NULL, &options, &none, &error) == GRAFT_E_ARGUMENT);   \
        CHECK(!strcmp(graft_error_detail(error, "field"), field));                                     \
        CHECK(strstr(graft_error_message(error), words));                                              \
        graft_error_release(error);                                                                    \
        error = NULL;                                                                                  \
    } while (0)
    REFUSED(options.flags = 1u << 31, "flags", "0x80000000");
    REFUSED(options.optimizer = 2, "optimizer", "is 2");
    REFUSED(options.schedule = 3, "schedule", "is 3");
    REFUSED(options.weights_place = 3, "weights_place", "is 3");
    REFUSED(options.learning_rate = -1, "lr", "from 0 on");
    REFUSED(options.learning_rate = NAN, "lr", "from 0 on");
    REFUSED(options.dropout = 1, "dropout", "below 1");
    REFUSED(options.rank = 100000, "rank", "16384");
    REFUSED(options.extra_json = "{\"batch\": 18446744073709551615}", "batch", "1048576");
    REFUSED(options.early_stop_delta = -1, "early_stop_delta", "from 0 on");
    REFUSED(options.early_stop = 2, "eval_every", "eval_data");
    REFUSED(options.extra_json = "{\"rnak\": 3}", "extra_json", "rnak");
    REFUSED(options.extra_json = "{", "extra_json", "JSON");
    options = usual();
    options.targets = "no_such_proj";
    FAILS(graft_trainer_create(model, data, NULL, &options, &none, &error), GRAFT_E_ARGUMENT, "no_such_proj");
    options = usual();
    options.template_name = "no such template";
    FAILS(graft_trainer_create(model, data, NULL, &options, &none, &error), GRAFT_E_NOT_FOUND, "no such template");
    FAILS(graft_trainer_create(model, NULL, NULL, NULL, &none, &error), GRAFT_E_HANDLE, "dataset");
    FAILS(graft_trainer_create(model, data, NULL, NULL, NULL, &error), GRAFT_E_ARGUMENT, "out is NULL");
    options = usual();
    options.struct_size = 0;
    FAILS(graft_trainer_create(model, data, NULL, &options, &none, &error), GRAFT_E_ARGUMENT, "GRAFT_INIT");
    /* Of an older program, which knows flags and rank. */
    options = usual();
    options.struct_size = 12;
    graft_plan plan = GRAFT_INIT(graft_plan);
    OK(graft_plan_training(model, data, NULL, &options, &plan, NULL, &error));
    CHECK(plan.steps == 24);
    options = usual();
    options.extra_json = "{\"steps\": 9}";
    OK(graft_plan_training(model, data, NULL, &options, &plan, NULL, &error));
    CHECK(plan.steps == 9);
}

int main(int argc, char **argv) {
    CHECK(argc == 7);
    graft_model_options with = GRAFT_INIT(graft_model_options);
    with.projector_path = argv[2];
    scratch = argv[6];
    OK(graft_model_open(NULL, argv[1], &with, &model, &error));
    OK(graft_dataset_open(argv[3], argv[5], &data, &error));
    OK(graft_dataset_open(argv[4], argv[5], &held_out, &error));
    datasets(argv[3]);
    plans(argv[1]);
    refused_options();
    updates();
    cancelling();
    jobs();
    waiting();
    graft_dataset_release(data);
    graft_dataset_release(held_out);
    graft_model_release(model);
    return 0;
}
