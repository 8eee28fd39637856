//! `graft adapter prune`: an adapter at smaller ranks.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use graft::adapter::{Compressed, Keep, compress, gguf_file};
use graft::threads::Pool;

use super::places::{by_kind, percent, ranges, together};
use super::{open_adapter, open_model, rank};
use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{about, threads};
use crate::table::Table;

/// Lower the ranks of an adapter, and say what that leaves out
///
///   graft adapter prune invoices.gguf --energy 0.99 -o small.gguf
///
/// Every layer gets a rank of its own with --energy. Layers at which nothing is added are dropped.
#[derive(Args)]
#[command(verbatim_doc_comment, group(ArgGroup::new("keep").required(true)))]
pub struct PruneArguments {
    /// A GGUF adapter, or a folder of PEFT or mlx-lm
    adapter: PathBuf,
    /// The adapter to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Keep this share of what each layer adds, by its square, such as 0.99
    #[arg(long, value_name = "SHARE", value_parser = share, group = "keep")]
    energy: Option<f64>,
    /// Keep at most this rank
    #[arg(long, value_name = "R", value_parser = rank, group = "keep")]
    rank: Option<usize>,
    /// The base model; a folder needs it
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    threads: usize,
}

/// Runs the command.
pub fn run(arguments: &PruneArguments, setting: &Setting) -> Result<(), Failure> {
    let model = arguments.model.as_deref().map(open_model).transpose()?;
    let adapter = open_adapter(&arguments.adapter, model.as_deref())?;
    let keep = match (arguments.rank, arguments.energy) {
        (Some(rank), _) => Keep::Rank(rank),
        (None, share) => Keep::Energy(share.unwrap_or(1.0)),
    };
    let pool = Pool::new(arguments.threads)?;
    let compressed = compress(&adapter, keep, &pool, &setting.cancel)
        .map_err(|e| about(&arguments.adapter, e))?;
    gguf_file::write(&arguments.output, &compressed.adapter)?;
    report(&arguments.output, &compressed, setting)
}

/// Says what was kept, and where.
pub fn report(path: &Path, compressed: &Compressed, setting: &Setting) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let adapter = &compressed.adapter;
    if setting.json {
        let sites = compressed.sites.iter().map(|report| {
            serde_json::json!({
                "site": report.site.to_string(),
                "rank_before": report.rank_before, "rank": report.rank,
                "norm": report.norm, "left_out": report.cut,
            })
        });
        let document = serde_json::json!({
            "written": path,
            "pairs": adapter.iter().count(),
            "parameters": adapter.parameters(),
            "left_out": compressed.relative(),
            "sites": sites.collect::<Vec<_>>(),
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    let (pairs, of, values) = (
        adapter.iter().count(),
        compressed.sites.len(),
        adapter.parameters(),
    );
    writeln!(
        out,
        "{pairs} of {of} pairs, {values} values: {}",
        path.display()
    )?;
    let left_out = percent(compressed.relative());
    writeln!(
        out,
        "left out: {left_out} of what was added (Frobenius norm)\n"
    )?;
    let mut table = Table::new(
        ["place", "layers", "rank before", "rank", "left out"],
        &[false, false, true, true, true],
    );
    for (kind, reports) in by_kind(compressed.sites.iter().map(|report| (report.site, report))) {
        table.row([
            kind.name(),
            ranges(reports.iter().filter_map(|(layer, _)| *layer)),
            ranges(reports.iter().map(|(_, report)| report.rank_before)),
            ranges(reports.iter().map(|(_, report)| report.rank)),
            percent(together(reports.iter().map(|(_, r)| (r.cut, r.norm)))),
        ]);
    }
    table.write(&mut out)?;
    Ok(())
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("give a number above 0 and at most 1, such as 0.99".into()),
    }
}
