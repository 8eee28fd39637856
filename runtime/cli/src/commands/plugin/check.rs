//! `graft plugin check`: whether a plugin keeps the rules.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use graft::dataset::llava_json;
use graft_plugins::check::{Export, Report, Verdict, With, check};
use graft_plugins::{Cache, Grants, Host, Limits, Plugin};
use serde_json::{Map, Value, json};

use super::show;
use crate::Setting;
use crate::commands::convert::option;
use crate::failure::Failure;
use crate::progress::short_bytes;
use crate::table::{Table, cut};
use crate::trust_arguments::TrustArguments;

/// Check that a plugin keeps the rules, whatever it is given
///
///   graft plugin check my-format.wasm --with export.json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct CheckArguments {
    /// The plugin file, or the name of a shipped plugin
    plugin: PathBuf,
    /// What to try it with: an export that the converter reads, a data set (LLaVA JSON) that the evaluator scores
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// The folder of the images that the export names [default: the folder of the export]
    #[arg(long, value_name = "DIR", requires = "with")]
    assets: Option<PathBuf>,
    /// An option of the plugin; `graft plugin check` lists them
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<(String, Value)>,
    #[command(flatten)]
    trust: TrustArguments,
}

/// The most bytes of an export to try a plugin with.
const LARGEST: u64 = 64 << 20;

/// Runs the command.
pub fn run(arguments: &CheckArguments, setting: &Setting) -> Result<(), Failure> {
    let host = Host::new(Limits::default(), Cache::of_user())?;
    let (grants, trust) = (Grants { model: true }, arguments.trust.trust()?);
    let plugin = host.load_trusted(&arguments.plugin, &grants, &trust)?;
    let described = show::describe(&plugin)?;
    let report = check(&plugin, &with(&plugin, arguments)?);
    let mut out = std::io::stdout().lock();
    if setting.json {
        let mut document = show::document(plugin.info(), Some(&described));
        document["rules"] = json!(report.rows);
        document["problems"] = report.broken().map(|row| json!(row)).collect();
        writeln!(out, "{document}")?;
    } else {
        drop(out);
        show::show(plugin.info(), Some(&described), setting)?;
        out = std::io::stdout().lock();
        writeln!(out)?;
        write_rules(&report, &mut out)?;
    }
    match report.broken().count() {
        0 => Ok(()),
        broken => Err(Failure::Work(format!(
            "{} breaks {broken} of {} rules",
            arguments.plugin.display(),
            report.rows.len()
        ))),
    }
}

/// What the plugin is tried with.
fn with(plugin: &Plugin, arguments: &CheckArguments) -> Result<With, Failure> {
    let options: Map<String, Value> = arguments.options.iter().cloned().collect();
    let mut with = With {
        options: Value::Object(options).to_string(),
        ..With::default()
    };
    let Some(path) = &arguments.with else {
        return Ok(with);
    };
    match plugin {
        Plugin::Converter(_) => with.export = Some(export(path, arguments.assets.as_deref())?),
        Plugin::Evaluator(_) => {
            with.samples = llava_json::read(path).map_err(graft::Error::from)?
        }
    }
    Ok(with)
}

fn export(path: &Path, assets: Option<&Path>) -> Result<Export, Failure> {
    let failed = |e: std::io::Error| Failure::Work(format!("cannot read {}: {e}", path.display()));
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > LARGEST {
        return Err(Failure::Work(format!(
            "{} has {}; a few records of it, at most {}, are enough to try a plugin with",
            path.display(),
            short_bytes(bytes),
            short_bytes(LARGEST)
        )));
    }
    let beside = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().unwrap_or_default();
    Ok(Export {
        name: name.to_string_lossy().into_owned(),
        bytes: std::fs::read(path).map_err(failed)?,
        assets: assets.unwrap_or(beside).to_owned(),
    })
}

/// A table of the rules, and behind it what is broken and what to do.
fn write_rules(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    let mut table = Table::new(["rule", "verdict", "tried"], &[false, false, false]);
    for row in &report.rows {
        let (verdict, tried) = match &row.verdict {
            Verdict::Kept { tried } => ("kept", tried.as_str()),
            Verdict::Broken { .. } => ("BROKEN", ""),
            Verdict::NotAsked { why } => ("not asked", *why),
        };
        table.row([row.rule.to_owned(), verdict.to_owned(), cut(tried, 60)]);
    }
    table.write(out)?;
    for row in report.broken() {
        if let Verdict::Broken { what, advice } = &row.verdict {
            writeln!(out, "\n{}: {what}\n    {advice}", row.rule)?;
        }
    }
    Ok(())
}
