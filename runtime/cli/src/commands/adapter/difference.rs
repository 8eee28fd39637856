//! `graft adapter difference`: what a model learned, as an adapter for its base.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use graft::adapter::{Difference, DifferenceOptions, OutsideTensor, difference, gguf_file};

use super::places::{by_kind, percent, ranges, together};
use super::{name_of, rank};
use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{about, threads};
use crate::progress::Progress;
use crate::table::Table;

/// Make an adapter of what a model has learned since its base
///
///   graft adapter difference -m base-f16.gguf --tuned tuned-f16.gguf --rank 32 -o learned.gguf
///
/// Float files of both say most: the rounding of block types is part of the difference.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct DifferenceArguments {
    /// The base model
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// A model of the same shape that was trained from it
    #[arg(long, value_name = "FILE")]
    tuned: PathBuf,
    /// The rank at each matrix
    #[arg(long, value_name = "R", value_parser = rank)]
    rank: usize,
    /// The adapter to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    threads: usize,
}

/// Runs the command.
pub fn run(arguments: &DifferenceArguments, setting: &Setting) -> Result<(), Failure> {
    let bar: RefCell<Option<Progress>> = RefCell::default();
    let found = difference(
        &arguments.model,
        &arguments.tuned,
        &DifferenceOptions {
            rank: arguments.rank,
            threads: arguments.threads,
            progress: Some(&|done| {
                let mut bar = bar.borrow_mut();
                let bar = bar.get_or_insert_with(|| Progress::new("comparing", done.of));
                bar.at(done.weights, done.tensor);
            }),
            cancel: Some(&setting.cancel),
        },
    );
    bar.into_inner().map(Progress::finish);
    let mut found = found.map_err(|e| about(&arguments.model, e))?;
    found.adapter = (found.adapter.renamed(name_of(&arguments.output)))
        .map_err(|e| about(&arguments.output, e))?;
    gguf_file::write(&arguments.output, &found.adapter)?;
    match setting.json {
        true => write_json(arguments, &found),
        false => write_tables(arguments, &found),
    }
}

fn write_json(arguments: &DifferenceArguments, found: &Difference) -> Result<(), Failure> {
    let sites = found.sites.iter().map(|report| {
        serde_json::json!({
            "site": report.site.to_string(), "rank": report.rank,
            "weights": report.weights, "difference": report.difference, "left_out": report.left_out,
        })
    });
    let outside = found.outside.iter().map(|tensor| {
        // JSON has no infinity; a tensor that was all zeros has no relative change either.
        serde_json::json!({"tensor": tensor.name, "change": tensor.change})
    });
    let document = serde_json::json!({
        "written": arguments.output,
        "pairs": found.adapter.iter().count(),
        "parameters": found.adapter.parameters(),
        "left_out": found.relative(),
        "sites": sites.collect::<Vec<_>>(),
        "outside": outside.collect::<Vec<_>>(),
    });
    writeln!(std::io::stdout().lock(), "{document}")?;
    Ok(())
}

fn write_tables(arguments: &DifferenceArguments, found: &Difference) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let (pairs, of) = (found.adapter.iter().count(), found.sites.len());
    writeln!(
        out,
        "{pairs} of {of} matrices differ, {} values: {}",
        found.adapter.parameters(),
        arguments.output.display()
    )?;
    let left_out = found.relative();
    writeln!(
        out,
        "left out: {} of the difference (Frobenius norm)\n",
        percent(left_out)
    )?;
    let mut table = Table::new(
        ["place", "layers", "rank", "change", "left out"],
        &[false, false, true, true, true],
    );
    for (kind, reports) in by_kind(found.sites.iter().map(|report| (report.site, report))) {
        let norms = || reports.iter().map(|(_, report)| report);
        table.row([
            kind.name(),
            ranges(reports.iter().filter_map(|(layer, _)| *layer)),
            ranges(norms().map(|report| report.rank)),
            percent(together(norms().map(|r| (r.difference, r.weights)))),
            percent(together(norms().map(|r| (r.left_out, r.difference)))),
        ]);
    }
    table.write(&mut out)?;
    let changed: Vec<_> = found
        .outside
        .iter()
        .filter(|tensor| tensor.change != Some(0.0))
        .collect();
    if !changed.is_empty() {
        writeln!(out, "\nchanged, but no part of an adapter:")?;
        write_outside(&changed, &mut out)?;
    }
    if left_out > 0.5 {
        eprintln!(
            "warning: rank {} leaves out {} of what was learned; a larger --rank keeps more",
            arguments.rank,
            percent(left_out)
        );
    }
    Ok(())
}

/// Tensors of one name in several layers are one row, with their largest change.
fn write_outside(tensors: &[&OutsideTensor], out: &mut impl Write) -> std::io::Result<()> {
    let mut rows: BTreeMap<&str, (Vec<usize>, Option<f64>)> = BTreeMap::new();
    for tensor in tensors {
        let name = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        let in_layer = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'));
        let (name, layer) = match in_layer {
            Some((layer, name)) => (name, layer.parse::<usize>().ok()),
            None => (name, None),
        };
        let (layers, change) = rows.entry(name).or_insert((Vec::new(), Some(0.0)));
        layers.extend(layer);
        *change = change.zip(tensor.change).map(|(a, b)| a.max(b));
    }
    let mut table = Table::new(
        ["tensor", "layers", "largest change"],
        &[false, false, true],
    );
    for (name, (layers, change)) in rows {
        table.row([
            name.into(),
            ranges(layers),
            match change {
                Some(change) if change.is_infinite() => "was zero".into(),
                Some(change) => percent(change),
                None => "another shape".into(),
            },
        ]);
    }
    table.write(out)
}
