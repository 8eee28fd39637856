//! `graft plugin`: beginning, packing, checking and describing a plugin.

mod check;
mod show;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use graft::atomic_file::AtomicFile;
use graft_plugins::{Cache, Grants, Host, Limits};
use serde_json::json;

use crate::Setting;
use crate::component;
use crate::failure::Failure;
use crate::progress::short_bytes;
use crate::scaffold::{self, Kind, Language};

/// Begin, pack, check and describe WebAssembly plugins
///
///   graft plugin new my-format
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct PluginArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    New(NewArguments),
    Pack(PackArguments),
    Check(check::CheckArguments),
    Info(InfoArguments),
}

/// Write a new plugin in Rust, C, JavaScript or Python, ready to build
///
///   graft plugin new my-format --kind converter --lang c
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct NewArguments {
    /// The folder to write; its name is the plugin's
    folder: PathBuf,
    /// What the plugin does
    #[arg(
        long,
        value_name = "KIND",
        default_value = "converter",
        alias = "purpose"
    )]
    kind: Kind,
    /// What it is written in
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: Language,
}

/// Turn what a compiler made, a module or a component, into a plugin
///
///   graft plugin pack target/wasm32-unknown-unknown/release/my_format.wasm -o my-format.wasm
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct PackArguments {
    /// The module
    module: PathBuf,
    /// The plugin to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What the plugin says about itself
    #[arg(long, value_name = "FILE", default_value = "graft-plugin.toml")]
    manifest: PathBuf,
}

/// Describe a plugin without running it
///
///   graft plugin info ubiai
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct InfoArguments {
    /// The plugin file, or the name of a shipped plugin
    plugin: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &PluginArguments, setting: &Setting) -> Result<(), Failure> {
    match &arguments.what {
        What::New(arguments) => new(arguments, setting),
        What::Pack(arguments) => pack(arguments, setting),
        What::Check(arguments) => check::run(arguments, setting),
        What::Info(arguments) => info(&arguments.plugin, setting),
    }
}

fn new(arguments: &NewArguments, setting: &Setting) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) {
        return Err(Failure::Usage(format!(
            "a plugin's name is lower-case letters, digits and hyphens, unlike {name:?}"
        )));
    }
    scaffold::write(folder, name, arguments.kind, arguments.lang).map_err(Failure::Work)?;
    let mut out = std::io::stdout().lock();
    match setting.json {
        true => writeln!(out, "{}", json!({"written": folder}))?,
        false => writeln!(
            out,
            "{}; {} says how to go on",
            folder.display(),
            folder.join("README.md").display()
        )?,
    }
    Ok(())
}

fn pack(arguments: &PackArguments, setting: &Setting) -> Result<(), Failure> {
    const LARGEST: u64 = 256 << 20;
    let read = |path: &Path| {
        let failed =
            |e: std::io::Error| Failure::Work(format!("cannot read {}: {e}", path.display()));
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > LARGEST {
            let size = short_bytes(bytes);
            return Err(Failure::Work(format!(
                "{} has {size}; that is no plugin",
                path.display()
            )));
        }
        std::fs::read(path).map_err(failed)
    };
    let (module, manifest) = (read(&arguments.module)?, read(&arguments.manifest)?);
    let plugin = component::encode(&module, &manifest).map_err(|reason| {
        let module = arguments.module.display();
        Failure::Work(format!("{module} does not become a plugin: {reason}"))
    })?;
    let name = arguments.output.file_name().unwrap_or_default();
    let host = Host::new(Limits::default(), Cache::of_user())?;
    // What does not run gets no name.
    let checked = host.load_bytes(&name.to_string_lossy(), &plugin, &Grants { model: true })?;
    let described = show::describe(&checked)?;
    AtomicFile::write(&arguments.output, &plugin)?;
    show::show(checked.info(), Some(&described), setting)
}

/// Prints what a plugin's file says.
pub fn info(path: &Path, setting: &Setting) -> Result<(), Failure> {
    let info = Host::new(Limits::default(), None)?.info(path)?;
    show::show(&info, None, setting)
}
