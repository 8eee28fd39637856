/* Sessions through the C interface: session MODEL MMPROJ IMAGE ADAPTER OTHER-ADAPTER SEEING-ADAPTER */
#include <math.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "graft.h"

#define SESSIONS 8

static graft_message message(const char *role, const char *text) {
    graft_message message = GRAFT_INIT(graft_message);
    message.role = role;
    message.text = text;
    message.text_len = GRAFT_NUL_TERMINATED;
    return message;
}

/* An answer's text, and what its callback does. */
struct answer {
    graft_session *session;
    graft_cancel *raises;
    size_t calls, stop_at;
    int dawdles;
    char text[4096];
};

static int32_t add(void *userdata, const char *text, size_t length) {
    struct answer *answer = userdata;
    CHECK(strlen(text) == length && length > 0);
    CHECK(strlen(answer->text) + length < sizeof answer->text);
    strcat(answer->text, text);
    /* The session is at work. */
    graft_session_info info = GRAFT_INIT(graft_session_info);
    if (answer->session) {
        CHECK(graft_session_get_info(answer->session, &info) == GRAFT_E_BUSY);
        CHECK(graft_session_reset(answer->session, NULL) == GRAFT_E_BUSY);
    }
    if (answer->dawdles) nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    answer->calls++;
    if (answer->raises && answer->calls == answer->stop_at) graft_cancel_signal(answer->raises);
    return !answer->raises && answer->stop_at && answer->calls == answer->stop_at;
}

static int32_t stop_prompt(void *userdata, const char *stage, uint64_t done, uint64_t total) {
    (void)userdata;
    CHECK(!strcmp(stage, "prompt") && done <= total);
    return 1;
}

static uint32_t positions(const graft_session *session) {
    graft_session_info info = GRAFT_INIT(graft_session_info);
    graft_error *error = NULL;
    OK(graft_session_get_info(session, &info));
    return info.n_positions;
}

static float *logits(graft_session *session, size_t *n) {
    graft_error *error = NULL;
    const float *borrowed = NULL;
    OK(graft_session_logits(session, NULL, &borrowed, n, &error));
    float *copy = malloc(*n * sizeof *copy);
    CHECK(copy);
    memcpy(copy, borrowed, *n * sizeof *copy);
    return copy;
}

/* The largest distance of two sessions' logits. */
static double distance(graft_session *a, graft_session *b) {
    size_t n, m;
    float *x = logits(a, &n), *y = logits(b, &m);
    double most = 0;
    CHECK(n == m);
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i] - y[i]));
    free(x);
    free(y);
    return most;
}

