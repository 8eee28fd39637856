//! The files of a new plugin: its source, and the SDK and the interface it is written against, so
//! that cargo has only `wit-bindgen` to fetch.

use std::fs;
use std::path::Path;

/// What a new plugin does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Purpose {
    /// Turns exports into samples
    Converter,
    /// Scores predictions
    Evaluator,
}

/// The version of wit-bindgen that the SDK is written for; the workspace uses the same.
const WIT_BINDGEN: &str = "0.60";

macro_rules! files {
    ($($name:literal from $path:literal)*) => { &[$(($name, include_str!(concat!("../../../plugins/", $path)))),*] };
}

/// Name in the new folder, and content.
const SDK: &[(&str, &str)] = files! {
    "sdk/src/bindings.rs" from "sdk/src/bindings.rs"
    "sdk/src/blanks.rs" from "sdk/src/blanks.rs"
    "sdk/src/conversation.rs" from "sdk/src/conversation.rs"
    "sdk/src/converter.rs" from "sdk/src/converter.rs"
    "sdk/src/evaluator.rs" from "sdk/src/evaluator.rs"
    "sdk/src/images.rs" from "sdk/src/images.rs"
    "sdk/src/json.rs" from "sdk/src/json.rs"
    "sdk/src/lib.rs" from "sdk/src/lib.rs"
    "sdk/src/model.rs" from "sdk/src/model.rs"
    "sdk/src/options.rs" from "sdk/src/options.rs"
    "sdk/src/parts.rs" from "sdk/src/parts.rs"
    "sdk/src/place.rs" from "sdk/src/place.rs"
    "sdk/src/records.rs" from "sdk/src/records.rs"
    "sdk/src/reference.rs" from "sdk/src/reference.rs"
    "sdk/src/remarks.rs" from "sdk/src/remarks.rs"
    "sdk/src/scan.rs" from "sdk/src/scan.rs"
    "sdk/src/template.rs" from "sdk/src/template.rs"
    "sdk/src/testing.rs" from "sdk/src/testing.rs"
    "sdk/src/window.rs" from "sdk/src/window.rs"
    "wit/0.1.0/converter.wit" from "wit/0.1.0/converter.wit"
    "wit/0.1.0/dataset.wit" from "wit/0.1.0/dataset.wit"
    "wit/0.1.0/evaluator.wit" from "wit/0.1.0/evaluator.wit"
    "wit/0.1.0/host.wit" from "wit/0.1.0/host.wit"
    "wit/0.1.0/input.wit" from "wit/0.1.0/input.wit"
    "wit/0.1.0/types.wit" from "wit/0.1.0/types.wit"
};

/// Writes a new plugin called `name` into `folder`, which must not exist.
pub fn write(folder: &Path, name: &str, purpose: Purpose) -> Result<(), String> {
    if folder.exists() {
        return Err(format!(
            "{} exists already; name a new folder",
            folder.display()
        ));
    }
    let source = match purpose {
        Purpose::Converter => include_str!("../scaffold/converter.rs"),
        Purpose::Evaluator => include_str!("../scaffold/evaluator.rs"),
    };
    let own = [
        ("Cargo.toml", manifest(name)),
        ("graft-plugin.toml", plugin_manifest(name, purpose)),
        ("README.md", readme(name)),
        ("src/lib.rs", source.to_owned()),
        ("sdk/Cargo.toml", sdk_manifest()),
    ];
    let own = own.iter().map(|(name, text)| (*name, text.as_str()));
    for (name, text) in own.chain(SDK.iter().copied()) {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        if let Err(error) = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text)) {
            // The folder is ours, and half a plugin is of no use.
            let _ = fs::remove_dir_all(folder);
            return Err(format!("cannot write {}: {error}", path.display()));
        }
    }
    Ok(())
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

fn plugin_manifest(name: &str, purpose: Purpose) -> String {
    let (world, title) = match purpose {
        Purpose::Converter => ("converter-plugin", "Questions and answers, one pair a line"),
        Purpose::Evaluator => ("evaluator-plugin", "Whether an answer begins right"),
    };
    format!(
        r#"id = "{name}"
version = "0.1.0"
license = "MIT OR Apache-2.0"
world = "{world}"
title = "{title}"
"#
    )
}

fn readme(name: &str) -> String {
    let module = name.replace('-', "_");
    format!(
        r#"# {name}

A plugin for graft. `src/lib.rs` is the plugin, `sdk/` what it is written with, `wit/` the interface.

Test it like any crate, then build and pack it:

    cargo test
    rustup target add wasm32-unknown-unknown
    cargo build --release --target wasm32-unknown-unknown
    graft plugin pack target/wasm32-unknown-unknown/release/{module}.wasm -o {name}.wasm
    graft plugin check {name}.wasm
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_gets_the_wit_bindgen_of_the_workspace() {
        let workspace = include_str!("../../../Cargo.toml");
        assert!(workspace.contains(&format!("wit-bindgen = {{ version = \"{WIT_BINDGEN}\"")));
    }

    #[test]
    fn every_file_of_the_sdk_and_of_the_interface_is_there() {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
        for folder in ["sdk/src", "wit/0.1.0"] {
            for entry in fs::read_dir(plugins.join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let name = format!("{folder}/{name}");
                assert!(SDK.iter().any(|(known, _)| *known == name), "{name}");
            }
        }
    }
}
