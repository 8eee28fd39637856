/* Sessions that run together, through the C interface: batch MODEL MMPROJ IMAGE ADAPTER SEEING-ADAPTER */
#include <math.h>
#include <pthread.h>
#include <time.h>

#include "check.h"
#include "graft.h"

#define SESSIONS 4

static graft_message question(graft_image *const *image, const char *text) {
    graft_message message = GRAFT_INIT(graft_message);
    message.role = "user";
    message.text = text;
    message.text_len = GRAFT_NUL_TERMINATED;
    message.images = image;
    message.n_images = image != NULL;
    return message;
}

struct answer {
    graft_session *session;
    int stop_at, calls, dawdles;
    char text[4096];
};

static int32_t add(void *userdata, const char *text, size_t length) {
    struct answer *answer = userdata;
    CHECK(strlen(answer->text) + length < sizeof answer->text);
    strcat(answer->text, text);
    /* All sessions are at work, whoever's text it is. */
    if (answer->session) CHECK(graft_session_reset(answer->session, NULL) == GRAFT_E_BUSY);
    if (answer->dawdles) nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    return ++answer->calls == answer->stop_at;
}

static int32_t forbidden(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    (void)userdata, (void)stage, (void)done, (void)total;
    return 0;
}

static graft_session *open(graft_model *model, graft_adapter *adapter, uint32_t n_context) {
    graft_error *error = NULL;
    graft_session *session = NULL;
    graft_session_options options = GRAFT_INIT(graft_session_options);
    options.n_context = n_context;
    OK(graft_session_create(model, &options, &session, &error));
    graft_adapter_binding binding = GRAFT_INIT(graft_adapter_binding);
    binding.adapter = adapter;
    binding.strength = 1;
    OK(graft_session_set_adapters(session, &binding, adapter != NULL, 0, &error));
    return session;
}

static uint32_t positions(const graft_session *session) {
    graft_session_info info = GRAFT_INIT(graft_session_info);
    CHECK(graft_session_get_info(session, &info) == GRAFT_OK);
    return info.n_positions;
}