static void feeding(graft_model *model) {
    graft_error *error = NULL;
    graft_session *session = NULL, *fork = NULL;
    graft_session_options options = GRAFT_INIT(graft_session_options);
    options.n_context = 64;
    OK(graft_session_create(model, &options, &session, &error));
    const float *nothing = NULL;
    FAILS(graft_session_logits(session, NULL, &nothing, NULL, &error), GRAFT_E_STATE, "nothing was fed");
    graft_token ids[80], held[80];
    size_t n = 0;
    OK(graft_token_encode(model, "What is written here? zero", GRAFT_NUL_TERMINATED, GRAFT_ENCODE_BEGIN, ids, 80, &n,
                          &error));
    OK(graft_session_feed(session, ids, n, NULL, &error));
    CHECK(positions(session) == n);
    OK(graft_session_tokens(session, held, 80, &n, &error));
    CHECK(n == positions(session) && !memcmp(ids, held, n * sizeof *ids));

    /* A fork goes on as the first would. */
    OK(graft_session_fork(session, &options, &fork, &error));
    CHECK(distance(session, fork) == 0);
    OK(graft_session_feed(fork, ids + 1, 1, NULL, &error));
    CHECK(positions(session) == n && positions(fork) == n + 1);
    OK(graft_session_truncate(fork, (uint32_t)n, &error));
    /* The last token is run again by itself, which rounds in another order. */
    CHECK(distance(session, fork) < 1e-3);

    /* Scores are those of the logits. */
    OK(graft_session_truncate(session, 3, &error));
    float scores[80];
    OK(graft_session_logprobs(session, ids + 3, n - 3, NULL, scores, &error));
    OK(graft_session_truncate(session, 3, &error));
    for (size_t i = 3; i < n; i++) {
        size_t vocabulary;
        float *each = logits(session, &vocabulary);
        double total = 0;
        for (size_t v = 0; v < vocabulary; v++) total += exp(each[v]);
        CHECK(fabs(each[ids[i]] - log(total) - scores[i - 3]) < 1e-3);
        free(each);
        OK(graft_session_feed(session, ids + i, 1, NULL, &error));
    }

    /* What cannot be fed changes nothing. */
    graft_token image = GRAFT_TOKEN_IMAGE, beyond = 1 << 30;
    FAILS(graft_session_feed(session, &image, 1, NULL, &error), GRAFT_E_ARGUMENT, "-200");
    FAILS(graft_session_feed(session, &beyond, 1, NULL, &error), GRAFT_E_ARGUMENT, "vocabulary");
    for (size_t i = 0; i < 80; i++) held[i] = ids[1];
    FAILS(graft_session_feed(session, held, 80, NULL, &error), GRAFT_E_CONTEXT_FULL, "64");
    graft_cancel *cancel = NULL;
    OK(graft_cancel_create(&cancel));
    graft_cancel_signal(cancel);
    FAILS(graft_session_feed(session, ids, 2, cancel, &error), GRAFT_E_CANCELLED, "interrupted");
    CHECK(positions(session) == n);
    graft_cancel_release(cancel);
    FAILS(graft_session_feed(session, NULL, 2, NULL, &error), GRAFT_E_ARGUMENT, "tokens is NULL");
    OK(graft_session_reset(session, &error));
    CHECK(positions(session) == 0);
    graft_session_release(session);
    FAILS(graft_session_reset(session, &error), GRAFT_E_HANDLE, "was released");
    FAILS(graft_session_reset((graft_session *)model, &error), GRAFT_E_HANDLE, "is a model");
    graft_session_release(fork);

    /* Memory is planned for before it is taken. */
    options.memory_budget = 1000;
    CHECK(graft_session_create(model, &options, &session, &error) == GRAFT_E_BUDGET);
    CHECK(atoll(graft_error_detail(error, "needed")) > 1000);
    graft_error_release(error);
    error = NULL;
    options.memory_budget = 0;
    options.flags = 4;
    FAILS(graft_session_create(model, &options, &session, &error), GRAFT_E_ARGUMENT, "flags");
    FAILS(graft_session_create(model, NULL, NULL, &error), GRAFT_E_ARGUMENT, "out is NULL");
}

