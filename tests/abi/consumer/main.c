/* What an application does first: the library is the header's, and a model opens. consumer MODEL */
#include <stdio.h>

#include <graft.h>

int main(int argc, char **argv) {
    graft_model *model = NULL;
    graft_error *error = NULL;
    graft_model_info info = GRAFT_INIT(graft_model_info);
    if (argc != 2 || graft_library_abi() != GRAFT_ABI) return 2;
    if (graft_model_open(NULL, argv[1], NULL, &model, &error) < 0) {
        fprintf(stderr, "%s\n", graft_error_message(error));
        graft_error_release(error);
        return 1;
    }
    if (graft_model_get_info(model, &info) < 0) return 1;
    printf("graft %s opened %s: %u layers\n", graft_library_version_string(), info.name, info.n_layers);
    graft_model_release(model);
    return 0;
}
