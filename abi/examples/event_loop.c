/* Training inside a program that has an event loop of its own: event_loop MODEL DATA [ADAPTER.gguf]
 *
 * A job never calls the program: its descriptor becomes readable, as a socket does, and the loop asks what happened.
 * The loop here waits for the job, for lines on stdin ("pause", "quit") and for a clock. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <graft.h>

static void check(graft_status status, graft_error **error) {
    if (status >= 0) return;
    fprintf(stderr, "event_loop: %s\n", error ? graft_error_message(*error) : graft_status_name(status));
    exit(1);
}

/* Shows what waits; 0 when the last event came. */
static int events(graft_job *job) {
    graft_event event = GRAFT_INIT(graft_event);
    for (;;) {
        graft_status status = graft_job_next_event(job, 0, &event);
        if (status == GRAFT_PENDING) return 1;
        if (status == GRAFT_DONE) return 0;
        check(status, NULL);
        if (event.kind == GRAFT_EVENT_METRICS) {
            printf("step %llu of %llu: loss %.4f\n", (unsigned long long)event.metrics->step,
                   (unsigned long long)event.metrics->steps, event.metrics->mean_loss);
        } else if (event.kind == GRAFT_EVENT_CHECKPOINT) {
            printf("saved %s\n", event.text);
        } else if (event.kind == GRAFT_EVENT_FINISHED) {
            printf("the job came to %s\n", graft_status_name(event.status));
        }
    }
}

int main(int argc, char **argv) {
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_dataset *data = NULL;
    graft_trainer *trainer = NULL;
    graft_job *job = NULL;
    intptr_t fd = -1;
    if (argc < 3) return fprintf(stderr, "usage: event_loop MODEL DATA [ADAPTER.gguf]\n"), 2;

    check(graft_model_open(NULL, argv[1], NULL, &model, &error), &error);
    check(graft_dataset_open(argv[2], NULL, &data, &error), &error);
    graft_train_options options = GRAFT_INIT(graft_train_options);
    options.max_steps = 20;
    options.max_length = 256;
    check(graft_trainer_create(model, data, NULL, &options, &trainer, &error), &error);
    check(graft_trainer_start(trainer, &job, &error), &error);
    check(graft_job_event_fd(job, &fd, &error), &error);

    struct pollfd watched[2] = {{(int)fd, POLLIN, 0}, {0, POLLIN, 0}};
    for (int running = 1, seconds = 0; running;) {
        if (poll(watched, 2, 1000) == 0) printf("%d s\n", ++seconds);
        if (watched[0].revents) running = events(job);
        if (watched[1].revents) {
            char line[64];
            if (!fgets(line, sizeof line, stdin)) watched[1].fd = -1; /* nobody types any more */
            else if (!strncmp(line, "pause", 5)) graft_trainer_pause(trainer);
            else if (!strncmp(line, "quit", 4)) graft_job_cancel(job);
        }
    }
    graft_status status = graft_job_wait(job, 0, &error);
    if (status != GRAFT_E_CANCELLED) check(status, &error);
    graft_job_release(job);

    if (argc > 3) check(graft_trainer_export(trainer, argv[3], "gguf", &error), &error);
    graft_trainer_release(trainer);
    graft_dataset_release(data);
    graft_model_release(model);
    return 0;
}
