//! No code. cargo compiles a crate once for each set of features that a build asks for, and what the tests need of other
//! people's crates reaches down to the WebAssembly engine. The command and the C library depend on this crate and so
//! ask for what the tests ask for: the engine is compiled once, and the tests run what ships. `tests/house.rs` says which
//! feature lacks.
