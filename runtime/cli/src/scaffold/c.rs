//! A new plugin in C: one source file, and the header that it is written with.

use super::{File, Kind};

/// The files of a plugin.
pub fn files(kind: Kind) -> Vec<File> {
    let source = match kind {
        Kind::Converter => include_str!("../../../../plugins/examples/c/converter/plugin.c"),
        Kind::Evaluator => include_str!("../../../../plugins/examples/c/evaluator/plugin.c"),
    };
    let header = include_str!("../../../../plugins/c/graft_plugin.h");
    vec![
        ("plugin.c", source.to_owned()),
        ("graft_plugin.h", header.to_owned()),
    ]
}

/// How it is built, for its README.
pub fn readme(name: &str) -> String {
    format!(
        r#"`plugin.c` is the plugin, `graft_plugin.h` what it is written with. Build and pack it with clang
(Debian: `apt-get install clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc`):

    clang-19 --target=wasm32-wasi -mexec-model=reactor -O2 -Wall plugin.c -o module.wasm -Wl,--strip-debug
    graft plugin pack module.wasm -o {name}.wasm

or with zig, which needs nothing else (`pip install ziglang`): `python3 -m ziglang cc` in the place of `clang-19`.
"#
    )
}