static void answers(graft_model *model) {
    graft_error *error = NULL;
    graft_session *session = NULL;
    graft_session_options options = GRAFT_INIT(graft_session_options);
    options.n_context = 256;
    OK(graft_session_create(model, &options, &session, &error));

    /* A conversation, whose beginning is run once. */
    graft_message said[3] = {message("user", "What is written here?")};
    struct answer first = {.session = session}, again = {.session = session};
    graft_generate_request request = GRAFT_INIT(graft_generate_request);
    request.messages = said;
    request.n_messages = 1;
    request.max_tokens = 12;
    request.on_text = add;
    request.userdata = &first;
    graft_generate_result result = GRAFT_INIT(graft_generate_result);
    OK(graft_session_generate(session, &request, &result, &error));
    CHECK(result.finish == GRAFT_FINISH_LENGTH || result.finish == GRAFT_FINISH_END);
    CHECK(result.n_reused == 0 && result.n_prompt > 5 && result.n_generated > 0 && first.calls > 0);
    CHECK(result.prompt_ms > 0 && result.generate_ms > 0);
    uint32_t prompt = result.n_prompt;
    request.userdata = &again;
    OK(graft_session_generate(session, &request, &result, &error));
    CHECK(result.n_prompt == prompt && result.n_reused >= prompt - 1 && !strcmp(first.text, again.text));
    said[1] = message("assistant", first.text);
    said[2] = message("user", "And here?");
    request.n_messages = 3;
    struct answer second = {.session = session};
    request.userdata = &second;
    OK(graft_session_generate(session, &request, &result, &error));
    CHECK(result.n_prompt > prompt && result.n_reused >= prompt - 2);

    /* The tokens of the conversation are an answer's prompt as well. */
    graft_token ids[256];
    size_t n = 0;
    OK(graft_chat_encode(model, said, 1, NULL, ids, 256, &n, &error));
    CHECK(n == prompt);
    struct answer plain = {.session = session};
    graft_generate_request tokens = GRAFT_INIT(graft_generate_request);
    tokens.tokens = ids;
    tokens.n_tokens = n;
    tokens.max_tokens = 12;
    tokens.on_text = add;
    tokens.userdata = &plain;
    OK(graft_session_generate(session, &tokens, &result, &error));
    CHECK(!strcmp(plain.text, first.text));

    /* The callback stops, and what follows goes on where it stopped. */
    struct answer stopped = {.session = session, .stop_at = 1};
    request.n_messages = 1;
    request.userdata = &stopped;
    OK(graft_session_generate(session, &request, &result, &error));
    CHECK(result.finish == GRAFT_FINISH_CALLBACK && stopped.calls == 1);
    CHECK(!strncmp(first.text, stopped.text, strlen(stopped.text)));
    CHECK(positions(session) == prompt + result.n_generated - 1);
    graft_generate_request go_on = GRAFT_INIT(graft_generate_request);
    go_on.max_tokens = 1;
    OK(graft_session_generate(session, &go_on, NULL, &error));
    OK(graft_session_generate(session, NULL, NULL, &error));

    /* A stop text is no part of the answer. */
    struct answer until = {.session = session};
    char rest[2] = {first.text[strlen(first.text) - 1], 0};
    const char *stops[] = {"never said", rest};
    request.userdata = &until;
    request.stops = stops;
    request.n_stops = 2;
    OK(graft_session_generate(session, &request, &result, &error));
    CHECK(result.finish == GRAFT_FINISH_STOP && !strstr(until.text, rest));
    stops[0] = "";
    FAILS(graft_session_generate(session, &request, NULL, &error), GRAFT_E_ARGUMENT, "empty");
    request.n_stops = 0;

    /* A seed draws the same. */
    graft_sampling hot = GRAFT_INIT(graft_sampling);
    hot.temperature = 1.5f;
    hot.seed = 7;
    struct answer drawn = {0}, redrawn = {0};
    request.sampling = &hot;
    request.userdata = &drawn;
    OK(graft_session_generate(session, &request, NULL, &error));
    request.userdata = &redrawn;
    OK(graft_session_generate(session, &request, NULL, &error));
    CHECK(!strcmp(drawn.text, redrawn.text));
    hot.top_p = NAN;
    FAILS(graft_session_generate(session, &request, NULL, &error), GRAFT_E_ARGUMENT, "top_p");
    hot.top_p = 0;
    hot.temperature = -1;
    FAILS(graft_session_generate(session, &request, NULL, &error), GRAFT_E_ARGUMENT, "temperature");
    request.sampling = NULL;

    /* Stopped in the answer, in the prompt, and by the clock. */
    OK(graft_cancel_create(&request.cancel));
    struct answer cancelled = {.raises = request.cancel, .stop_at = 1};
    request.userdata = &cancelled;
    FAILS(graft_session_generate(session, &request, &result, &error), GRAFT_E_CANCELLED, "interrupted");
    CHECK(result.finish == GRAFT_FINISH_CANCELLED && result.n_generated >= 1 && result.n_prompt == prompt);
    CHECK(positions(session) <= prompt + result.n_generated && positions(session) >= prompt);
    graft_cancel_reset(request.cancel);
    OK(graft_session_reset(session, &error));
    request.on_progress = stop_prompt;
    FAILS(graft_session_generate(session, &request, &result, &error), GRAFT_E_CANCELLED, "interrupted");
    CHECK(result.finish == GRAFT_FINISH_CANCELLED && result.n_generated == 0 && !graft_cancel_is_signalled(request.cancel));
    request.on_progress = NULL;
    struct answer slow = {.dawdles = 1};
    request.userdata = &slow;
    request.timeout_ms = 40;
    request.max_tokens = 0;
    FAILS(graft_session_generate(session, &request, &result, &error), GRAFT_E_TIMEOUT, "time given");
    CHECK(result.finish == GRAFT_FINISH_TIMEOUT);
    request.timeout_ms = UINT64_MAX;
    struct answer full = {0};
    request.userdata = &full;
    request.max_tokens = 12;
    OK(graft_session_generate(session, &request, &result, &error));
    CHECK(!strcmp(full.text, first.text));
    graft_cancel_release(request.cancel);
    request.cancel = NULL;

    /* What cannot be meant. */
    request.text = "x";
    request.text_len = 1;
    FAILS(graft_session_generate(session, &request, NULL, &error), GRAFT_E_ARGUMENT, "exclude each other");
    request.text = NULL;
    request.flags = GRAFT_GENERATE_APPEND;
    FAILS(graft_session_generate(session, &request, NULL, &error), GRAFT_E_ARGUMENT, "append");
    request.flags = 64;
    FAILS(graft_session_generate(session, &request, NULL, &error), GRAFT_E_ARGUMENT, "flags");
    result.struct_size = 0;
    FAILS(graft_session_generate(session, &go_on, &result, &error), GRAFT_E_ARGUMENT, "GRAFT_INIT");

    /* A text, and one behind it. */
    OK(graft_session_reset(session, &error));
    graft_generate_request text = GRAFT_INIT(graft_generate_request);
    text.text = "one two</s>";
    text.text_len = GRAFT_NUL_TERMINATED;
    text.max_tokens = 1;
    result.struct_size = sizeof result;
    OK(graft_session_generate(session, &text, &result, &error));
    uint32_t words = result.n_prompt;
    text.flags = GRAFT_GENERATE_MARKUP;
    OK(graft_session_generate(session, &text, &result, &error));
    CHECK(result.n_prompt < words);
    uint32_t before = positions(session);
    text.flags = GRAFT_GENERATE_APPEND;
    OK(graft_session_generate(session, &text, &result, &error));
    CHECK(result.n_reused == before && result.n_prompt == before + words - 1);
    graft_session_release(session);
}

