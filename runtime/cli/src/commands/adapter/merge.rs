//! `graft adapter merge`: adapters into their base, and what became of them there.

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use graft::adapter::{Attached, MergeOptions, MergeReport, MergedSite, merge};
use graft::model::{Model, ModelOptions};
use graft::quantize::Mix;

use super::places::{by_kind, percent, ranges, together};
use crate::Setting;
use crate::divergence::Divergence;
use crate::failure::Failure;
use crate::model_arguments::{AdapterArgument, about, adapter_argument, open_model, threads};
use crate::positions::Positions;
use crate::progress::{Progress, short_bytes};
use crate::table::Table;
use crate::windows::Windows;

/// Bake adapters into a base model, and say what rounding the sum has cost
///
///   graft adapter merge -m model-Q4_K_M.gguf --adapter invoices.gguf -o merged.gguf --type Q8_0
///
/// Without --type every tensor keeps its own. "Kept" is the share of what the adapters add that the
/// stored weights hold; small changes to a coarse type are rounded away. With --text the merged model is
/// compared with the base and its adapters on a text: windows of --ctx tokens, the second half of each.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct MergeArguments {
    /// The base model
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// Its vision half, for adapters with pairs there
    #[arg(long, value_name = "FILE", requires = "mmproj_output")]
    mmproj: Option<PathBuf>,
    /// The vision half to write
    #[arg(long, value_name = "FILE", requires = "mmproj")]
    mmproj_output: Option<PathBuf>,
    /// An adapter and how strongly it counts [default: 1]; may be repeated
    #[arg(long = "adapter", value_name = "FILE[:SCALE]", value_parser = adapter_argument, required = true)]
    adapters: Vec<AdapterArgument>,
    /// The model to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Q4_K_M, Q8_0, F16, … [default: as the base]
    #[arg(long = "type", value_name = "TYPE")]
    mix: Option<Mix>,
    /// Compare both on this text; - for stdin
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens of a window of the text
    #[arg(long, value_name = "N", default_value_t = 512, requires = "text")]
    ctx: usize,
    /// Windows to look at, from the beginning [default: all]
    #[arg(long, value_name = "N", requires = "text")]
    chunks: Option<usize>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    threads: usize,
}

/// Distances from the base with its adapters.
struct Comparison {
    merged: Divergence,
    /// Of the base alone: what there was to lose.
    base: Divergence,
}

/// Runs the command.
pub fn run(arguments: &MergeArguments, setting: &Setting) -> Result<(), Failure> {
    let options = ModelOptions {
        mmproj: arguments.mmproj.clone(),
        threads: arguments.threads,
        ..ModelOptions::default()
    };
    let base = open_model(&arguments.model, &options)?;
    let open = |argument: &AdapterArgument| Ok((argument.open(&base)?, argument.scale));
    let adapters = arguments.adapters.iter().map(open);
    let attached = Attached::new(adapters.collect::<Result<Vec<_>, Failure>>()?);
    // A text that cannot be used is better known before the work.
    let windows = arguments.text.as_ref();
    let windows = windows.map(|file| Windows::read(&base, file, arguments.ctx, arguments.chunks));
    let windows = windows.transpose()?;
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
            vision: arguments
                .mmproj
                .as_deref()
                .zip(arguments.mmproj_output.as_deref()),
        },
    );
    bar.into_inner().map(Progress::finish);
    let report = report.map_err(|e| about(&arguments.model, e))?;
    let compare = |windows: &Windows| {
        let options = ModelOptions {
            mmproj: None,
            ..options
        };
        let merged = open_model(&arguments.output, &options)?;
        compare(windows, &base, &attached, &merged, setting)
    };
    let comparison = windows.as_ref().map(compare).transpose()?;
    match setting.json {
        true => write_json(arguments, &report, comparison.as_ref()),
        false => write_tables(arguments, &report, comparison.as_ref()),
    }
}

fn compare(
    windows: &Windows,
    base: &Arc<Model>,
    attached: &Attached,
    merged: &Arc<Model>,
    setting: &Setting,
) -> Result<Comparison, Failure> {
    let length = windows.length();
    let mut right = Positions::new(base, attached.clone(), length)?;
    let mut others = [
        (
            Positions::new(merged, Attached::default(), length)?,
            Divergence::default(),
        ),
        (
            Positions::new(base, Attached::default(), length)?,
            Divergence::default(),
        ),
    ];
    let vocabulary = base.llama().shape().vocabulary;
    let mut expected: Vec<f32> = Vec::new();
    let mut progress = Progress::new("comparing", windows.count() as u64);
    for (n, (_, items)) in windows.each().enumerate() {
        expected.clear();
        right.each(&items, windows.from(), &setting.cancel, |_, logits| {
            expected.extend(logits);
            Ok(())
        })?;
        for (positions, divergence) in &mut others {
            let mut rows = expected.chunks_exact(vocabulary);
            positions.each(&items, windows.from(), &setting.cancel, |_, logits| {
                let row = rows.next().expect("as many positions as before");
                divergence.add(row, logits);
                Ok(())
            })?;
        }
        let mean = others[0].1.mean();
        progress.at(n as u64 + 1, &format!("divergence {mean:.2e}"));
    }
    progress.finish();
    let [(_, merged), (_, base)] = others;
    Ok(Comparison { merged, base })
}

