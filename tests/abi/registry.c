/* Registries through the C interface: registry MODEL ADAPTER OTHER-MODELS-ADAPTER FOLDER */
#include <pthread.h>

#include "check.h"
#include "graft.h"

#define WRITERS 4
#define TURNS 25

static uint32_t names(const graft_registry *registry) {
    graft_registry_info info = GRAFT_INIT(graft_registry_info);
    CHECK(graft_registry_get_info(registry, &info) == GRAFT_OK);
    return info.n_names;
}

static graft_registry_info held(const graft_registry *registry) {
    graft_registry_info info = GRAFT_INIT(graft_registry_info);
    CHECK(graft_registry_get_info(registry, &info) == GRAFT_OK);
    return info;
}

static int says(const graft_registry *registry, const char *words) {
    graft_error *error = NULL;
    graft_buffer *json = NULL;
    OK(graft_registry_list(registry, &json, &error));
    int found = strstr(graft_buffer_data(json), words) != NULL;
    graft_buffer_release(json);
    return found;
}

/* One of several that count the meanings of a name, each step from what they have seen. */
struct writer {
    graft_registry *registry;
    graft_adapter *mine;
    int published, refused;
};

static void *write_on(void *userdata) {
    struct writer *writer = userdata;
    for (int turn = 0; turn < TURNS; turn++) {
        graft_adapter *now = NULL, *next = NULL;
        char seen[GRAFT_GENERATION_SIZE], made[GRAFT_GENERATION_SIZE];
        CHECK(graft_registry_get(writer->registry, "live", &now, seen, NULL) == GRAFT_OK);
        CHECK(graft_adapter_scale(now, 1.001f, &next, NULL) == GRAFT_OK);
        graft_status status =
            graft_registry_publish(writer->registry, "live", next, GRAFT_PUBLISH_SWAP, seen, made, NULL);
        CHECK(status == GRAFT_OK || status == GRAFT_E_STATE);
        writer->published += status == GRAFT_OK;
        writer->refused += status != GRAFT_OK;
        if (status == GRAFT_OK) CHECK(strlen(made) == 64 && strcmp(made, seen));
        graft_adapter_release(now);
        graft_adapter_release(next);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 5);
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_registry *registry = NULL;
    graft_adapter *first = NULL, *second = NULL, *foreign = NULL, *found = NULL;
    OK(graft_model_open(NULL, argv[1], NULL, &model, &error));
    OK(graft_adapter_open(model, argv[2], &first, &error));
    OK(graft_adapter_open(NULL, argv[3], &foreign, &error));
    OK(graft_adapter_scale(first, 2.0f, &second, &error));
    graft_adapter_info info = GRAFT_INIT(graft_adapter_info);
    OK(graft_adapter_get_info(first, &info));

    FAILS(graft_registry_create(NULL, NULL, &registry, &error), GRAFT_E_HANDLE, "NULL");
    OK(graft_registry_create(model, NULL, &registry, &error));
    CHECK(held(registry).max_bytes == 0 && held(registry).max_adapters == 0);

    /* Names, and who may change what they stand for. */
    char one[GRAFT_GENERATION_SIZE], two[GRAFT_GENERATION_SIZE], seen[GRAFT_GENERATION_SIZE];
    OK(graft_registry_load(registry, "a", argv[2], GRAFT_PUBLISH_CREATE, NULL, one, &error));
    CHECK(strlen(one) == 64 && names(registry) == 1 && held(registry).n_in_memory == 1);
    CHECK(held(registry).bytes == info.bytes);
    FAILS(graft_registry_load(registry, "a", argv[2], GRAFT_PUBLISH_CREATE, NULL, NULL, &error), GRAFT_E_STATE,
          "already names");
    FAILS(graft_registry_publish(registry, "b", second, GRAFT_PUBLISH_SWAP, one, NULL, &error), GRAFT_E_NOT_FOUND, "b");
    OK(graft_registry_publish(registry, "a", second, GRAFT_PUBLISH_SWAP, one, two, &error));
    CHECK(strcmp(one, two));
    FAILS(graft_registry_publish(registry, "a", first, GRAFT_PUBLISH_SWAP, one, NULL, &error), GRAFT_E_STATE,
          "someone else");
    FAILS(graft_registry_publish(registry, "a", foreign, GRAFT_PUBLISH_REPLACE, NULL, NULL, &error),
          GRAFT_E_INCOMPATIBLE, "made for");
    FAILS(graft_registry_load(registry, "a", "no/such.gguf", GRAFT_PUBLISH_REPLACE, NULL, NULL, &error),
          GRAFT_E_NOT_FOUND, "no/such.gguf");
    FAILS(graft_registry_publish(registry, "a", first, 3, NULL, NULL, &error), GRAFT_E_ARGUMENT, "how is 3");
    FAILS(graft_registry_publish(registry, "a", first, GRAFT_PUBLISH_SWAP, NULL, NULL, &error), GRAFT_E_ARGUMENT,
          "needs the generation");
    FAILS(graft_registry_publish(registry, "a", first, GRAFT_PUBLISH_SWAP, "xyz", NULL, &error), GRAFT_E_ARGUMENT,
          "64 hexadecimal digits");
    FAILS(graft_registry_publish(registry, "a", first, GRAFT_PUBLISH_REPLACE, one, NULL, &error), GRAFT_E_ARGUMENT,
          "NULL otherwise");
    OK(graft_registry_get(registry, "a", &found, seen, &error));
    CHECK(!strcmp(seen, two));

    /* A name that is gone leaves what was given out. */
    graft_session *session = NULL;
    OK(graft_session_create(model, NULL, &session, &error));
    graft_adapter_binding binding = GRAFT_INIT(graft_adapter_binding);
    binding.adapter = found;
    binding.strength = 1;
    OK(graft_session_set_adapters(session, &binding, 1, 0, &error));
    graft_adapter_release(found);
    graft_adapter_release(second);
    OK(graft_registry_unload(registry, "a", &error));
    FAILS(graft_registry_unload(registry, "a", &error), GRAFT_E_NOT_FOUND, "a");
    FAILS(graft_registry_get(registry, "a", &found, NULL, &error), GRAFT_E_NOT_FOUND, "a");
    CHECK(names(registry) == 0 && held(registry).n_in_memory == 1 && says(registry, two));
    graft_token ids[] = {1, 5, 9};
    OK(graft_session_feed(session, ids, 3, NULL, &error));
    graft_session_release(session);
    CHECK(held(registry).n_in_memory == 0 && held(registry).bytes == 0);
    graft_registry_release(registry);

    /* Limits: what nobody uses leaves, and is read again. */
    char paths[3][4096];
    for (int i = 0; i < 3; i++) {
        graft_adapter *scaled = NULL;
        OK(graft_adapter_scale(first, 1.0f + (float)i, &scaled, &error));
        snprintf(paths[i], sizeof paths[i], "%s/shelf-%d.gguf", argv[4], i);
        OK(graft_adapter_save(scaled, paths[i], NULL, &error));
        graft_adapter_release(scaled);
    }
    graft_registry_options options = GRAFT_INIT(graft_registry_options);
    options.max_adapters = 2;
    OK(graft_registry_create(model, &options, &registry, &error));
    OK(graft_registry_load(registry, "0", paths[0], GRAFT_PUBLISH_CREATE, NULL, NULL, &error));
    OK(graft_registry_load(registry, "1", paths[1], GRAFT_PUBLISH_CREATE, NULL, NULL, &error));
    OK(graft_registry_pin(registry, "0", 1, &error));
    OK(graft_registry_load(registry, "2", paths[2], GRAFT_PUBLISH_CREATE, NULL, NULL, &error));
    CHECK(names(registry) == 3 && held(registry).n_in_memory == 2 && held(registry).max_adapters == 2);
    CHECK(says(registry, "\"pinned\":true") && says(registry, "\"in_memory\":false"));
    OK(graft_registry_get(registry, "1", &found, NULL, &error));
    FAILS(graft_registry_pin(registry, "2", 1, &error), GRAFT_E_BUDGET, "2");
    graft_adapter_release(found);
    OK(graft_registry_pin(registry, "0", 0, &error));
    OK(graft_registry_pin(registry, "2", 1, &error));
    FAILS(graft_registry_pin(registry, "3", 1, &error), GRAFT_E_NOT_FOUND, "3");
    graft_registry_release(registry);
    options.max_adapters = 0;
    options.max_bytes = 1;
    OK(graft_registry_create(model, &options, &registry, &error));
    FAILS(graft_registry_load(registry, "0", paths[0], GRAFT_PUBLISH_CREATE, NULL, NULL, &error), GRAFT_E_BUDGET, "1");
    graft_registry_release(registry);

    /* Of several writers none undoes another's step. */
    OK(graft_registry_create(model, NULL, &registry, &error));
    OK(graft_registry_publish(registry, "live", first, GRAFT_PUBLISH_CREATE, NULL, one, &error));
    pthread_t threads[WRITERS];
    struct writer writers[WRITERS];
    int published = 0, refused = 0;
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){registry, first, 0, 0};
        CHECK(!pthread_create(&threads[i], NULL, write_on, &writers[i]));
    }
    for (int i = 0; i < WRITERS; i++) {
        CHECK(!pthread_join(threads[i], NULL));
        published += writers[i].published;
        refused += writers[i].refused;
    }
    CHECK(published > 0 && published + refused == WRITERS * TURNS);
    /* As many steps as were published, and one after the other. */
    graft_adapter *expected = first;
    graft_adapter_retain(first);
    for (int step = 0; step < published; step++) {
        graft_adapter *next = NULL;
        OK(graft_adapter_scale(expected, 1.001f, &next, &error));
        graft_adapter_release(expected);
        expected = next;
    }
    OK(graft_registry_publish(registry, "counted", expected, GRAFT_PUBLISH_CREATE, NULL, one, &error));
    OK(graft_registry_get(registry, "live", &found, seen, &error));
    CHECK(!strcmp(one, seen));
    graft_adapter_release(found);
    graft_adapter_release(expected);

    /* The last reference may be any. */
    graft_registry_retain(registry);
    graft_registry_release(registry);
    CHECK(names(registry) == 2);
    graft_model_release(model);
    graft_adapter_release(first);
    graft_adapter_release(foreign);
    OK(graft_registry_get(registry, "live", &found, NULL, &error));
    graft_registry_release(registry);
    OK(graft_adapter_get_info(found, &info));
    graft_adapter_release(found);
    CHECK(graft_registry_get_info(registry, &(graft_registry_info)GRAFT_INIT(graft_registry_info)) == GRAFT_E_HANDLE);
    return 0;
}
