//! `graft adapter`: what an adapter is, where it came from, where it can go, and what adapters become.

mod combine;
mod difference;
mod exchange;
mod info;
mod merge;
mod places;
mod prune;
mod rescale;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use clap::{Args, Subcommand};
use graft::adapter::{Adapter, companion, folder, gguf_file};
use graft::model::{Model, ModelOptions};

use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{self, about};

/// Describe, import, export, merge, combine and change LoRA adapters
///
///   graft adapter info invoices.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct AdapterArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Info(info::InfoArguments),
    Import(exchange::ImportArguments),
    Export(exchange::ExportArguments),
    Merge(merge::MergeArguments),
    Combine(combine::CombineArguments),
    Difference(difference::DifferenceArguments),
    Prune(prune::PruneArguments),
    Scale(rescale::ScaleArguments),
    Rename(rescale::RenameArguments),
}

/// Runs the command.
pub fn run(arguments: &AdapterArguments, setting: &Setting) -> Result<(), Failure> {
    match &arguments.what {
        What::Info(arguments) => info::run(arguments, setting),
        What::Import(arguments) => exchange::import(arguments, setting),
        What::Export(arguments) => exchange::export(arguments, setting),
        What::Merge(arguments) => merge::run(arguments, setting),
        What::Combine(arguments) => combine::run(arguments, setting),
        What::Difference(arguments) => difference::run(arguments, setting),
        What::Prune(arguments) => prune::run(arguments, setting),
        What::Scale(arguments) => rescale::scale(arguments, setting),
        What::Rename(arguments) => rescale::rename(arguments, setting),
    }
}

fn open_model(path: &Path) -> Result<Arc<Model>, Failure> {
    model_arguments::open_model(path, &ModelOptions::default())
}

/// Opens an adapter file by itself, or anything that is an adapter for a model. Nothing is attached here, so pairs
/// in the vision half are compared with one only where the model has it.
fn open_adapter(path: &Path, model: Option<&Model>) -> Result<Arc<Adapter>, Failure> {
    let adapter = match (model, path.is_dir()) {
        (Some(model), true) => {
            folder::read(path, model.llama().shape()).map_err(|e| about(path, e))?
        }
        (_, false) => gguf_file::read(path).map_err(|e| about(path, e))?,
        (None, true) => {
            return Err(Failure::Usage(format!(
                "{} is a folder; give the base model with -m to read it",
                path.display()
            )));
        }
    };
    let fits = model.map_or(Ok(()), |model| adapter.check_what_is_there(model));
    fits.map_err(|e| about(path, e))?;
    Ok(Arc::new(adapter))
}

/// The name that an adapter file has by itself.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem();
    stem.map_or_else(
        || "adapter".into(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

/// A rank from the command line.
fn rank(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rank) if rank > 0 => Ok(rank),
        _ => Err("give a number from 1 on".into()),
    }
}

/// One line about what was written.
fn written(path: &Path, adapter: &Adapter, setting: &Setting) -> Result<(), Failure> {
    let pairs = adapter.iter().count();
    let in_vision = adapter.iter().any(|(site, _)| site.is_vision());
    let beside = (in_vision && path.is_file()).then(|| companion::path_of(path));
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::json!({
            "written": path, "beside": beside, "pairs": pairs, "parameters": adapter.parameters(),
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{pairs} pairs, {} values: {}",
        adapter.parameters(),
        path.display()
    )?;
    if let Some(beside) = beside {
        writeln!(
            out,
            "those of the vision half lie beside it and go where it goes: {}",
            beside.display()
        )?;
    }
    Ok(())
}
