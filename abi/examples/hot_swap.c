/* Two adapters take turns on one live session: hot_swap MODEL FIRST SECOND PROMPT
 *
 * Swapping takes microseconds. The answer is always that of the adapter at work, as if it had been there from the
 * first token: the session runs the prompt again under it. */
#include <stdio.h>
#include <stdlib.h>

#include <graft.h>

static void check(graft_status status, graft_error **error) {
    if (status >= 0) return;
    fprintf(stderr, "hot_swap: %s\n", error ? graft_error_message(*error) : graft_status_name(status));
    exit(1);
}

static int32_t on_text(void *userdata, const char *text, size_t length) {
    fwrite(text, 1, length, userdata);
    return 0;
}

int main(int argc, char **argv) {
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_session *session = NULL;
    graft_adapter_binding adapters[2] = {GRAFT_INIT(graft_adapter_binding), GRAFT_INIT(graft_adapter_binding)};
    if (argc != 5) return fprintf(stderr, "usage: hot_swap MODEL FIRST SECOND PROMPT\n"), 2;

    check(graft_model_open(NULL, argv[1], NULL, &model, &error), &error);
    check(graft_session_create(model, NULL, &session, &error), &error);
    for (int i = 0; i < 2; i++) {
        adapters[i].strength = 1.0f;
        check(graft_adapter_open(model, argv[2 + i], &adapters[i].adapter, &error), &error);
    }

    for (int turn = 0; turn < 4; turn++) {
        graft_adapter_info info = GRAFT_INIT(graft_adapter_info);
        check(graft_adapter_get_info(adapters[turn % 2].adapter, &info), NULL);
        check(graft_session_set_adapters(session, &adapters[turn % 2], 1, 0, &error), &error);

        graft_generate_request request = GRAFT_INIT(graft_generate_request);
        request.text = argv[4];
        request.text_len = GRAFT_NUL_TERMINATED;
        request.max_tokens = 32;
        request.on_text = on_text;
        request.userdata = stdout;
        printf("%s: ", info.name);
        check(graft_session_generate(session, &request, NULL, &error), &error);
        printf("\n");
    }

    /* Both at once, the second at half its strength; then the model alone. */
    adapters[1].strength = 0.5f;
    check(graft_session_set_adapters(session, adapters, 2, 0, &error), &error);
    check(graft_session_set_adapters(session, NULL, 0, 0, &error), &error);

    for (int i = 0; i < 2; i++) graft_adapter_release(adapters[i].adapter);
    graft_session_release(session);
    graft_model_release(model);
    return 0;
}
