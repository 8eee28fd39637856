//! `graft adapter scale` and `rename`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use graft::adapter::{Adapter, gguf_file};

use super::places::write_pairs;
use super::{open_adapter, open_model, written};
use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::about;

/// Multiply everything that an adapter adds
///
///   graft adapter scale invoices.gguf --by 0.5 -o half.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ScaleArguments {
    /// A GGUF adapter, or a folder of PEFT or mlx-lm
    adapter: PathBuf,
    /// The factor; any number but 0
    #[arg(long, value_name = "X", value_parser = factor, allow_negative_numbers = true)]
    by: f32,
    /// The adapter to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The base model; a folder needs it
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// Give an adapter another name
///
///   graft adapter rename invoices.gguf --name "invoices of May" -o may.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct RenameArguments {
    /// A GGUF adapter, or a folder of PEFT or mlx-lm
    adapter: PathBuf,
    /// The new name
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The adapter to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The base model; a folder needs it
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// Runs `scale`.
pub fn scale(arguments: &ScaleArguments, setting: &Setting) -> Result<(), Failure> {
    let adapter = open(&arguments.adapter, arguments.model.as_deref())?;
    let scaled = adapter.scaled(arguments.by);
    let scaled = scaled.map_err(|e| about(&arguments.adapter, e))?;
    write(&arguments.output, &scaled, setting)
}

/// Runs `rename`.
pub fn rename(arguments: &RenameArguments, setting: &Setting) -> Result<(), Failure> {
    let adapter = open(&arguments.adapter, arguments.model.as_deref())?;
    let renamed = adapter.renamed(&arguments.name);
    let renamed = renamed.map_err(|e| Failure::Usage(format!("--name: {e}")))?;
    write(&arguments.output, &renamed, setting)
}

fn open(path: &Path, model: Option<&Path>) -> Result<Adapter, Failure> {
    let model = model.map(open_model).transpose()?;
    open_adapter(path, model.as_deref()).map(Arc::unwrap_or_clone)
}

fn write(path: &Path, adapter: &Adapter, setting: &Setting) -> Result<(), Failure> {
    gguf_file::write(path, adapter)?;
    written(path, adapter, setting)?;
    if !setting.json {
        write_pairs(adapter, &mut std::io::stdout().lock())?;
    }
    Ok(())
}

fn factor(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(factor) if factor.is_finite() && factor != 0.0 => Ok(factor),
        _ => Err("give a finite number other than 0".into()),
    }
}
