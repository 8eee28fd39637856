//! The C interface of graft: `graft_<noun>_<verb>` is implemented in `<noun>.rs`.
