//! `graft convert`: a foreign export to LLaVA JSON, through a plugin.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use graft_plugins::{Cache, Grants, Host, Limits};
use serde_json::{Map, Value};

use crate::Setting;
use crate::conversion::{convert, remark};
use crate::failure::Failure;
use crate::trust_arguments::TrustArguments;

/// Convert a labelled export to LLaVA JSON, with a WebAssembly plugin
///
///   graft convert --plugin ubiai export.json -o train.json --assets images
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ConvertArguments {
    /// A plugin file, or the name of a shipped plugin (alpaca, coco-captions, csv, doccano, label-studio,
    /// openai-chat, sharegpt, ubiai, vqa-v2)
    #[arg(long, value_name = "PLUGIN")]
    plugin: PathBuf,
    /// The export
    input: PathBuf,
    /// The data set to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The folder of the images it names [default: the folder of the export]
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// An option of the plugin; `graft plugin check` lists them
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<(String, Value)>,
    #[command(flatten)]
    trust: TrustArguments,
}

/// Runs the command.
pub fn run(arguments: &ConvertArguments, setting: &Setting) -> Result<(), Failure> {
    let host = Host::new(Limits::default(), Cache::of_user())?;
    let converter = host
        .load_trusted(
            &arguments.plugin,
            &Grants::default(),
            &arguments.trust.trust()?,
        )?
        .into_converter()?;
    let beside = arguments.input.parent().unwrap_or(Path::new(""));
    let assets = arguments.assets.as_deref().unwrap_or(beside);
    let options: Map<String, Value> = arguments.options.iter().cloned().collect();
    let converted = convert(
        &converter,
        &arguments.input,
        assets,
        &arguments.output,
        &Value::Object(options).to_string(),
        &setting.cancel,
    )?;
    let summary = converted.summary;
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::json!({
            "written": arguments.output,
            "summary": summary,
            "diagnostics": converted.diagnostics,
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    remark(&converted.diagnostics);
    let (records, samples, skipped) = (summary.records, summary.samples, summary.skipped);
    writeln!(
        out,
        "{records} records, {samples} samples, {skipped} skipped: {}",
        arguments.output.display()
    )?;
    Ok(())
}

/// `KEY=VALUE`; a value that is JSON keeps its type, anything else is text.
pub fn option(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((key.to_owned(), value))
}
