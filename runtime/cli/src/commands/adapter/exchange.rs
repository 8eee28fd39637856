//! `graft adapter import` and `export`: adapters from folders of PEFT and mlx-lm, and to PEFT's.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use graft::adapter::{folder, gguf_file, peft};

use super::{open_adapter, open_model, written};
use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::about;

/// Turn a folder that PEFT or mlx-lm saved into a GGUF adapter
///
///   graft adapter import ./invoices-peft -m model.gguf -o invoices.gguf
///
/// The folder's files say whose it is. What an adapter does beyond plain LoRA is refused by name.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ImportArguments {
    /// The folder with adapter_config.json, and adapter_model.safetensors (PEFT) or adapters.safetensors
    /// (mlx-lm)
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
pub struct ExportArguments {
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
    /// LlavaForConditionalGeneration since transformers 5
    Llava,
    /// LlavaForConditionalGeneration in transformers 4.52 and later of 4
    LlavaBefore5,
    /// LlavaForConditionalGeneration before that
    LlavaBefore452,
}

/// Runs `import`.
pub fn import(arguments: &ImportArguments, setting: &Setting) -> Result<(), Failure> {
    let model = open_model(&arguments.model)?;
    let adapter = folder::read(&arguments.folder, model.llama().shape())
        .map_err(|e| about(&arguments.folder, e))?;
    gguf_file::write(&arguments.output, &adapter)?;
    written(&arguments.output, &adapter, setting)
}

/// Runs `export`.
pub fn export(arguments: &ExportArguments, setting: &Setting) -> Result<(), Failure> {
    let model = open_model(&arguments.model)?;
    let adapter = open_adapter(&arguments.adapter, Some(&model))?;
    let options = peft::ExportOptions {
        layout: match arguments.layout {
            LayoutArgument::Llama => peft::Layout::CausalLm,
            LayoutArgument::Llava => peft::Layout::Llava,
            LayoutArgument::LlavaBefore5 => peft::Layout::LlavaBefore5,
            LayoutArgument::LlavaBefore452 => peft::Layout::LlavaBefore452,
        },
        base_model: arguments.base_model.clone(),
    };
    peft::write(&arguments.output, &adapter, model.llama().shape(), &options)?;
    written(&arguments.output, &adapter, setting)
}
