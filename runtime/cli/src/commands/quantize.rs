//! `graft quantize`: a float model in a block type.

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use graft::quantize::{Mix, QuantizeOptions, quantize};

use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{about, threads};
use crate::progress::{Progress, short_bytes};

/// Convert an F32, F16 or BF16 model to a block type
///
///   graft quantize model-f16.gguf model-Q4_K_M.gguf Q4_K_M
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct QuantizeArguments {
    /// The float model
    input: PathBuf,
    /// The model to write
    output: PathBuf,
    /// Q4_K_M, Q5_K_M, Q4_0, Q8_0, …
    #[arg(value_name = "TYPE")]
    mix: Mix,
    /// Also convert what is in a block type already, adding one error to the other
    #[arg(long)]
    allow_requantize: bool,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    threads: usize,
}

/// Runs the command.
pub fn run(arguments: &QuantizeArguments, setting: &Setting) -> Result<(), Failure> {
    let bar: RefCell<Option<Progress>> = RefCell::default();
    let report = quantize(
        &arguments.input,
        &arguments.output,
        arguments.mix,
        &QuantizeOptions {
            threads: arguments.threads,
            progress: Some(&|done| {
                let mut bar = bar.borrow_mut();
                let bar = bar.get_or_insert_with(|| Progress::new("quantizing", done.of));
                bar.at(done.weights, done.tensor);
            }),
            cancel: Some(&setting.cancel),
            allow_requantize: arguments.allow_requantize,
        },
    );
    bar.into_inner().map(Progress::finish);
    let report = report.map_err(|e| about(&arguments.input, e))?;
    let mut out = std::io::stdout().lock();
    if setting.json {
        let worst = report.worst();
        let document = serde_json::json!({
            "written": arguments.output,
            "tensors": report.tensors.len(),
            "bytes_before": report.bytes_before,
            "bytes_after": report.bytes_after,
            "bits_per_weight": report.bits_per_weight(),
            "worst_tensor": worst.map(|t| &t.name),
            "worst_relative_error": worst.map(|t| t.error.relative()),
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{} to {}, {:.2} bits per weight: {}",
        short_bytes(report.bytes_before),
        short_bytes(report.bytes_after),
        report.bits_per_weight(),
        arguments.output.display()
    )?;
    if let Some(worst) = report.worst() {
        writeln!(
            out,
            "largest rounding: {}, {:.1} % of its weights' rms",
            worst.name,
            100.0 * worst.error.relative()
        )?;
    }
    Ok(())
}
