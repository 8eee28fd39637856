//! `graft plugin`: beginning, packing, checking and describing a plugin.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use graft::atomic_file::AtomicFile;
use graft::dataset::Converter;
use graft::evaluate::Evaluator;
use graft_plugins::{Grants, Host, Limits, Plugin, PluginInfo};
use serde_json::{Value, json};

use crate::Setting;
use crate::component;
use crate::failure::Failure;
use crate::progress::short_bytes;
use crate::scaffold::{self, Kind, Language};
use crate::trust_arguments::TrustArguments;

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
    Check(CheckArguments),
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

/// Check that graft runs a plugin: load it, compile it, let it describe itself
///
///   graft plugin check my-format.wasm
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct CheckArguments {
    /// The plugin file, or the name of a shipped plugin
    plugin: PathBuf,
    #[command(flatten)]
    trust: TrustArguments,
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
        What::Check(arguments) => check(arguments, setting),
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
    let host = Host::new(Limits::default(), None)?;
    // What does not run gets no name.
    let checked = host.load_bytes(&name.to_string_lossy(), &plugin, &Grants { model: true })?;
    let described = describe(&checked)?;
    AtomicFile::write(&arguments.output, &plugin)?;
    show(checked.info(), Some(&described), setting)
}

fn check(arguments: &CheckArguments, setting: &Setting) -> Result<(), Failure> {
    let host = Host::new(Limits::default(), None)?;
    let (grants, trust) = (Grants { model: true }, arguments.trust.trust()?);
    let plugin = host.load_trusted(&arguments.plugin, &grants, &trust)?;
    show(plugin.info(), Some(&describe(&plugin)?), setting)
}

/// What a plugin says about itself when it runs, and the schema of its options.
fn describe(plugin: &Plugin) -> Result<(Value, Value), Failure> {
    let (described, schema) = match plugin {
        Plugin::Converter(converter) => {
            let said = converter.describe().map_err(graft::Error::from)?;
            (json!({"formats": said.formats}), said.options_schema)
        }
        Plugin::Evaluator(evaluator) => {
            let said = evaluator.describe().map_err(graft::Error::from)?;
            (json!({"metrics": said.metrics}), said.options_schema)
        }
    };
    let schema = serde_json::from_str(&schema).map_err(|e| {
        let plugin = &plugin.info().name;
        Failure::Work(format!("the options schema of {plugin} is not JSON: {e}"))
    })?;
    Ok((described, schema))
}

/// Prints what a plugin's file says.
pub fn info(path: &Path, setting: &Setting) -> Result<(), Failure> {
    let info = Host::new(Limits::default(), None)?.info(path)?;
    show(&info, None, setting)
}

fn show(
    info: &PluginInfo,
    described: Option<&(Value, Value)>,
    setting: &Setting,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if setting.json {
        let mut document = json!({"kind": "plugin", "info": info, "problems": []});
        if let Some((described, schema)) = described {
            document["described"] = described.clone();
            document["options_schema"] = schema.clone();
        }
        writeln!(out, "{document}")?;
        return Ok(());
    }
    let mut line = |label: &str, text: &str| writeln!(out, "{label:14}{text}");
    line("plugin", &info.name)?;
    line("world", info.world.name())?;
    if let Some(manifest) = &info.manifest {
        line("title", &manifest.title)?;
        line("id", &format!("{} {}", manifest.id, manifest.version))?;
        line("license", &manifest.license)?;
    }
    line("size", &short_bytes(info.bytes))?;
    line("sha256", &info.sha256)?;
    for (i, import) in info.imports.iter().enumerate() {
        line(if i == 0 { "imports" } else { "" }, import)?;
    }
    for (i, export) in info.exports.iter().enumerate() {
        line(if i == 0 { "exports" } else { "" }, export)?;
    }
    let Some((described, schema)) = described else {
        return Ok(());
    };
    for format in described["formats"].as_array().into_iter().flatten() {
        let text = format!("{}: {}", text_of(&format["id"]), text_of(&format["title"]));
        line("format", &text)?;
    }
    for metric in described["metrics"].as_array().into_iter().flatten() {
        line("metric", text_of(&metric["name"]))?;
    }
    for (key, option) in schema["properties"].as_object().into_iter().flatten() {
        let default = match &option["default"] {
            Value::Null => String::new(),
            value => format!(", default {value}"),
        };
        line(
            "option",
            &format!("{key}: {}{default}", text_of(&option["type"])),
        )?;
    }
    line("check", "graft loads, compiles and runs it")?;
    Ok(())
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("any")
}
