//! A new plugin in Python: a module, and how componentize-py makes a component of it.

use super::{File, Kind, WIT};

/// The version of componentize-py that the examples were built with.
const COMPONENTIZE_PY: &str = "0.25.1";

/// The files of a plugin.
pub fn files(kind: Kind) -> Vec<File> {
    let source = match kind {
        Kind::Converter => include_str!("../../../../plugins/examples/python/converter/plugin.py"),
        Kind::Evaluator => include_str!("../../../../plugins/examples/python/evaluator/plugin.py"),
    };
    let own = [("plugin.py", source.to_owned())];
    let wit = WIT.iter().map(|&(name, text)| (name, text.to_owned()));
    own.into_iter().chain(wit).collect()
}

/// How it is built, for its README.
pub fn readme(name: &str, kind: Kind) -> String {
    let world = kind.world();
    format!(
        r#"`plugin.py` is the plugin, `wit/` the interface. Build and pack it:

    python3 -m venv venv
    venv/bin/pip install componentize-py=={COMPONENTIZE_PY}
    venv/bin/componentize-py -d wit/0.1.0 -w {world} componentize plugin -o module.wasm --stub-wasi
    graft plugin pack module.wasm -o {name}.wasm

The plugin carries Python: 18 MB, some seconds to compile when graft first loads it (then kept), and much slower
than Rust or C. `venv/bin/componentize-py -d wit/0.1.0 -w {world} bindings types` writes the types for an editor.
"#
    )
}