static void *raise_soon(void *cancel) {
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    graft_cancel_signal(cancel);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 6);
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_image *image = NULL;
    graft_adapter *adapters[SESSIONS] = {NULL};
    graft_batch *batch = NULL;
    graft_memory_stats before = GRAFT_INIT(graft_memory_stats), after = before;
    OK(graft_runtime_memory(NULL, &before));
    graft_model_options seeing = GRAFT_INIT(graft_model_options);
    seeing.projector_path = argv[2];
    OK(graft_model_open(NULL, argv[1], &seeing, &model, &error));
    OK(graft_image_open(NULL, argv[3], NULL, &image, &error));
    OK(graft_adapter_open(model, argv[4], &adapters[1], &error));
    OK(graft_adapter_open(model, argv[5], &adapters[2], &error));
    adapters[3] = adapters[1];

    graft_batch_options options = GRAFT_INIT(graft_batch_options);
    options.n_sessions = SESSIONS;
    options.n_context = 256;
    options.memory_budget = 1000;
    FAILS(graft_batch_create(model, &options, &batch, &error), GRAFT_E_BUDGET, "needs");
    options.memory_budget = 0;
    OK(graft_batch_create(model, &options, &batch, &error));
    OK(graft_runtime_memory(NULL, &after));
    CHECK(after.planned > before.planned);

    /* Each answers as it would alone, with and without adapters and images. */
    graft_session *alone[SESSIONS], *together[SESSIONS];
    struct answer by_itself[SESSIONS] = {0}, in_batch[SESSIONS] = {0};
    graft_generate_request requests[SESSIONS];
    graft_generate_result results[SESSIONS], expected = GRAFT_INIT(graft_generate_result);
    graft_batch_request asked[SESSIONS];
    graft_message messages[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        alone[i] = open(model, adapters[i], 256);
        together[i] = open(model, adapters[i], 256);
        messages[i] = question(i % 2 ? NULL : &image, i % 2 ? "How are you?" : "Which digit is this?");
        requests[i] = (graft_generate_request)GRAFT_INIT(graft_generate_request);
        requests[i].messages = &messages[i];
        requests[i].n_messages = 1;
        requests[i].max_tokens = (uint32_t)(4 + 2 * i);
        requests[i].on_text = add;
        requests[i].userdata = &by_itself[i];
        OK(graft_session_generate(alone[i], &requests[i], &expected, &error));
        requests[i].userdata = &in_batch[i];
        in_batch[i].session = together[0];
        results[i] = (graft_generate_result)GRAFT_INIT(graft_generate_result);
        asked[i] = (graft_batch_request)GRAFT_INIT(graft_batch_request);
        asked[i].session = together[i];
        asked[i].request = &requests[i];
        asked[i].result = &results[i];
    }
    OK(graft_batch_generate(batch, asked, SESSIONS, NULL, &error));
    for (int i = 0; i < SESSIONS; i++) {
        CHECK(strlen(in_batch[i].text) > 0 && !strcmp(in_batch[i].text, by_itself[i].text));
        CHECK(positions(together[i]) == positions(alone[i]));
        CHECK(results[i].finish == GRAFT_FINISH_LENGTH || results[i].finish == GRAFT_FINISH_END);
        CHECK(results[i].n_reused == 0 && results[i].n_prompt > 0 && results[i].n_generated > 0);
    }

    /* What a session holds already is not run again, and a session that went on alone is as welcome. */
    in_batch[1].session = NULL;
    OK(graft_session_generate(together[1], &requests[1], &expected, &error));
    OK(graft_batch_generate(batch, asked, SESSIONS, NULL, &error));
    CHECK(results[0].n_reused + 1 >= results[0].n_prompt && results[1].n_reused + 1 >= results[1].n_prompt);

    /* Feeding, and logits as they are alone. */
    graft_token ids[] = {1, 5, 9, 20, GRAFT_TOKEN_IMAGE, 7};
    graft_batch_input inputs[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        OK(graft_session_reset(alone[i], &error));
        OK(graft_session_reset(together[i], &error));
        inputs[i] = (graft_batch_input)GRAFT_INIT(graft_batch_input);
        inputs[i].session = together[i];
        inputs[i].tokens = ids;
        inputs[i].n_tokens = i == 2 ? 6 : (size_t)i + 1;
        inputs[i].images = &image;
        inputs[i].n_images = i == 2;
        OK(graft_session_feed(alone[i], ids, i == 2 ? 4 : (size_t)i + 1, NULL, &error));
        if (i != 2) continue;
        OK(graft_session_feed_image(alone[i], image, NULL, &error));
        OK(graft_session_feed(alone[i], ids + 5, 1, NULL, &error));
    }
    OK(graft_batch_feed(batch, inputs, SESSIONS, NULL, &error));
    const float *each = NULL, *own = NULL;
    size_t n = 0, n_own = 0;
    OK(graft_batch_logits(batch, together, SESSIONS, NULL, &each, &n, &error));
    for (int i = 0; i < SESSIONS; i++) {
        OK(graft_session_logits(alone[i], NULL, &own, &n_own, &error));
        CHECK(n == n_own);
        for (size_t v = 0; v < n; v++) CHECK(fabs((double)each[(size_t)i * n + v] - own[v]) < 1e-3);
    }

    /* What cannot be done is refused whole. */
    uint32_t held = positions(together[0]);
    inputs[1].n_tokens = 6;
    FAILS(graft_batch_feed(batch, inputs, SESSIONS, NULL, &error), GRAFT_E_ARGUMENT, "images");
    inputs[1].session = together[0];
    inputs[1].n_tokens = 1;
    FAILS(graft_batch_feed(batch, inputs, 2, NULL, &error), GRAFT_E_ARGUMENT, "given twice");
    inputs[1].session = NULL;
    FAILS(graft_batch_feed(batch, inputs, 2, NULL, &error), GRAFT_E_HANDLE, "NULL");
    FAILS(graft_batch_feed(batch, NULL, 2, NULL, &error), GRAFT_E_ARGUMENT, "inputs");
    graft_session *longer = open(model, NULL, 300), *empty = open(model, NULL, 256);
    inputs[1].session = longer;
    FAILS(graft_batch_feed(batch, inputs, 2, NULL, &error), GRAFT_E_ARGUMENT, "256");
    FAILS(graft_batch_logits(batch, &empty, 1, NULL, &each, &n, &error), GRAFT_E_STATE, "nothing was fed");
    CHECK(positions(together[0]) == held && positions(longer) == 0);
    graft_session *five[] = {together[0], together[1], together[2], together[3], empty};
    FAILS(graft_batch_logits(batch, five, 5, NULL, &each, &n, &error), GRAFT_E_ARGUMENT, "more than the 4");
    requests[0].on_progress = forbidden;
    FAILS(graft_batch_generate(batch, asked, 1, NULL, &error), GRAFT_E_ARGUMENT, "on_progress");
    requests[0].on_progress = NULL;
    graft_token many[300] = {0};
    inputs[1].session = together[1];
    inputs[1].tokens = many;
    inputs[1].n_tokens = 300;
    FAILS(graft_batch_feed(batch, inputs, 2, NULL, &error), GRAFT_E_CONTEXT_FULL, "256");
    CHECK(positions(together[0]) == held);
    OK(graft_batch_feed(batch, NULL, 0, NULL, &error));

    /* One that ends early leaves the others; a token of its own ends one answer, the call's token all of them. */
    graft_cancel *one = NULL, *all = NULL;
    OK(graft_cancel_create(&one));
    OK(graft_cancel_create(&all));
    graft_cancel_signal(one);
    requests[1].cancel = one;
    in_batch[3].stop_at = in_batch[3].calls + 1;
    for (int i = 0; i < SESSIONS; i++) in_batch[i].text[0] = 0;
    OK(graft_batch_generate(batch, asked, SESSIONS, all, &error));
    CHECK(results[1].finish == GRAFT_FINISH_CANCELLED && !strlen(in_batch[1].text));
    CHECK(results[3].finish == GRAFT_FINISH_CALLBACK && results[3].n_generated >= 1);
    CHECK(!strcmp(in_batch[0].text, by_itself[0].text) && !strcmp(in_batch[2].text, by_itself[2].text));
    requests[1].cancel = NULL;
    in_batch[3].stop_at = 0;
    graft_cancel_signal(all);
    FAILS(graft_batch_generate(batch, asked, SESSIONS, all, &error), GRAFT_E_CANCELLED, "interrupted");
    CHECK(results[0].finish == GRAFT_FINISH_CANCELLED && results[3].finish == GRAFT_FINISH_CANCELLED);
    FAILS(graft_batch_feed(batch, inputs, 1, all, &error), GRAFT_E_CANCELLED, "interrupted");
    graft_cancel_reset(all);
    pthread_t thread;
    for (int i = 0; i < SESSIONS; i++) requests[i].max_tokens = 0, in_batch[i].dawdles = 1;
    CHECK(!pthread_create(&thread, NULL, raise_soon, all));
    FAILS(graft_batch_generate(batch, asked, SESSIONS, all, &error), GRAFT_E_CANCELLED, "interrupted");
    CHECK(!pthread_join(thread, NULL));
    for (int i = 0; i < SESSIONS; i++) CHECK(results[i].finish != 0);

    /* Released in any order. */
    graft_model_release(model);
    graft_batch_release(batch);
    for (int i = 0; i < SESSIONS; i++) {
        graft_session_release(alone[i]);
        graft_session_release(together[i]);
    }
    graft_session_release(longer);
    graft_session_release(empty);
    graft_image_release(image);
    graft_adapter_release(adapters[1]);
    graft_adapter_release(adapters[2]);
    graft_cancel_release(one);
    graft_cancel_release(all);
    after = before;
    OK(graft_runtime_memory(NULL, &after));
    CHECK(after.planned == before.planned);
    return 0;
}
