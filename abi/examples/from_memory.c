/* A model that is no file of its own, as in an archive or an encrypted bundle: from_memory MODEL [PROMPT]
 *
 * The bytes are used in place, and graft says when it needs them no more. */
#include <stdio.h>
#include <stdlib.h>

#include <graft.h>

static void check(graft_status status, graft_error **error) {
    if (status >= 0) return;
    fprintf(stderr, "from_memory: %s\n", error ? graft_error_message(*error) : graft_status_name(status));
    exit(1);
}

static void *read_all(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) return perror(path), exit(1), NULL;
    *size = (size_t)ftell(file);
    rewind(file);
    void *bytes = malloc(*size);
    if (!bytes || fread(bytes, 1, *size, file) != *size) return perror(path), exit(1), NULL;
    fclose(file);
    return bytes;
}

static void done_with(void *bytes) {
    puts("graft needs the bytes no more");
    free(bytes);
}

static int32_t on_text(void *userdata, const char *text, size_t length) {
    fwrite(text, 1, length, userdata);
    return 0;
}

int main(int argc, char **argv) {
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_session *session = NULL;
    size_t size = 0;
    if (argc < 2) return fprintf(stderr, "usage: from_memory MODEL [PROMPT]\n"), 2;

    graft_source source = GRAFT_INIT(graft_source);
    source.kind = GRAFT_SOURCE_MEMORY;
    source.data = read_all(argv[1], &size);
    source.length = size;
    source.userdata = (void *)source.data;
    source.destroy = done_with; /* called exactly once, also if opening fails */
    check(graft_model_open_source(NULL, &source, NULL, &model, &error), &error);
    check(graft_session_create(model, NULL, &session, &error), &error);
    graft_model_release(model); /* the session keeps it */

    graft_generate_request request = GRAFT_INIT(graft_generate_request);
    request.text = argc > 2 ? argv[2] : "Once upon a time";
    request.text_len = GRAFT_NUL_TERMINATED;
    request.max_tokens = 32;
    request.on_text = on_text;
    request.userdata = stdout;
    check(graft_session_generate(session, &request, NULL, &error), &error);
    printf("\n");
    graft_session_release(session);
    return 0;
}
