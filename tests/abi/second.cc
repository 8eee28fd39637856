// The headers once more, in a translation unit of their own.
#include "graft.hpp"
#include "graft.hpp"
#include "graft.h"

std::string fingerprint(const graft::Model &model) { return model.info().fingerprint; }
