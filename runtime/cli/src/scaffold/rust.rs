//! A new plugin in Rust: a crate, and the SDK and the interface it is written against, so that cargo has only
//! `wit-bindgen` to fetch.

use super::{File, Kind, WIT, embedded};

/// The version of wit-bindgen that the SDK is written for; the workspace uses the same.
const WIT_BINDGEN: &str = "0.60";

/// Name in the new folder, and content.
const SDK: &[(&str, &str)] = embedded! {
    "sdk/src/bindings.rs" from "sdk/src/bindings.rs"
    "sdk/src/blanks.rs" from "sdk/src/blanks.rs"
    "sdk/src/characters.rs" from "sdk/src/characters.rs"
    "sdk/src/conversation.rs" from "sdk/src/conversation.rs"
    "sdk/src/converter.rs" from "sdk/src/converter.rs"
    "sdk/src/digits.rs" from "sdk/src/digits.rs"
    "sdk/src/evaluator.rs" from "sdk/src/evaluator.rs"
    "sdk/src/images.rs" from "sdk/src/images.rs"
    "sdk/src/json.rs" from "sdk/src/json.rs"
    "sdk/src/lib.rs" from "sdk/src/lib.rs"
    "sdk/src/marks.rs" from "sdk/src/marks.rs"
    "sdk/src/memory.rs" from "sdk/src/memory.rs"
    "sdk/src/model.rs" from "sdk/src/model.rs"
    "sdk/src/options.rs" from "sdk/src/options.rs"
    "sdk/src/parser.rs" from "sdk/src/parser.rs"
    "sdk/src/parts.rs" from "sdk/src/parts.rs"
    "sdk/src/place.rs" from "sdk/src/place.rs"
    "sdk/src/records.rs" from "sdk/src/records.rs"
    "sdk/src/reference.rs" from "sdk/src/reference.rs"
    "sdk/src/remarks.rs" from "sdk/src/remarks.rs"
    "sdk/src/scan.rs" from "sdk/src/scan.rs"
    "sdk/src/template.rs" from "sdk/src/template.rs"
    "sdk/src/testing.rs" from "sdk/src/testing.rs"
    "sdk/src/window.rs" from "sdk/src/window.rs"
};

/// The files of a plugin called `name`.
pub fn files(name: &str, kind: Kind) -> Vec<File> {
    let source = match kind {
        Kind::Converter => {
            include_str!("../../../../plugins/examples/rust/converter/src/lib.rs")
        }
        Kind::Evaluator => {
            include_str!("../../../../plugins/examples/rust/evaluator/src/lib.rs")
        }
    };
    let own = [
        ("Cargo.toml", manifest(name)),
        ("src/lib.rs", source.to_owned()),
        ("sdk/Cargo.toml", sdk_manifest()),
    ];
    let lent = SDK.iter().chain(WIT);
    let lent = lent.map(|&(name, text)| (name, text.to_owned()));
    own.into_iter().chain(lent).collect()
}

/// How it is built, for its README.
pub fn readme(name: &str, _kind: Kind) -> String {
    let module = name.replace('-', "_");
    format!(
        r#"`src/lib.rs` is the plugin, `sdk/` what it is written with, `wit/` the interface. Test it like any crate, then
build and pack it:

    cargo test
    rustup target add wasm32-unknown-unknown
    cargo build --release --target wasm32-unknown-unknown
    graft plugin pack target/wasm32-unknown-unknown/release/{module}.wasm -o {name}.wasm
"#
    )
}

fn manifest(name: &str) -> String {
    format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
graft-plugin = {{ path = "sdk" }}

[profile.release]
opt-level = 3
lto = "fat"
codegen-units = 1
panic = "abort"
strip = true

# A workspace of its own, wherever the folder lies.
[workspace]
"#
    )
}

fn sdk_manifest() -> String {
    format!(
        r#"[package]
name = "graft-plugin"
version = "{}"
edition = "2024"
license = "MIT OR Apache-2.0"

[dependencies]
wit-bindgen = {{ version = "{WIT_BINDGEN}", default-features = false, features = ["macros", "realloc"] }}
"#,
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_gets_the_wit_bindgen_of_the_workspace() {
        let workspace = include_str!("../../../../Cargo.toml");
        assert!(workspace.contains(&format!("wit-bindgen = {{ version = \"{WIT_BINDGEN}\"")));
    }

    #[test]
    fn every_file_of_the_sdk_is_there() {
        super::super::tests::has_all(SDK, "sdk/src");
    }
}
