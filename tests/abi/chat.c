/* Tokens, conversations and images through the C interface: chat MODEL MMPROJ IMAGE */
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

static graft_message message(const char *role, const char *text) {
    graft_message message = GRAFT_INIT(graft_message);
    message.role = role;
    message.text = text;
    message.text_len = GRAFT_NUL_TERMINATED;
    return message;
}

static void tokens(const graft_model *model) {
    graft_error *error = NULL;
    graft_token ids[64], begun[64];
    size_t needed = 0, n = 0;
    const char *text = "What is written here?";
    OK(graft_token_encode(model, text, GRAFT_NUL_TERMINATED, 0, NULL, 0, &needed, &error));
    CHECK(needed > 0 && needed < 60);
    OK(graft_token_encode(model, text, strlen(text), 0, ids, 64, &n, &error));
    CHECK(n == needed);
    FAILS(graft_token_encode(model, text, strlen(text), 0, ids, 1, &n, &error), GRAFT_E_BUFFER_SIZE, "room for 1");
    CHECK(n == needed);
    OK(graft_token_encode(model, text, strlen(text), GRAFT_ENCODE_BEGIN, begun, 64, &n, &error));
    CHECK(n == needed + 1 && begun[0] == graft_token_special(model, "bos"));
    CHECK(!memcmp(begun + 1, ids, needed * sizeof *ids));
    graft_buffer *buffer = NULL;
    OK(graft_token_decode(model, ids, needed, &buffer, &error));
    CHECK(!strcmp(graft_buffer_data(buffer), text) && graft_buffer_size(buffer) == strlen(text));
    graft_buffer_release(buffer);
    /* The pieces are the text, behind the blank that stands before it. */
    char pieces[128] = "";
    size_t at = 0;
    for (size_t i = 0; i < needed; i++) {
        size_t length = 0;
        OK(graft_token_piece(model, ids[i], pieces + at, sizeof pieces - at, &length, &error));
        at += length;
    }
    CHECK(at >= strlen(text) && !memcmp(pieces + at - strlen(text), text, strlen(text)));
    /* Words never steer, markup does. */
    graft_token eos = graft_token_special(model, "eos");
    CHECK(eos >= 0 && graft_token_is_end(model, eos) == 1 && graft_token_is_end(model, ids[0]) == 0);
    OK(graft_token_encode(model, "</s>", 4, GRAFT_ENCODE_MARKUP, ids, 64, &n, &error));
    CHECK(n == 1 && ids[0] == eos && graft_token_special(model, "</s>") == eos);
    OK(graft_token_encode(model, "</s>", 4, 0, ids, 64, &n, &error));
    CHECK(n > 1);
    CHECK(graft_token_special(model, "no such token") == GRAFT_TOKEN_NONE);
    CHECK(graft_token_special(NULL, "bos") == GRAFT_TOKEN_NONE && graft_token_is_end(model, -5) == 0);
    graft_token wrong = -3;
    FAILS(graft_token_decode(model, &wrong, 1, &buffer, &error), GRAFT_E_ARGUMENT, "-3 is no token");
    FAILS(graft_token_piece(model, 1 << 30, pieces, 8, &n, &error), GRAFT_E_ARGUMENT, "is no token");
    FAILS(graft_token_encode(model, "\xff", 1, 0, ids, 64, &n, &error), GRAFT_E_ARGUMENT, "UTF-8");
    FAILS(graft_token_encode(model, text, 4, 8, ids, 64, &n, &error), GRAFT_E_ARGUMENT, "flags");
    FAILS(graft_token_encode(model, NULL, 4, 0, ids, 64, &n, &error), GRAFT_E_ARGUMENT, "text is NULL");
}

static void conversations(const graft_model *model, graft_image *image) {
    graft_error *error = NULL;
    graft_buffer *buffer = NULL;
    graft_message said[3] = {message("system", "Be brief."), message("user", "Hello </s>"), message("assistant", "Hi")};
    graft_chat_options options = GRAFT_INIT(graft_chat_options);
    options.template_name = "vicuna_v1";
    OK(graft_chat_render(model, said, 2, &options, &buffer, &error));
    CHECK(!strcmp(graft_buffer_data(buffer), "Be brief. USER: Hello </s> ASSISTANT:"));
    graft_buffer_release(buffer);
    options.flags = GRAFT_CHAT_CLOSED;
    OK(graft_chat_render(model, said, 3, &options, &buffer, &error));
    CHECK(!strcmp(graft_buffer_data(buffer), "Be brief. USER: Hello </s> ASSISTANT: Hi</s>"));
    graft_buffer_release(buffer);
    /* What people write is no control token, what the template writes is. */
    graft_token ids[128];
    size_t n = 0, ends = 0;
    OK(graft_chat_encode(model, said, 3, &options, ids, 128, &n, &error));
    for (size_t i = 0; i < n; i++) ends += ids[i] == graft_token_special(model, "eos");
    CHECK(ends == 1 && ids[n - 1] == graft_token_special(model, "eos"));
    graft_message seen = message("user", "What is this?");
    seen.n_images = 1;
    seen.images = &image;
    OK(graft_chat_encode(model, &seen, 1, NULL, ids, 128, &n, &error));
    size_t images = 0;
    for (size_t i = 0; i < n; i++) images += ids[i] == GRAFT_TOKEN_IMAGE;
    CHECK(images == 1);
    /* A template of the program's own. */
    graft_chat_options own = GRAFT_INIT(graft_chat_options);
    own.template_text = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}!";
    own.template_len = GRAFT_NUL_TERMINATED;
    OK(graft_chat_render(model, said, 1, &own, &buffer, &error));
    CHECK(!strcmp(graft_buffer_data(buffer), "[system] Be brief.!"));
    graft_buffer_release(buffer);
    OK(graft_chat_templates(&buffer));
    CHECK(strstr(graft_buffer_data(buffer), "\"vicuna_v1\""));
    graft_buffer_release(buffer);

    own.template_text = "{% for %}";
    FAILS(graft_chat_render(model, said, 1, &own, &buffer, &error), GRAFT_E_FORMAT, "template");
    own.template_name = "vicuna_v1";
    FAILS(graft_chat_render(model, said, 1, &own, &buffer, &error), GRAFT_E_ARGUMENT, "give one");
    options.template_name = "no_such";
    FAILS(graft_chat_render(model, said, 1, &options, &buffer, &error), GRAFT_E_NOT_FOUND, "vicuna_v1");
    graft_message wrong = message("robot", "beep");
    FAILS(graft_chat_render(model, &wrong, 1, NULL, &buffer, &error), GRAFT_E_ARGUMENT, "robot");
    graft_message silent = message("user", "lost");
    silent.text_len = 0;
    FAILS(graft_chat_render(model, &silent, 1, NULL, &buffer, &error), GRAFT_E_ARGUMENT, "GRAFT_NUL_TERMINATED");
    graft_image *nothing = NULL;
    seen.images = &nothing;
    FAILS(graft_chat_render(model, &seen, 1, NULL, &buffer, &error), GRAFT_E_HANDLE, "image");
    graft_message reversed[2] = {message("assistant", "a"), message("assistant", "b")};
    options.template_name = "vicuna_v1";
    FAILS(graft_chat_render(model, reversed, 2, &options, &buffer, &error), GRAFT_E_ARGUMENT, "turn");
}

