//! `graft convert-hf`: a Hugging Face checkpoint to GGUF.

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use graft::convert_hf::{ConvertOptions, convert};
use graft_kernels::QuantType;

use crate::Setting;
use crate::failure::Failure;
use crate::progress::{Progress, short_bytes};

/// Convert a Hugging Face checkpoint (LLaMA family, LLaVA-1.5) to GGUF
///
///   graft convert-hf llava-1.5-7b-hf -o llava-f16.gguf --mmproj mmproj.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ConvertHfArguments {
    /// The checkpoint's folder
    folder: PathBuf,
    /// The text model to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The vision half to write, for a LLaVA
    #[arg(long, value_name = "FILE")]
    mmproj: Option<PathBuf>,
    /// The folder of the CLIP model, where the checkpoint does not hold its vision tower
    #[arg(long, value_name = "DIR")]
    vision_tower: Option<PathBuf>,
    /// How matrices are stored
    #[arg(
        long = "type",
        value_name = "TYPE",
        default_value = "f16",
        ignore_case = true
    )]
    element: Element,
}

#[derive(Clone, Copy, ValueEnum)]
enum Element {
    F32,
    F16,
    Bf16,
}

/// Runs the command.
pub fn run(arguments: &ConvertHfArguments, setting: &Setting) -> Result<(), Failure> {
    let bar: RefCell<Option<Progress>> = RefCell::default();
    let converted = convert(
        &arguments.folder,
        &arguments.output,
        arguments.mmproj.as_deref(),
        &ConvertOptions {
            quant_type: match arguments.element {
                Element::F32 => QuantType::F32,
                Element::F16 => QuantType::F16,
                Element::Bf16 => QuantType::BF16,
            },
            vision_tower: arguments.vision_tower.as_deref(),
            progress: Some(&|done| {
                let mut bar = bar.borrow_mut();
                let bar = bar.get_or_insert_with(|| Progress::new("converting", done.total));
                bar.at(done.written, done.tensor);
            }),
            cancel: setting.cancel.clone(),
        },
    );
    bar.into_inner().map(Progress::finish);
    let converted = converted?;
    let files = [Some(&converted.model), converted.mmproj.as_ref()];
    let mut out = std::io::stdout().lock();
    if setting.json {
        let file = |f: &graft::convert_hf::ConvertedFile| serde_json::json!({"path": f.path, "tensors": f.tensors, "bytes": f.bytes});
        let written: Vec<_> = files.into_iter().flatten().map(file).collect();
        writeln!(
            out,
            "{}",
            serde_json::json!({"written": written, "notes": converted.notes})
        )?;
        return Ok(());
    }
    for note in &converted.notes {
        eprintln!("note: {note}");
    }
    for file in files.into_iter().flatten() {
        let (tensors, bytes) = (file.tensors, short_bytes(file.bytes));
        writeln!(out, "{tensors} tensors, {bytes}: {}", file.path.display())?;
    }
    Ok(())
}
