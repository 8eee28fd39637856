//! `graft train`: a LoRA adapter on a frozen, quantized base.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use graft::atomic_file::{self, AtomicFile};
use graft::train::checkpoint::{ADAPTER, MMPROJ};
use graft::train::{BETWEEN_TRIES, Room, RunEnd, RunFolder, when_there_is_room};

use crate::Setting;
use crate::failure::Failure;
use crate::progress::{counted, short, short_bytes};
use crate::run_config::{RunArguments, RunConfig};
use crate::training::{Trained, open, paused, resumed, train};

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
    /// Where TensorBoard's event files go [default: tb in the run folder]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &TrainArguments, setting: &Setting) -> Result<(), Failure> {
    arguments.run.check_data()?;
    let (config, folder, checkpoint) = match &arguments.run.resume {
        Some(path) => {
            let (folder, checkpoint) = resumed(path)?;
            let mut config: RunConfig = RunFolder::config(&folder)?;
            let run = &arguments.run;
            config.early_stop = run.early_stop.or(config.early_stop);
            config.early_stop_delta = match config.early_stop {
                // Without a rule there is nothing to measure.
                None | Some(0) => run.early_stop_delta,
                Some(_) => run.early_stop_delta.or(config.early_stop_delta),
            };
            (config, folder, Some(checkpoint))
        }
        None => {
            let output = arguments.output.clone().unwrap_or_default();
            let options = arguments.run.options(arguments.save_every, arguments.keep);
            let mut config = arguments.run.config(&output, options);
            config.log_dir = arguments.log_dir.clone();
            let folder = match &arguments.run_dir {
                Some(folder) => folder.clone(),
                None => output.with_extension("run"),
            };
            (config, folder, None)
        }
    };
    config.check_evaluation()?;
    check_output(&config.output, &folder)?;
    if checkpoint.is_none() {
        RunFolder::check_vacant(&folder)?;
    }
    let mut setup = open(&config, arguments.run.threads)?;
    let trained = train(
        &config,
        &mut setup,
        &folder,
        checkpoint.as_deref(),
        &arguments.run.device,
        &setting.cancel,
    )?;
    check_end(&trained.end, &folder)?;
    let mut written = vec![config.output.clone()];
    let projector = folder.join(MMPROJ);
    if config.options.projector_alone() {
        copy(&projector, &config.output, setting)?;
    } else {
        copy(&folder.join(ADAPTER), &config.output, setting)?;
        if config.options.train_projector {
            let mmproj = config.output.with_extension("mmproj.gguf");
            copy(&projector, &mmproj, setting)?;
            written.push(mmproj);
        }
    }
    report(&config, &trained, &folder, &written, setting)
}

/// A run that did not get to its end, as a failure that says where it goes on.
fn check_end(end: &RunEnd, folder: &Path) -> Result<(), Failure> {
    let go_on = format!("go on with `graft train --resume {}`", folder.display());
    let sentence = match end {
        RunEnd::Done => return Ok(()),
        RunEnd::Interrupted(Some(checkpoint)) => {
            format!("interrupted; {} is saved, {go_on}", checkpoint.display())
        }
        RunEnd::Interrupted(None) => format!("interrupted; {go_on}"),
        RunEnd::NoRoom {
            kept: Some(kept), ..
        } => format!(
            "interrupted while there was no room on the disk; {} is kept, {go_on}",
            kept.display()
        ),
        RunEnd::NoRoom { done, kept: None } => {
            return Err(Failure::Work(format!(
                "interrupted while there was no room on the disk; nothing of {done} updates is saved, \
                 the same command begins again"
            )));
        }
    };
    Err(Failure::Interrupted(Some(sentence)))
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
            if path.is_file() || !path.exists() {
                // A run that was killed while it wrote its result.
                atomic_file::sweep(folder.unwrap_or(Path::new(".")));
            }
            Ok(())
        }
    }
}

/// Gives a result its name outside the run folder, where it stays as well.
fn copy(from: &Path, to: &Path, setting: &Setting) -> Result<(), Failure> {
    let bytes = fs::read(from)
        .map_err(|e| Failure::Work(format!("cannot read {}: {e}", from.display())))?;
    let stays = format!("the result is in {}", from.display());
    let write = || AtomicFile::write(to, &bytes);
    // A device takes what it takes, and takes it once.
    let written = match to.exists() && !to.is_file() {
        true => write().map(Some),
        false => when_there_is_room(
            BETWEEN_TRIES,
            || setting.cancel.is_raised(),
            |room| match room {
                Room::Lacking(error, lack) => {
                    eprintln!("{}", paused(error, lack));
                    eprintln!("Ctrl-C ends it; {stays}");
                }
                Room::Found => eprintln!("there is room again"),
            },
            write,
        ),
    };
    match written {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err(Failure::Interrupted(Some(format!(
            "interrupted, {} is not written; {stays}",
            to.display()
        )))),
        Err(error) => Err(Failure::Work(format!("{error}; {stays}"))),
    }
}

fn report(
    config: &RunConfig,
    trained: &Trained,
    folder: &Path,
    written: &[PathBuf],
    setting: &Setting,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let peak = graft::memory::peak_bytes();
    let best = trained.best.filter(|_| config.keep_best);
    let result_step = best.map_or(trained.steps, |best| best.step);
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
            "best_eval_loss": trained.best.map(|best| best.loss),
            "best_step": trained.best.map(|best| best.step),
            "result_step": result_step,
            "stopped_early": trained.stopped_after.is_some(),
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
    let early = match trained.stopped_after {
        Some(looks) => format!(
            ", ended early: {} in a row without an improvement",
            counted(looks, "evaluation")
        ),
        None => String::new(),
    };
    writeln!(out, "{:22}{}{early}", "updates", trained.steps)?;
    writeln!(out, "{:22}{loss}", "loss")?;
    if trained.eval_loss.is_some() {
        writeln!(
            out,
            "{:22}{}",
            "on evaluation data",
            number(trained.eval_loss)
        )?;
    }
    if let Some(best) = trained.best {
        let result = match config.keep_best {
            true => ", which is the result",
            false => "",
        };
        let (loss, step) = (best.loss, best.step);
        writeln!(
            out,
            "{:22}{loss:.4} at step {step}{result}",
            "lowest of them"
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
