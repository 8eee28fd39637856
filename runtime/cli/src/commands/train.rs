//! `graft train`: a LoRA adapter on a frozen, quantized base.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use graft::atomic_file::AtomicFile;
use graft::train::checkpoint::{ADAPTER, MMPROJ};
use graft::train::{RunEnd, RunFolder};

use crate::Setting;
use crate::failure::Failure;
use crate::progress::{short, short_bytes};
use crate::run_config::{RunArguments, RunConfig};
use crate::training::{Subject, Trained, resumed, train};

/// Train a LoRA adapter on a frozen, quantized base
///
///   graft train -m llava-7b-Q4_K_M.gguf --mmproj mmproj.gguf --data train.json -o adapter.gguf
///
/// The run folder (ADAPTER.run, or --run-dir) records every step and keeps checkpoints. Ctrl-C saves
/// one; `graft train --resume ADAPTER.run` goes on as if nothing had happened.
///
/// LLaVA's first phase trains the projector alone, on images with captions; -o is the mmproj file:
///
///   graft train -m vicuna.gguf --mmproj mmproj.gguf --data captions.json --template plain
///       --targets none --train-projector -o aligned.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct TrainArguments {
    #[command(flatten)]
    run: RunArguments,
    /// The adapter to write, a GGUF file that llama.cpp loads as well; with --targets none the vision
    /// half with the trained projector
    #[arg(short, long, value_name = "FILE", required_unless_present = "resume")]
    output: Option<PathBuf>,
    /// Where the run's record and checkpoints go [default: the output's name with .run]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Updates between checkpoints; 0 for one at the end
    #[arg(long, value_name = "N", default_value_t = 100)]
    save_every: u64,
    /// Checkpoints to keep, the latest; 0 for all
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: usize,
}

/// Runs the command.
pub fn run(arguments: &TrainArguments, setting: &Setting) -> Result<(), Failure> {
    let (config, folder, checkpoint) = match &arguments.run.resume {
        Some(path) => {
            let (folder, checkpoint) = resumed(path)?;
            let config: RunConfig = RunFolder::config(&folder)?;
            (config, folder, Some(checkpoint))
        }
        None => {
            let output = arguments.output.clone().unwrap_or_default();
            let options = arguments.run.options(arguments.save_every, arguments.keep);
            let config = arguments.run.config(&output, options);
            let folder = match &arguments.run_dir {
                Some(folder) => folder.clone(),
                None => output.with_extension("run"),
            };
            (config, folder, None)
        }
    };
    check_output(&config.output, &folder)?;
    if checkpoint.is_none() {
        RunFolder::check_vacant(&folder)?;
    }
    let subject = Subject::open(&config, arguments.run.threads)?;
    let trained = train(
        &config,
        &subject,
        &folder,
        checkpoint.as_deref(),
        &setting.cancel,
    )?;
    if let RunEnd::Interrupted(checkpoint) = &trained.end {
        return Err(Failure::Interrupted(Some(format!(
            "interrupted; {} is saved, go on with `graft train --resume {}`",
            checkpoint.display(),
            folder.display()
        ))));
    }
    let mut written = vec![config.output.clone()];
    let projector = folder.join(MMPROJ);
    if config.options.projector_alone() {
        copy(&projector, &config.output)?;
    } else {
        copy(&folder.join(ADAPTER), &config.output)?;
        if config.options.train_projector {
            let mmproj = config.output.with_extension("mmproj.gguf");
            copy(&projector, &mmproj)?;
            written.push(mmproj);
        }
    }
    report(&trained, &folder, &written, setting)
}

/// Refuses an output that could not be written, before hours are spent on it.
fn check_output(path: &Path, run: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if path.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is a folder; name a file",
            path.display()
        )));
    }
    if path.exists() && !path.is_file() && *run == path.with_extension("run") {
        return Err(Failure::Usage(format!(
            "{} is a device; say where the run's record goes with --run-dir",
            path.display()
        )));
    }
    match folder {
        Some(folder) if !folder.exists() => Err(Failure::Usage(format!(
            "{} does not exist; make it first, or name a file elsewhere",
            folder.display()
        ))),
        _ => {
            AtomicFile::create(path)?;
            Ok(())
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let bytes = fs::read(from)
        .map_err(|e| Failure::Work(format!("cannot read {}: {e}", from.display())))?;
    Ok(AtomicFile::write(to, &bytes)?)
}

fn report(
    trained: &Trained,
    folder: &Path,
    written: &[PathBuf],
    setting: &Setting,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let peak = graft::memory::peak_bytes();
    if setting.json {
        let document = serde_json::json!({
            "written": written,
            "run": folder,
            "steps": trained.steps,
            "tokens": trained.tokens,
            "seconds": trained.seconds,
            "first_loss": trained.first_loss,
            "loss": trained.last_loss,
            "eval_loss": trained.eval_loss,
            "peak_bytes": peak,
            "planned_peak_bytes": trained.plan.peak_bytes,
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.4}"));
    let pace = trained.tokens as f64 / trained.seconds.max(1e-9);
    let duration = std::time::Duration::from_secs_f64(trained.seconds);
    let loss = format!(
        "{} to {}",
        number(trained.first_loss),
        number(trained.last_loss)
    );
    writeln!(out, "{:22}{}", "updates", trained.steps)?;
    writeln!(out, "{:22}{loss}", "loss")?;
    if trained.eval_loss.is_some() {
        writeln!(
            out,
            "{:22}{}",
            "on evaluation data",
            number(trained.eval_loss)
        )?;
    }
    writeln!(out, "{:22}{} ({pace:.0} tokens/s)", "time", short(duration))?;
    let planned = short_bytes(trained.plan.peak_bytes);
    match peak {
        Some(peak) => {
            let peak = short_bytes(peak);
            writeln!(out, "{:22}{peak} (planned {planned})", "peak memory")?;
        }
        None => writeln!(out, "{:22}{planned}", "planned memory")?,
    }
    for path in written {
        writeln!(out, "{:22}{}", "written", path.display())?;
    }
    writeln!(out, "{:22}{}", "record", folder.display())?;
    Ok(())
}
