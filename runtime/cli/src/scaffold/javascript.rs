//! A new plugin in JavaScript: a module, and how npm makes a component of it.

use super::{File, Kind, WIT};

/// The version of componentize-js that the examples were built with.
const COMPONENTIZE_JS: &str = "0.22.0";

/// The files of a plugin called `name`.
pub fn files(name: &str, kind: Kind) -> Vec<File> {
    let source = match kind {
        Kind::Converter => {
            include_str!("../../../../plugins/examples/javascript/converter/plugin.js")
        }
        Kind::Evaluator => {
            include_str!("../../../../plugins/examples/javascript/evaluator/plugin.js")
        }
    };
    let own = [
        ("plugin.js", source.to_owned()),
        ("package.json", package(name, kind)),
    ];
    let wit = WIT.iter().map(|&(name, text)| (name, text.to_owned()));
    own.into_iter().chain(wit).collect()
}

fn package(name: &str, kind: Kind) -> String {
    let world = kind.world();
    format!(
        r#"{{
  "name": "{name}",
  "version": "0.1.0",
  "private": true,
  "type": "module",
  "scripts": {{
    "build": "componentize-js plugin.js --wit wit/0.1.0 --world-name {world} --disable clocks --disable fetch-event --disable http --disable random --disable stdio -o module.wasm"
  }},
  "devDependencies": {{
    "@bytecodealliance/componentize-js": "{COMPONENTIZE_JS}"
  }}
}}
"#
    )
}

/// How it is built, for its README.
pub fn readme(name: &str) -> String {
    format!(
        r#"`plugin.js` is the plugin, `wit/` the interface. Build and pack it:

    npm install
    npm run build
    graft plugin pack module.wasm -o {name}.wasm

The plugin carries a JavaScript engine: 13 MB, some seconds to compile when graft first loads it (then kept), and
much slower than Rust or C.
"#
    )
}
