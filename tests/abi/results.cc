// The C++ interface without exceptions: results MODEL
#define GRAFT_NO_EXCEPTIONS
#include "graft.hpp"

int main(int argc, char **argv) {
    if (argc != 2) return 1;
    graft::Result<graft::Model> model = graft::Model::open(argv[1]);
    if (!model || !model->info() || model->info()->n_layers == 0) return 2;
    graft::Result<graft::Model> missing = graft::Model::open("no/such.gguf");
    if (missing || missing.error().status() != GRAFT_E_NOT_FOUND) return 3;
    graft::Result<graft::Runtime> runtime = graft::Runtime::create();
    if (!runtime || !runtime->log_to(GRAFT_LOG_OFF, [](graft_log_level, std::string_view, std::string_view) {})) return 4;
    return 0;
}