static void seeing(graft_model *model, graft_model *blind, const char *path, const char *adapter_path) {
    graft_error *error = NULL;
    graft_session *session = NULL, *other = NULL;
    graft_image *image = NULL;
    graft_session_options options = GRAFT_INIT(graft_session_options);
    options.n_context = 512;
    OK(graft_session_create(model, &options, &session, &error));
    OK(graft_session_create(model, &options, &other, &error));
    OK(graft_image_open(NULL, path, NULL, &image, &error));
    graft_model_info info = GRAFT_INIT(graft_model_info);
    OK(graft_model_get_info(model, &info));
    OK(graft_session_feed_image(session, image, NULL, &error));
    CHECK(positions(session) == info.n_image_tokens);
    OK(graft_session_truncate(session, info.n_image_tokens - 1, &error));
    CHECK(positions(session) == 0);

    graft_message seen = message("user", "What is written here?");
    seen.n_images = 1;
    seen.images = &image;
    struct answer answer = {0}, again = {0}, tokens = {0};
    graft_generate_request request = GRAFT_INIT(graft_generate_request);
    request.messages = &seen;
    request.n_messages = 1;
    request.max_tokens = 8;
    request.on_text = add;
    request.userdata = &answer;
    graft_generate_result result = GRAFT_INIT(graft_generate_result);
    OK(graft_session_generate(session, &request, &result, &error));
    CHECK(result.n_prompt > info.n_image_tokens && result.n_reused == 0);
    request.userdata = &again;
    OK(graft_session_generate(session, &request, &result, &error));
    CHECK(result.n_reused >= info.n_image_tokens && !strcmp(answer.text, again.text));
    graft_token ids[512];
    size_t n = 0;
    OK(graft_chat_encode(model, &seen, 1, NULL, ids, 512, &n, &error));
    request = (graft_generate_request)GRAFT_INIT(graft_generate_request);
    request.tokens = ids;
    request.n_tokens = n;
    request.images = &image;
    request.n_images = 1;
    request.max_tokens = 8;
    request.on_text = add;
    request.userdata = &tokens;
    OK(graft_session_generate(other, &request, &result, &error));
    CHECK(!strcmp(answer.text, tokens.text));
    request.n_images = 0;
    FAILS(graft_session_generate(other, &request, NULL, &error), GRAFT_E_ARGUMENT, "1 places for images, 0 images");
    OK(graft_session_tokens(session, ids, 512, &n, &error));
    size_t images = 0;
    for (size_t i = 0; i < n; i++) images += ids[i] == GRAFT_TOKEN_IMAGE;
    CHECK(images == 1);

    /* An adapter may change what is seen, and then leaves it as it was. */
    graft_adapter_binding binding = GRAFT_INIT(graft_adapter_binding);
    binding.strength = 1;
    OK(graft_adapter_open(model, adapter_path, &binding.adapter, &error));
    CHECK(distance(session, other) < 1e-3);
    OK(graft_session_set_adapters(session, &binding, 1, 0, &error));
    CHECK(distance(session, other) > 1e-3);
    OK(graft_session_set_adapters(session, NULL, 0, 0, &error));
    CHECK(distance(session, other) < 1e-3);

    graft_session *without = NULL;
    OK(graft_session_create(blind, NULL, &without, &error));
    FAILS(graft_session_set_adapters(without, &binding, 1, 0, &error), GRAFT_E_INCOMPATIBLE, "vision half");
    graft_adapter_release(binding.adapter);
    FAILS(graft_session_feed_image(without, image, NULL, &error), GRAFT_E_UNSUPPORTED, "no vision part");
    graft_session_release(without);
    graft_image_release(image);
    graft_session_release(session);
    graft_session_release(other);
}

