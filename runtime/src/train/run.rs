//! A whole run: steps with their record, checkpoints, evaluation, and the adapter at the end.
//!
//! ```text
//! run/
//!   config.json      everything needed to repeat the run
//!   metrics.jsonl    one object per step
//!   loss.svg         their losses as a picture, when the run is over
//!   tb/              the same for TensorBoard
//!   checkpoint-N/    see `checkpoint`
//!   adapter.gguf     the result (and mmproj.gguf if the projector learned, or only that)
//! ```

use std::collections::VecDeque;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::checkpoint;
use super::loss_curve::LossCurve;
use super::tensorboard::EventFile;
use super::{Example, StepReport, TrainError, Trainer};
use crate::Result;
use crate::atomic_file::AtomicFile;
use crate::cancel::Cancel;
use crate::memory::peak_bytes;

const METRICS: &str = "metrics.jsonl";
const CURVE: &str = "loss.svg";
const CONFIG: &str = "config.json";

/// The folder a run writes.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: fs::File,
    events: EventFile,
}

/// What happened in a run, for whoever watches.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunEvent<'a> {
    /// An update was done.
    Step {
        /// What it did.
        report: &'a StepReport,
        /// How long the rest will take, by the latest updates.
        remaining: Duration,
    },
    /// The evaluation data were looked at.
    Evaluated {
        /// Updates done.
        step: u64,
        /// Mean loss over their learned tokens.
        loss: f64,
    },
    /// A checkpoint was saved.
    Saved(&'a Path),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEnd {
    /// All updates are done; the results lie in the run folder.
    Done,
    /// It was cancelled; this checkpoint goes on from there.
    Interrupted(PathBuf),
}

/// Data to measure the loss on without learning from them.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<'a> {
    /// The examples.
    pub examples: &'a [Example],
    /// Updates between looks; 0 for one at the end only.
    pub every: u64,
}

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    report: &'a StepReport,
    tokens_per_second: f64,
    peak_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_loss: Option<f64>,
}