fn write_json(
    arguments: &MergeArguments,
    report: &MergeReport,
    comparison: Option<&Comparison>,
) -> Result<(), Failure> {
    let sites = report.sites.iter().map(|merged| {
        serde_json::json!({
            "site": merged.site.to_string(),
            "type": merged.stored.to.name(),
            "added_rms": merged.added_rms,
            "rounding_rms": merged.stored.error.rms,
            "relative_error": merged.stored.error.relative(),
            "kept": merged.kept,
        })
    });
    let distance = |found: &Divergence| {
        serde_json::json!({
            "mean": found.mean(),
            "percentile_99": found.percentile(0.99),
            "top_1_agreement": found.agreement(),
        })
    };
    let comparison = comparison.map(|found| {
        serde_json::json!({
            "positions": found.merged.positions(),
            "merged": distance(&found.merged),
            "base": distance(&found.base),
        })
    });
    let document = serde_json::json!({
        "written": arguments.output,
        "written_mmproj": arguments.mmproj_output,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "kept": kept(report.sites.iter()),
        "sites": sites.collect::<Vec<_>>(),
        "divergence": comparison,
    });
    writeln!(std::io::stdout().lock(), "{document}")?;
    Ok(())
}

/// The share of the change that is in the file, over several matrices.
fn kept<'r>(sites: impl Iterator<Item = &'r MergedSite>) -> f64 {
    let sums = sites.fold((0.0, 0.0), |(along, added), site| {
        let squares = site.added_rms.powi(2) * site.stored.weights as f64;
        (along + site.kept * squares, added + squares)
    });
    match sums {
        (_, 0.0) => 1.0,
        (along, added) => along / added,
    }
}

fn write_tables(
    arguments: &MergeArguments,
    report: &MergeReport,
    comparison: Option<&Comparison>,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let (before, after) = (
        short_bytes(report.bytes_before),
        short_bytes(report.bytes_after),
    );
    let (sites, path) = (report.sites.len(), arguments.output.display());
    writeln!(out, "{sites} matrices changed, {before} to {after}: {path}")?;
    if let Some(path) = &arguments.mmproj_output {
        writeln!(out, "with the vision half: {}", path.display())?;
    }
    let mut table = Table::new(
        [
            "place", "layers", "type", "change", "rounding", "kept", "least",
        ],
        &[false, false, false, true, true, true, true],
    );
    for (kind, reports) in by_kind(report.sites.iter().map(|site| (site.site, site))) {
        let sites = || reports.iter().map(|&(_, site)| site);
        let mut types: Vec<&str> = sites().map(|site| site.stored.to.name()).collect();
        types.sort_unstable();
        types.dedup();
        let least = sites().map(|site| site.kept).fold(f64::INFINITY, f64::min);
        table.row([
            kind.name(),
            ranges(reports.iter().filter_map(|(layer, _)| *layer)),
            types.join(", "),
            percent(together(
                sites().map(|site| (site.added_rms, site.stored.error.weight_rms)),
            )),
            percent(together(sites().map(|site| {
                (site.stored.error.rms, site.stored.error.weight_rms)
            }))),
            percent(kept(sites())),
            percent(least),
        ]);
    }
    table.write(&mut out)?;
    writeln!(
        out,
        "kept: {} of the change; change and rounding are parts of the weights",
        percent(kept(report.sites.iter()))
    )?;
    if let Some(found) = comparison {
        writeln!(
            out,
            "\ndistance from the base with its adapters, {} positions:",
            found.merged.positions()
        )?;
        let mut table = Table::new(
            ["", "KL mean", "99th percentile", "same top token"],
            &[false, true, true, true],
        );
        for (name, found) in [("merged", &found.merged), ("base alone", &found.base)] {
            table.row([
                name.into(),
                format!("{:.2e}", found.mean()),
                format!("{:.2e}", found.percentile(0.99)),
                percent(found.agreement()),
            ]);
        }
        table.write(&mut out)?;
    }
    let erased = report.erased().count();
    if let Some(worst) = report.worst()
        && erased > 0
    {
        eprintln!(
            "warning: in {erased} of {sites} matrices most of the change is smaller than a step of \
             the type and is rounded away ({}, {}: {} kept); merge into the float model that the \
             base was made of and quantize that, choose a larger --type, or keep the adapter beside \
             the base",
            worst.site,
            worst.stored.to,
            percent(worst.kept)
        );
    }
    Ok(())
}