static void adapters(graft_model *model, const char *path, const char *other_path) {
    graft_error *error = NULL;
    graft_adapter *adapter = NULL, *other = NULL;
    OK(graft_adapter_open(model, path, &adapter, &error));
    OK(graft_adapter_open(NULL, other_path, &other, &error));
    graft_session *live = NULL, *fresh = NULL;
    OK(graft_session_create(model, NULL, &live, &error));
    OK(graft_session_create(model, NULL, &fresh, &error));
    graft_token ids[] = {1, 5, 9, 20};
    OK(graft_session_feed(live, ids, 4, NULL, &error));
    OK(graft_session_feed(fresh, ids, 4, NULL, &error));
    graft_adapter_binding set[2] = {GRAFT_INIT(graft_adapter_binding), GRAFT_INIT(graft_adapter_binding)};
    set[0].adapter = adapter;
    set[0].strength = 0.5f;
    OK(graft_session_set_adapters(live, set, 1, 0, &error));
    CHECK(distance(live, fresh) > 1e-3);

    /* All or none. */
    set[1].adapter = other;
    set[1].strength = 1;
    FAILS(graft_session_set_adapters(live, set, 2, 0, &error), GRAFT_E_INCOMPATIBLE, "elsewhere");
    set[1].strength = NAN;
    FAILS(graft_session_set_adapters(live, set, 2, 0, &error), GRAFT_E_ARGUMENT, "finite");
    set[1].adapter = (graft_adapter *)model;
    set[1].strength = 1;
    FAILS(graft_session_set_adapters(live, set, 2, 0, &error), GRAFT_E_HANDLE, "is a model");
    FAILS(graft_session_set_adapters(live, set, 1, 8, &error), GRAFT_E_ARGUMENT, "flags");
    graft_adapter_binding held[2] = {GRAFT_INIT(graft_adapter_binding), GRAFT_INIT(graft_adapter_binding)};
    size_t n = 0;
    OK(graft_session_adapters(live, NULL, 0, &n, &error));
    CHECK(n == 1);
    OK(graft_session_adapters(live, held, 2, &n, &error));
    CHECK(n == 1 && held[0].strength == 0.5f && held[0].struct_size == sizeof held[0]);
    /* A struct too short for the adapter could not give it back. */
    held[1].struct_size = offsetof(graft_adapter_binding, adapter);
    FAILS(graft_session_adapters(live, &held[1], 1, &n, &error), GRAFT_E_ARGUMENT, "without room for adapter");
    held[1].struct_size = sizeof held[1];

    /* A swap in the middle is as if it had been so from the first; a held adapter outlives its handle. */
    graft_adapter_release(adapter);
    OK(graft_session_reset(fresh, &error));
    OK(graft_session_set_adapters(fresh, held, 1, 0, &error));
    OK(graft_session_feed(fresh, ids, 4, NULL, &error));
    CHECK(distance(live, fresh) == 0);
    OK(graft_session_set_adapters(live, NULL, 0, 0, &error));
    OK(graft_session_set_adapters(fresh, NULL, 0, 0, &error));
    CHECK(distance(live, fresh) == 0);
    size_t vocabulary;
    float *before = logits(live, &vocabulary), *after;
    OK(graft_session_set_adapters(live, held, 1, GRAFT_SWAP_KEEP_HISTORY, &error));
    after = logits(live, &vocabulary);
    CHECK(!memcmp(before, after, vocabulary * sizeof *before));
    free(before);
    free(after);
    OK(graft_session_feed(live, ids, 1, NULL, &error));
    OK(graft_session_feed(fresh, ids, 1, NULL, &error));
    CHECK(distance(live, fresh) > 1e-3);
    graft_session *fork = NULL;
    OK(graft_session_fork(live, NULL, &fork, &error));
    OK(graft_session_adapters(fork, NULL, 0, &n, &error));
    CHECK(n == 1 && distance(live, fork) == 0);

    graft_adapter_release(held[0].adapter);
    graft_adapter_release(other);
    graft_session_release(fork);
    graft_session_release(live);
    graft_session_release(fresh);
}

