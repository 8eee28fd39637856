//! `graft adapter combine`: several adapters as one.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use graft::adapter::{Adapter, Keep, combine, compress, gguf_file};
use graft::threads::Pool;

use super::places::write_pairs;
use super::{name_of, open_adapter, open_model, prune, rank, written};
use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{AdapterArgument, about, adapter_argument, threads};

/// Make one adapter of several, each with a weight
///
///   graft adapter combine invoices.gguf:0.7 receipts.gguf:0.3 -o both.gguf --rank 16
///
/// Without --rank the ranks add up, and the result answers as the adapters attached together.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct CombineArguments {
    /// GGUF adapters or folders of one base, and how strongly each counts [default: 1]
    #[arg(value_name = "FILE[:WEIGHT]", value_parser = adapter_argument, required = true)]
    adapters: Vec<AdapterArgument>,
    /// The adapter to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Keep at most this rank, and say what that leaves out
    #[arg(long, value_name = "R", value_parser = rank)]
    rank: Option<usize>,
    /// The base model; folders need it
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    threads: usize,
}

/// Runs the command.
pub fn run(arguments: &CombineArguments, setting: &Setting) -> Result<(), Failure> {
    let model = arguments.model.as_deref().map(open_model).transpose()?;
    // Under the names of their files, so that a refusal says which files it is about.
    let open = |argument: &AdapterArgument| {
        let adapter = open_adapter(&argument.path, model.as_deref())?;
        let name = argument.path.display().to_string();
        let named = Arc::unwrap_or_clone(adapter).renamed(name);
        let named = named.map_err(|e| about(&argument.path, e))?;
        Ok((named, argument.scale))
    };
    let adapters: Vec<(Adapter, f32)> = arguments
        .adapters
        .iter()
        .map(open)
        .collect::<Result<_, Failure>>()?;
    let parts: Vec<(&Adapter, f32)> = adapters.iter().map(|(a, weight)| (a, *weight)).collect();
    let output = &arguments.output;
    let sum = combine(name_of(output), &parts).map_err(graft::Error::from)?;
    let Some(rank) = arguments.rank else {
        gguf_file::write(output, &sum)?;
        written(output, &sum, setting)?;
        if !setting.json {
            write_pairs(&sum, &mut std::io::stdout().lock())?;
        }
        return Ok(());
    };
    let pool = Pool::new(arguments.threads)?;
    let compressed = compress(&sum, Keep::Rank(rank), &pool, &setting.cancel)?;
    gguf_file::write(output, &compressed.adapter)?;
    prune::report(output, &compressed, setting)
}
