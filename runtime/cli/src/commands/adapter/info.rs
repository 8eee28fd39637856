//! `graft adapter info`: what an adapter is.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use graft::adapter::Adapter;
use graft::model::{Model, ModelOptions};

use super::open_adapter;
use super::places::write_pairs;
use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::open_model;
use crate::progress::short_bytes;

/// Show rank, strength and places of an adapter
///
///   graft adapter info invoices.gguf -m model.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct InfoArguments {
    /// A GGUF adapter, or a folder of PEFT or mlx-lm
    adapter: PathBuf,
    /// Check that it fits this model; a folder needs it
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The model's vision half, to check pairs there as well
    #[arg(long, value_name = "FILE", requires = "model")]
    mmproj: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &InfoArguments, setting: &Setting) -> Result<(), Failure> {
    let options = ModelOptions {
        mmproj: arguments.mmproj.clone(),
        threads: 0,
        ..ModelOptions::default()
    };
    let model = arguments.model.as_deref();
    let model = model.map(|path| open_model(path, &options)).transpose()?;
    let adapter = open_adapter(&arguments.adapter, model.as_deref())?;
    show(&adapter, model.as_deref(), setting)
}

/// Prints what there is to say about an adapter.
fn show(adapter: &Adapter, model: Option<&Model>, setting: &Setting) -> Result<(), Failure> {
    let base = adapter.base();
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
        let unseen = match adapter.has_vision() && model.vision().is_none() {
            true => " (its vision half was not looked at: --mmproj)",
            false => "",
        };
        writeln!(out, "{:14}{}{unseen}", "fits", model.name())?;
    }
    writeln!(out, "{:14}{}", "alpha", adapter.alpha())?;
    let bytes = short_bytes(4 * adapter.parameters() as u64);
    writeln!(
        out,
        "{:14}{} values, {bytes} in f32\n",
        "size",
        adapter.parameters()
    )?;
    write_pairs(adapter, &mut out)?;
    Ok(())
}