static graft_image *images(const char *path) {
    graft_error *error = NULL;
    graft_image *image = NULL, *second = NULL;
    OK(graft_image_open(NULL, path, NULL, &image, &error));
    graft_image_info info = GRAFT_INIT(graft_image_info), same = GRAFT_INIT(graft_image_info);
    OK(graft_image_get_info(image, &info));
    CHECK(info.width > 0 && info.height > 0);
    size_t size, bytes = 3 * (size_t)info.width * info.height;
    char *file = contents(path, &size);
    OK(graft_image_decode(NULL, file, size, NULL, &second, &error));
    OK(graft_image_get_info(second, &same));
    CHECK(info.width == same.width && info.height == same.height);
    CHECK(!memcmp(graft_image_pixels(image), graft_image_pixels(second), bytes));
    graft_image_release(second);
    CHECK(graft_image_pixels(second) == NULL);
    FAILS(graft_image_decode(NULL, file, size / 2, NULL, &second, &error), GRAFT_E_CORRUPT, "damaged");
    FAILS(graft_image_decode(NULL, "hello there", 11, NULL, &second, &error), GRAFT_E_FORMAT, "not a PNG");
    FAILS(graft_image_decode(NULL, NULL, 0, NULL, &second, &error), GRAFT_E_FORMAT, "empty");
    free(file);
    graft_image_limits limits = GRAFT_INIT(graft_image_limits);
    limits.max_side = 2;
    FAILS(graft_image_open(NULL, path, &limits, &second, &error), GRAFT_E_BUDGET, "larger than the limit");
    FAILS(graft_image_open(NULL, "no/such.png", NULL, &second, &error), GRAFT_E_NOT_FOUND, "no/such.png");

    /* Rows that lie apart, the last one without what follows it. */
    uint8_t pixels[10] = {1, 2, 3, 0, 4, 5, 6, 0, 7, 8};
    OK(graft_image_from_pixels(NULL, pixels, 1, 2, 4, &second, &error));
    CHECK(!memcmp(graft_image_pixels(second), (uint8_t[]){1, 2, 3, 4, 5, 6}, 6));
    graft_image_release(second);
    FAILS(graft_image_from_pixels(NULL, pixels, 2, 1, 5, &second, &error), GRAFT_E_ARGUMENT, "2 x 1");
    FAILS(graft_image_from_pixels(NULL, pixels, 0, 1, 0, &second, &error), GRAFT_E_ARGUMENT, "0 x 1");
    FAILS(graft_image_from_pixels(NULL, NULL, 1, 1, 0, &second, &error), GRAFT_E_ARGUMENT, "pixels is NULL");
    FAILS(graft_image_from_pixels(NULL, pixels, UINT32_MAX, UINT32_MAX, SIZE_MAX, &second, &error), GRAFT_E_ARGUMENT,
          "no image");

    /* The runtime's memory. */
    graft_runtime *small = NULL;
    graft_runtime_options tight = GRAFT_INIT(graft_runtime_options);
    tight.n_threads = 1;
    tight.memory_limit = 5;
    OK(graft_runtime_create(&tight, &small, &error));
    FAILS(graft_image_from_pixels(small, pixels, 1, 2, 4, &second, &error), GRAFT_E_BUDGET, "6 bytes");
    FAILS(graft_image_open(small, path, NULL, &second, &error), GRAFT_E_BUDGET, "larger than the limit");
    OK(graft_image_from_pixels(small, pixels, 1, 1, 0, &second, &error));
    graft_memory_stats stats = GRAFT_INIT(graft_memory_stats);
    OK(graft_runtime_memory(small, &stats));
    CHECK(stats.planned == 3);
    graft_image_release(second);
    OK(graft_runtime_memory(small, &stats));
    CHECK(stats.planned == 0);
    graft_runtime_release(small);
    return image;
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_model_options options = GRAFT_INIT(graft_model_options);
    options.projector_path = argv[2];
    OK(graft_model_open(NULL, argv[1], &options, &model, &error));
    graft_image *image = images(argv[3]);
    tokens(model);
    conversations(model, image);
    graft_image_release(image);
    graft_model_release(model);
    return 0;
}
