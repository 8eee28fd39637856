/* What cannot be had: memory MODEL. Large buffers that the system refuses are a status, and what was there stays. */
#include <sys/resource.h>

#include "check.h"
#include "graft.h"

int main(int argc, char **argv) {
    CHECK(argc == 2);
    graft_error *error = NULL;
    graft_model *model = NULL;
    graft_session *session = NULL;
    OK(graft_model_open(NULL, argv[1], NULL, &model, &error));
    OK(graft_session_create(model, NULL, &session, &error));

    struct rlimit limit = {1u << 30, 1u << 30};
    CHECK(!setrlimit(RLIMIT_AS, &limit));
    const uint32_t contexts[] = {100000, 1000000, 20000000, 400000000, UINT32_MAX};
    const uint32_t chunks[] = {0, 100000, UINT32_MAX};
    int refused = 0;
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
        for (size_t j = 0; j < sizeof chunks / sizeof *chunks; j++) {
            graft_session *other = NULL;
            graft_session_options options = GRAFT_INIT(graft_session_options);
            options.n_context = contexts[i];
            options.n_chunk = chunks[j];
            graft_status status = graft_session_create(model, &options, &other, &error);
            CHECK(status == GRAFT_OK || status == GRAFT_E_MEMORY);
            CHECK((status == GRAFT_OK) == (other != NULL));
            refused += status == GRAFT_E_MEMORY;
            graft_error_release(error);
            error = NULL;
            graft_session_release(other);
        }
    }
    CHECK(refused >= 12);
    graft_memory_stats stats = GRAFT_INIT(graft_memory_stats);
    graft_session_info info = GRAFT_INIT(graft_session_info);
    OK(graft_runtime_memory(NULL, &stats));
    OK(graft_session_get_info(session, &info));
    CHECK(stats.planned == info.planned); /* what was refused is not counted */

    graft_generate_request request = GRAFT_INIT(graft_generate_request);
    request.text = "Still here?";
    request.text_len = GRAFT_NUL_TERMINATED;
    request.max_tokens = 4;
    OK(graft_session_generate(session, &request, NULL, &error));
    graft_session_release(session);
    graft_model_release(model);
    return 0;
}
