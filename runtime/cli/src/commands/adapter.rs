//! `graft adapter`: what an adapter is, where it came from, where it can go.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use graft::adapter::{Adapter, Attached, MergeOptions, gguf_file, merge, peft};
use graft::model::{Model, ModelOptions, SiteKind};
use graft::quantize::Mix;

use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{self, AdapterArgument, about, adapter_argument, threads};
use crate::progress::{Progress, short_bytes};
use crate::table::Table;

/// Describe, import, export and merge LoRA adapters
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
    Info(InfoArguments),
    Import(ImportArguments),
    Export(ExportArguments),
    Merge(MergeArguments),
}

/// Show rank, strength and places of an adapter
///
///   graft adapter info invoices.gguf -m model.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct InfoArguments {
    /// A GGUF adapter or a PEFT folder
    adapter: PathBuf,
    /// Check that it fits this model; a PEFT folder needs it
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// Turn a folder that PEFT saved into a GGUF adapter
///
///   graft adapter import ./invoices-peft -m model.gguf -o invoices.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct ImportArguments {
    /// The folder with adapter_config.json and adapter_model.safetensors
    folder: PathBuf,
    /// The base model
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// The adapter to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Turn a GGUF adapter into a folder that PEFT loads
///
///   graft adapter export invoices.gguf -m model.gguf -o ./invoices-peft \
///     --base-model lmsys/vicuna-7b-v1.5
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct ExportArguments {
    /// The adapter
    adapter: PathBuf,
    /// The base model
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// The folder to write; it must not exist, or be empty
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Name of the base model for PEFT's own loaders
    #[arg(long, value_name = "NAME")]
    base_model: Option<String>,
    /// The class of transformers that it will be loaded into
    #[arg(long, value_name = "CLASS", default_value = "llama")]
    layout: LayoutArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum LayoutArgument {
    /// LlamaForCausalLM, and the original LLaVA code
    Llama,
    /// LlavaForConditionalGeneration since transformers 4.52
    Llava,
    /// LlavaForConditionalGeneration before that
    LlavaBefore452,
}

/// Bake adapters into a base model, and say what rounding the sum has cost
///
///   graft adapter merge -m model-Q4_K_M.gguf --adapter invoices.gguf -o merged.gguf --type Q8_0
///
/// Without --type every tensor keeps its own.
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct MergeArguments {
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
pub fn run(arguments: &AdapterArguments, setting: &Setting) -> Result<(), Failure> {
    match &arguments.what {
        What::Info(arguments) => info(arguments, setting),
        What::Import(arguments) => import(arguments, setting),
        What::Export(arguments) => export(arguments, setting),
        What::Merge(arguments) => run_merge(arguments, setting),
    }
}

fn open_model(path: &Path) -> Result<Arc<Model>, Failure> {
    model_arguments::open_model(path, &ModelOptions::default())
}

fn info(arguments: &InfoArguments, setting: &Setting) -> Result<(), Failure> {
    let path = &arguments.adapter;
    let model = arguments.model.as_deref().map(open_model).transpose()?;
    let adapter = match (&model, path.is_dir()) {
        (Some(model), _) => Adapter::open(path, model).map_err(|e| about(path, e))?,
        (None, false) => Arc::new(gguf_file::read(path).map_err(|e| about(path, e))?),
        (None, true) => {
            return Err(Failure::Usage(format!(
                "{} is a folder; give the base model with -m to read a PEFT adapter",
                path.display()
            )));
        }
    };
    show(&adapter, model.as_deref(), setting)
}

/// Prints what there is to say about an adapter.
pub fn show(adapter: &Adapter, model: Option<&Model>, setting: &Setting) -> Result<(), Failure> {
    let base = adapter.base();
    let mut kinds: BTreeMap<usize, Kind> = BTreeMap::new();
    for (site, pair) in adapter.iter() {
        let kind = kinds
            .entry(site.linear as usize)
            .or_insert_with(|| Kind::new(site.linear));
        kind.layers.push(site.layer);
        kind.ranks.push(pair.rank());
        kind.parameters += pair.a.len() + pair.b.len();
        kind.scale = pair.scale;
    }
    let mut out = std::io::stdout().lock();
    if setting.json {
        let sites = adapter.iter().map(|(site, pair)| {
            serde_json::json!({
                "site": site.to_string(), "rank": pair.rank(), "scale": pair.scale,
                "inputs": pair.inputs(), "outputs": pair.outputs(),
            })
        });
        let document = serde_json::json!({
            "name": adapter.name(),
            "alpha": adapter.alpha(),
            "parameters": adapter.parameters(),
            "base_name": base.name,
            "base_fingerprint": base.fingerprint,
            "fits": model.map(Model::name),
            "sites": sites.collect::<Vec<_>>(),
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    let made_for = base.name.as_deref().unwrap_or("not said");
    let fingerprint = base
        .fingerprint
        .as_deref()
        .map_or("none", |f| f.get(..16).unwrap_or(f));
    writeln!(out, "{:14}{}", "adapter", adapter.name())?;
    writeln!(
        out,
        "{:14}{made_for} (fingerprint {fingerprint})",
        "made for"
    )?;
    if let Some(model) = model {
        writeln!(out, "{:14}{}", "fits", model.name())?;
    }
    writeln!(out, "{:14}{}", "alpha", adapter.alpha())?;
    let bytes = short_bytes(4 * adapter.parameters() as u64);
    writeln!(
        out,
        "{:14}{} values, {bytes} in f32\n",
        "size",
        adapter.parameters()
    )?;
    let mut table = Table::new(
        ["place", "layers", "rank", "scale", "values"],
        &[false, false, true, true, true],
    );
    for kind in kinds.values() {
        table.row([
            kind.name.into(),
            ranges(&kind.layers),
            ranges(&kind.ranks),
            kind.scale.to_string(),
            kind.parameters.to_string(),
        ]);
    }
    table.write(&mut out)?;
    Ok(())
}

/// The pairs at one kind of linear layer.
struct Kind {
    name: &'static str,
    layers: Vec<usize>,
    ranks: Vec<usize>,
    parameters: usize,
    scale: f32,
}

impl Kind {
    fn new(kind: SiteKind) -> Self {
        Self {
            name: kind.hf_name(),
            layers: Vec::new(),
            ranks: Vec::new(),
            parameters: 0,
            scale: 0.0,
        }
    }
}

/// `0-3, 7` of `[0, 1, 2, 3, 7]`.
fn ranges(numbers: &[usize]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let words: Vec<String> = runs
        .map(|run| match run {
            [only] => only.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    words.join(", ")
}

fn import(arguments: &ImportArguments, setting: &Setting) -> Result<(), Failure> {
    let model = open_model(&arguments.model)?;
    let adapter = peft::read(&arguments.folder, model.llama().shape())
        .map_err(|e| about(&arguments.folder, e))?;
    gguf_file::write(&arguments.output, &adapter)?;
    written(&arguments.output, &adapter, setting)
}

fn export(arguments: &ExportArguments, setting: &Setting) -> Result<(), Failure> {
    let model = open_model(&arguments.model)?;
    let adapter =
        Adapter::open(&arguments.adapter, &model).map_err(|e| about(&arguments.adapter, e))?;
    let options = peft::ExportOptions {
        layout: match arguments.layout {
            LayoutArgument::Llama => peft::Layout::CausalLm,
            LayoutArgument::Llava => peft::Layout::Llava,
            LayoutArgument::LlavaBefore452 => peft::Layout::LlavaBefore452,
        },
        base_model: arguments.base_model.clone(),
    };
    peft::write(&arguments.output, &adapter, model.llama().shape(), &options)?;
    written(&arguments.output, &adapter, setting)
}

fn written(path: &Path, adapter: &Adapter, setting: &Setting) -> Result<(), Failure> {
    let pairs = adapter.iter().count();
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::json!({
            "written": path, "pairs": pairs, "parameters": adapter.parameters(),
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
    Ok(())
}

fn run_merge(arguments: &MergeArguments, setting: &Setting) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    #[test]
    fn neighbours_become_ranges() {
        assert_eq!(super::ranges(&[3, 0, 1, 2, 7]), "0-3, 7");
        assert_eq!(super::ranges(&[16, 16]), "16");
        assert_eq!(super::ranges(&[]), "");
    }
}
