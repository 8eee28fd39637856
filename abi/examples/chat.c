/* A conversation in the terminal: chat MODEL [ADAPTER]
 *
 * Answers stream as they are made. Ctrl-C stops an answer and not the program; an empty line, or Ctrl-D, ends it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <graft.h>

#define MOST_TURNS 64

static graft_cancel *cancel;

static void on_interrupt(int signal) {
    (void)signal;
    graft_cancel_signal(cancel); /* safe in a signal handler */
}

struct answer {
    char text[65536];
    size_t length;
};

static int32_t on_text(void *userdata, const char *text, size_t length) {
    struct answer *answer = userdata;
    fwrite(text, 1, length, stdout);
    fflush(stdout);
    if (answer->length + length < sizeof answer->text) {
        memcpy(answer->text + answer->length, text, length);
        answer->length += length;
    }
    return 0;
}

/* Says why a call failed, and ends the program. */
static void check(graft_status status, graft_error **error) {
    if (status >= 0) return;
    fprintf(stderr, "chat: %s\n", error ? graft_error_message(*error) : graft_status_name(status));
    exit(1);
}

int main(int argc, char **argv) {
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_session *session = NULL;
    if (argc < 2) return fprintf(stderr, "usage: chat MODEL [ADAPTER]\n"), 2;

    check(graft_cancel_create(&cancel), NULL);
    signal(SIGINT, on_interrupt);
    check(graft_model_open(NULL, argv[1], NULL, &model, &error), &error);
    check(graft_session_create(model, NULL, &session, &error), &error);
    if (argc > 2) {
        graft_adapter_binding binding = GRAFT_INIT(graft_adapter_binding);
        binding.strength = 1.0f;
        check(graft_adapter_open(model, argv[2], &binding.adapter, &error), &error);
        check(graft_session_set_adapters(session, &binding, 1, 0, &error), &error);
        graft_adapter_release(binding.adapter); /* the session keeps it */
    }

    static char said[MOST_TURNS][4096];
    static struct answer answers[MOST_TURNS];
    graft_message turns[2 * MOST_TURNS];
    for (size_t n = 0; n < MOST_TURNS; n++) {
        printf("> ");
        fflush(stdout);
        if (!fgets(said[n], sizeof said[n], stdin) || said[n][0] == '\n') break;

        graft_message question = GRAFT_INIT(graft_message);
        question.role = "user";
        question.text = said[n];
        question.text_len = strcspn(said[n], "\n");
        turns[2 * n] = question;

        /* The whole conversation each time: only what is new is run. */
        graft_generate_request request = GRAFT_INIT(graft_generate_request);
        request.messages = turns;
        request.n_messages = 2 * n + 1;
        request.max_tokens = 512;
        request.cancel = cancel;
        request.on_text = on_text;
        request.userdata = &answers[n];
        graft_status status = graft_session_generate(session, &request, NULL, &error);
        if (status == GRAFT_E_CANCELLED) {
            printf(" [stopped]");
            graft_error_release(error);
            error = NULL;
            graft_cancel_reset(cancel);
        } else {
            check(status, &error);
        }
        printf("\n");

        graft_message reply = GRAFT_INIT(graft_message);
        reply.role = "assistant";
        reply.text = answers[n].text;
        reply.text_len = answers[n].length;
        turns[2 * n + 1] = reply;
    }

    graft_session_release(session);
    graft_model_release(model);
    graft_cancel_release(cancel);
    return 0;
}