struct work {
    graft_model *model;
    const char *question;
    struct answer answer;
};

static void *answer_one(void *given) {
    struct work *work = given;
    graft_error *error = NULL;
    graft_session *session = NULL;
    graft_session_options options = GRAFT_INIT(graft_session_options);
    options.n_context = 256;
    OK(graft_session_create(work->model, &options, &session, &error));
    graft_message said = message("user", work->question);
    graft_sampling hot = GRAFT_INIT(graft_sampling);
    hot.temperature = 1;
    hot.seed = strlen(work->question);
    graft_generate_request request = GRAFT_INIT(graft_generate_request);
    request.messages = &said;
    request.n_messages = 1;
    request.max_tokens = 48;
    request.sampling = &hot;
    request.on_text = add;
    request.userdata = &work->answer;
    OK(graft_session_generate(session, &request, NULL, &error));
    graft_session_release(session);
    return NULL;
}

static void threads(graft_model *model) {
    static const char *questions[SESSIONS] = {"one", "What?", "What is written here?", "two three", "a b c d e f g",
                                              "0", "zero zero zero zero zero zero zero", "Here."};
    static struct work alone[SESSIONS], together[SESSIONS];
    pthread_t each[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        alone[i] = together[i] = (struct work){.model = model, .question = questions[i]};
        answer_one(&alone[i]);
    }
    for (int i = 0; i < SESSIONS; i++) CHECK(!pthread_create(&each[i], NULL, answer_one, &together[i]));
    for (int i = 0; i < SESSIONS; i++) {
        CHECK(!pthread_join(each[i], NULL));
        CHECK(alone[i].answer.calls > 0 && !strcmp(alone[i].answer.text, together[i].answer.text));
    }
}

static void budgets(const char *path) {
    graft_error *error = NULL;
    graft_runtime *runtime = NULL;
    graft_model *model = NULL;
    graft_session *one = NULL, *two = NULL;
    graft_session_options options = GRAFT_INIT(graft_session_options);
    options.n_context = 64;
    graft_session_info info = GRAFT_INIT(graft_session_info);
    graft_runtime_options limits = GRAFT_INIT(graft_runtime_options);
    limits.n_threads = 1;
    OK(graft_runtime_create(&limits, &runtime, &error));
    OK(graft_model_open(runtime, path, NULL, &model, &error));
    OK(graft_session_create(model, &options, &one, &error));
    OK(graft_session_get_info(one, &info));
    CHECK(info.planned > 0 && info.n_context == 64);
    graft_session_release(one);
    graft_model_release(model);
    graft_runtime_release(runtime);

    limits.memory_limit = info.planned * 3 / 2;
    OK(graft_runtime_create(&limits, &runtime, &error));
    OK(graft_model_open(runtime, path, NULL, &model, &error));
    OK(graft_session_create(model, &options, &one, &error));
    FAILS(graft_session_create(model, &options, &two, &error), GRAFT_E_BUDGET, "do not fit");
    FAILS(graft_session_fork(one, &options, &two, &error), GRAFT_E_BUDGET, "do not fit");
    graft_session_release(one);
    OK(graft_session_create(model, &options, &two, &error));
    graft_memory_stats stats = GRAFT_INIT(graft_memory_stats);
    OK(graft_runtime_memory(runtime, &stats));
    CHECK(stats.planned == info.planned);
    /* In any order. */
    graft_runtime_release(runtime);
    graft_model_release(model);
    graft_token token = 1;
    OK(graft_session_feed(two, &token, 1, NULL, &error));
    graft_session_release(two);
}

int main(int argc, char **argv) {
    CHECK(argc == 7);
    graft_error *error = NULL;
    graft_model *model = NULL, *blind = NULL;
    graft_model_options options = GRAFT_INIT(graft_model_options);
    options.projector_path = argv[2];
    OK(graft_model_open(NULL, argv[1], &options, &model, &error));
    OK(graft_model_open(NULL, argv[1], NULL, &blind, &error));
    feeding(blind);
    answers(blind);
    seeing(model, blind, argv[3], argv[6]);
    adapters(blind, argv[4], argv[5]);
    threads(blind);
    budgets(argv[1]);
    graft_model_release(model);
    graft_model_release(blind);
    return 0;
}
