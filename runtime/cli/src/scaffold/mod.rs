//! The files of a new plugin: an example that builds, in one of four languages, and what it is written against.
//!
//! The examples are those under `plugins/examples`.

mod c;
mod javascript;
mod python;
mod rust;

use std::fs;
use std::path::Path;

/// What a new plugin does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Kind {
    /// Turns exports into samples
    Converter,
    /// Scores predictions
    Evaluator,
}

/// What a new plugin is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Language {
    /// A crate with an SDK: the smallest, fastest plugins
    Rust,
    /// One source file and one header
    C,
    /// A module for componentize-js
    #[value(alias = "javascript")]
    Js,
    /// A module for componentize-py
    Python,
}

/// Name in the new folder, and content.
type File = (&'static str, String);

macro_rules! embedded {
    ($($name:literal from $path:literal)*) => {
        &[$(($name, include_str!(concat!("../../../../plugins/", $path)))),*]
    };
}
use embedded;

/// The interface: name in the new folder, and content.
const WIT: &[(&str, &str)] = embedded! {
    "wit/0.1.0/converter.wit" from "wit/0.1.0/converter.wit"
    "wit/0.1.0/dataset.wit" from "wit/0.1.0/dataset.wit"
    "wit/0.1.0/evaluator.wit" from "wit/0.1.0/evaluator.wit"
    "wit/0.1.0/host.wit" from "wit/0.1.0/host.wit"
    "wit/0.1.0/input.wit" from "wit/0.1.0/input.wit"
    "wit/0.1.0/types.wit" from "wit/0.1.0/types.wit"
};

impl Kind {
    /// Its world in the interface.
    fn world(self) -> &'static str {
        match self {
            Self::Converter => "converter-plugin",
            Self::Evaluator => "evaluator-plugin",
        }
    }
}

/// Writes a new plugin called `name` into `folder`, which must not exist.
pub fn write(folder: &Path, name: &str, kind: Kind, language: Language) -> Result<(), String> {
    if folder.exists() {
        return Err(format!(
            "{} exists already; name a new folder",
            folder.display()
        ));
    }
    let (files, how) = match language {
        Language::Rust => (rust::files(name, kind), rust::readme(name, kind)),
        Language::C => (c::files(kind), c::readme(name)),
        Language::Js => (javascript::files(name, kind), javascript::readme(name)),
        Language::Python => (python::files(kind), python::readme(name, kind)),
    };
    let own = [
        ("graft-plugin.toml", manifest(name, kind)),
        ("README.md", readme(name, kind, &how)),
    ];
    for (file, text) in own.into_iter().chain(files) {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        if let Err(error) = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text)) {
            // The folder is ours, and half a plugin is of no use.
            let _ = fs::remove_dir_all(folder);
            return Err(format!("cannot write {}: {error}", path.display()));
        }
    }
    Ok(())
}

fn manifest(name: &str, kind: Kind) -> String {
    let world = kind.world();
    let title = match kind {
        Kind::Converter => "Questions and answers, one pair a line",
        Kind::Evaluator => "Whether an answer begins right",
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

fn readme(name: &str, kind: Kind, how: &str) -> String {
    let use_it = match kind {
        Kind::Converter => format!(
            r#"Try it on an export, and ask whether it keeps the rules, with that export cut and damaged in many ways:

    printf 'What is the total?\t42.00\nno tab here\nAnd the date?\t1 May\n' > questions.tsv
    graft convert --plugin ./{name}.wasm questions.tsv -o train.json
    graft plugin check ./{name}.wasm --with questions.tsv
"#
        ),
        Kind::Evaluator => format!(
            r#"Ask whether it keeps the rules; `--with` gives the check a data set of yours:

    graft plugin check ./{name}.wasm
"#
        ),
    };
    format!("# {name}\n\nA plugin for graft. {how}\n{use_it}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `files` has all of a folder under `plugins`.
    pub fn has_all(files: &[(&str, &str)], folder: &str) {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
        for entry in fs::read_dir(plugins.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let name = format!("{folder}/{name}");
            assert!(files.iter().any(|(known, _)| *known == name), "{name}");
        }
    }

    #[test]
    fn every_file_of_the_interface_is_there() {
        has_all(WIT, "wit/0.1.0");
    }

    #[test]
    fn a_new_plugin_is_whole_in_every_language() {
        let folder = tempfile::tempdir().unwrap();
        for language in [Language::Rust, Language::C, Language::Js, Language::Python] {
            for kind in [Kind::Converter, Kind::Evaluator] {
                let path = folder.path().join(format!("{language:?}-{kind:?}"));
                write(&path, "my-plugin", kind, language).unwrap();
                let readme = fs::read_to_string(path.join("README.md")).unwrap();
                for needed in ["graft plugin pack", "graft plugin check ./my-plugin.wasm"] {
                    assert!(readme.contains(needed), "{language:?} {kind:?}: {readme}");
                }
                let manifest = fs::read_to_string(path.join("graft-plugin.toml")).unwrap();
                assert!(manifest.contains(kind.world()), "{manifest}");
            }
        }
    }
}
