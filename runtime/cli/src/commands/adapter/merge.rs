//! `graft adapter merge`: adapters into their base.

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use graft::adapter::{Attached, MergeOptions, merge};
use graft::quantize::Mix;

use super::open_model;
use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{AdapterArgument, about, adapter_argument, threads};
use crate::progress::{Progress, short_bytes};

/// Bake adapters into a base model, and say what rounding the sum has cost
///
///   graft adapter merge -m model-Q4_K_M.gguf --adapter invoices.gguf -o merged.gguf --type Q8_0
///
/// Without --type every tensor keeps its own.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct MergeArguments {
    /// The base model
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// An adapter and how strongly it counts [default: 1]; may be repeated
    #[arg(long = "adapter", value_name = "FILE[:SCALE]", value_parser = adapter_argument, required = true)]
    adapters: Vec<AdapterArgument>,
    /// The model to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Q4_K_M, Q8_0, F16, … [default: as the base]
    #[arg(long = "type", value_name = "TYPE")]
    mix: Option<Mix>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    threads: usize,
}

/// Runs the command.
pub fn run(arguments: &MergeArguments, setting: &Setting) -> Result<(), Failure> {
    let attached = {
        let model = open_model(&arguments.model)?;
        let open = |argument: &AdapterArgument| Ok((argument.open(&model)?, argument.scale));
        let adapters = arguments.adapters.iter().map(open);
        Attached::new(adapters.collect::<Result<Vec<_>, Failure>>()?)
    };
    let bar: RefCell<Option<Progress>> = RefCell::default();
    let report = merge(
        &arguments.model,
        &attached,
        &arguments.output,
        &MergeOptions {
            mix: arguments.mix,
            threads: arguments.threads,
            progress: Some(&|done| {
                let mut bar = bar.borrow_mut();
                let bar = bar.get_or_insert_with(|| Progress::new("merging", done.of));
                bar.at(done.weights, done.tensor);
            }),
            cancel: Some(&setting.cancel),
        },
    );
    bar.into_inner().map(Progress::finish);
    let report = report.map_err(|e| about(&arguments.model, e))?;
    let mut out = std::io::stdout().lock();
    if setting.json {
        let sites = report.sites.iter().map(|merged| {
            serde_json::json!({
                "site": merged.site.to_string(),
                "type": merged.stored.to.name(),
                "added_rms": merged.added_rms,
                "rounding_rms": merged.stored.error.rms,
            })
        });
        let document = serde_json::json!({
            "written": arguments.output,
            "bytes_before": report.bytes_before,
            "bytes_after": report.bytes_after,
            "sites": sites.collect::<Vec<_>>(),
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    let (before, after) = (
        short_bytes(report.bytes_before),
        short_bytes(report.bytes_after),
    );
    let (sites, path) = (report.sites.len(), arguments.output.display());
    writeln!(out, "{sites} matrices changed, {before} to {after}: {path}")?;
    if let Some(worst) = report.worst() {
        let (added, rounding) = (worst.added_rms, worst.stored.error.rms);
        let share = 100.0 * rounding / added.max(f64::MIN_POSITIVE);
        writeln!(
            out,
            "largest rounding beside what was added: {}, {rounding:.2e} of {added:.2e} ({share:.0} %)",
            worst.site
        )?;
        if rounding > 0.5 * added {
            eprintln!(
                "warning: storing as {} rounds away much of the adapter; choose a larger --type, or \
                 keep the adapter beside the base",
                worst.stored.to
            );
        }
    }
    Ok(())
}