impl RunFolder {
    /// A folder for a run from the beginning. `config` is what repeats it.
    ///
    /// # Errors
    /// If the disk refuses, or the folder holds another run.
    pub fn create(path: &Path, config: &impl Serialize) -> Result<Self> {
        Self::check_vacant(path)?;
        fs::create_dir_all(path).map_err(io("create", path))?;
        if path.join(CONFIG).exists() {
            // A run that ended before it saved anything: nothing can go on from there.
            for old in [path.join(METRICS), path.join(CONFIG)] {
                match fs::remove_file(&old) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        return Err(io("replace", &old)(e).into());
                    }
                    _ => {}
                }
            }
        }
        let mut text = serde_json::to_vec_pretty(config).expect("a configuration is plain values");
        text.push(b'\n');
        AtomicFile::write(&path.join(CONFIG), &text)?;
        Self::open(path)
    }

    /// Whether a run can begin in `path`: it does not exist, or holds no run that could go on.
    ///
    /// # Errors
    /// If it holds a run's checkpoint or result, or is no folder.
    pub fn check_vacant(path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let results = [checkpoint::ADAPTER, checkpoint::MMPROJ];
        let finished = results.iter().any(|name| path.join(name).exists());
        if finished || !checkpoint::all(path)?.is_empty() {
            return Err(TrainError::RunExists { path: path.into() }.into());
        }
        check_idle(path)
    }

    /// The folder of a run that goes on after its update number `step`: the record of later ones,
    /// which will be done again, is dropped.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn reopen(path: &Path, step: u64) -> Result<Self> {
        check_idle(path)?;
        let metrics = path.join(METRICS);
        if let Ok(file) = fs::File::open(&metrics) {
            let mut kept = String::new();
            for line in BufReader::new(file).lines() {
                let line = line.map_err(io("read", &metrics))?;
                let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                // A line cut short by a crash has no step.
                if value["step"].as_u64().is_some_and(|s| s <= step) {
                    kept += &line;
                    kept.push('\n');
                }
            }
            AtomicFile::write(&metrics, kept.as_bytes())?;
        }
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self> {
        let metrics = path.join(METRICS);
        let tb = path.join("tb");
        let record = OpenOptions::new().create(true).append(true).open(&metrics);
        let record = record.map_err(io("open", &metrics))?;
        // Held until the run ends, however it ends. Not every file system can lock.
        let _ = record.try_lock();
        sweep(path);
        Ok(Self {
            path: path.to_owned(),
            metrics: record,
            events: EventFile::create(&tb).map_err(io("write", &tb))?,
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration that a run folder was created with.
    ///
    /// # Errors
    /// If there is none, or it is malformed.
    pub fn config<C: serde::de::DeserializeOwned>(path: &Path) -> Result<C> {
        let file = path.join(CONFIG);
        let text = fs::read_to_string(&file).map_err(io("read", &file))?;
        serde_json::from_str(&text).map_err(|e| {
            TrainError::Checkpoint {
                path: file,
                reason: e.to_string(),
            }
            .into()
        })
    }

    fn record(&mut self, report: &StepReport, eval_loss: Option<f64>) -> Result<()> {
        let seconds = report.duration.as_secs_f64().max(1e-9);
        let line = Line {
            report,
            tokens_per_second: report.tokens as f64 / seconds,
            peak_bytes: peak_bytes().unwrap_or(0),
            eval_loss,
        };
        let mut text = serde_json::to_string(&line).expect("numbers become JSON");
        text.push('\n');
        let path = self.path.join(METRICS);
        self.metrics
            .write_all(text.as_bytes())
            .map_err(io("write", &path))?;
        let tb = self.path.join("tb");
        let curves = [
            ("train/loss", Some(report.loss)),
            ("train/lr", Some(report.lr)),
            ("train/grad_norm", Some(report.grad_norm)),
            ("train/tokens_per_second", Some(line.tokens_per_second)),
            ("eval/loss", eval_loss),
        ];
        for (tag, value) in curves {
            if let Some(value) = value {
                let written = self.events.scalar(tag, report.step, value as f32);
                written.map_err(io("write", &tb))?;
            }
        }
        Ok(())
    }

    /// Draws the course of the run from its record.
    fn draw(&self) -> Result<()> {
        let metrics = self.path.join(METRICS);
        let record = fs::File::open(&metrics).map_err(io("read", &metrics))?;
        let mut curve = LossCurve::default();
        for line in BufReader::new(record).lines() {
            let line = line.map_err(io("read", &metrics))?;
            let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let Some(step) = value["step"].as_u64() else {
                continue;
            };
            curve
                .training
                .extend(value["loss"].as_f64().map(|l| (step, l)));
            let evaluated = value["eval_loss"].as_f64();
            curve.evaluation.extend(evaluated.map(|l| (step, l)));
        }
        if let Some(svg) = curve.svg() {
            AtomicFile::write(&self.path.join(CURVE), svg.as_bytes())?;
        }
        Ok(())
    }

    /// Deletes all checkpoints but the latest `keep`.
    fn prune(&self, keep: usize) -> Result<()> {
        let found = checkpoint::all(&self.path)?;
        let old = if keep == 0 {
            0
        } else {
            found.len().saturating_sub(keep)
        };
        for (_, path) in &found[..old] {
            fs::remove_dir_all(path).map_err(io("delete", path))?;
        }
        Ok(())
    }
}

/// Deletes what a process that was killed has left half-written. The folder is this run's alone.
fn sweep(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".partial") {
            let path = entry.path();
            // Whatever cannot be deleted harms nobody.
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
}

/// Refuses a folder in which another run is at work.
fn check_idle(path: &Path) -> Result<()> {
    let record = fs::File::open(path.join(METRICS));
    match record.map(|file| file.try_lock()) {
        Ok(Err(TryLockError::WouldBlock)) => Err(TrainError::RunBusy { path: path.into() }.into()),
        _ => Ok(()),
    }
}

/// Trains to the end, or until `cancel` is raised.
///
/// # Errors
/// If a step fails or the disk refuses; the last checkpoint is kept.
pub fn run(
    trainer: &mut Trainer,
    folder: &mut RunFolder,
    evaluation: Option<Evaluation<'_>>,
    cancel: &Cancel,
    mut watch: impl FnMut(RunEvent<'_>),
) -> Result<RunEnd> {
    let mut pace = Pace::default();
    let (save_every, keep) = (trainer.options().save_every, trainer.options().keep);
    while trainer.done() < trainer.steps() {
        if cancel.is_raised() {
            let path = trainer.save(folder.path())?;
            folder.prune(keep)?;
            return Ok(RunEnd::Interrupted(path));
        }
        let Some(report) = trainer.step()? else { break };
        let last = report.step == report.steps;
        let due = |every: u64| every > 0 && report.step.is_multiple_of(every);
        let eval_loss = match evaluation {
            Some(e) if last || due(e.every) => Some(trainer.evaluate(e.examples)?),
            _ => None,
        };
        folder.record(&report, eval_loss)?;
        watch(RunEvent::Step {
            report: &report,
            remaining: pace.remaining(report.steps - report.step),
        });
        if let Some(loss) = eval_loss {
            let step = report.step;
            watch(RunEvent::Evaluated { step, loss });
        }
        if last || due(save_every) {
            let path = trainer.save(folder.path())?;
            folder.prune(keep)?;
            watch(RunEvent::Saved(&path));
        }
    }
    trainer.write_results(folder.path())?;
    folder.draw()?;
    Ok(RunEnd::Done)
}

/// Time per update over the latest of them.
#[derive(Default)]
struct Pace(VecDeque<Instant>);

impl Pace {
    const WINDOW: usize = 50;

    fn remaining(&mut self, updates: u64) -> Duration {
        self.0.push_back(Instant::now());
        if self.0.len() > Self::WINDOW {
            self.0.pop_front();
        }
        match (self.0.front(), self.0.back()) {
            (Some(first), Some(last)) if self.0.len() > 1 => {
                let each = last.duration_since(*first) / (self.0.len() as u32 - 1);
                each.mul_f64(updates as f64)
            }
            _ => Duration::ZERO,
        }
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Io {
        action,
        path,
        source,
    }
}
