//! The folder of a run: what is written there, and when old parts of it go.
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

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::append_file::AppendFile;
use super::checkpoint;
use super::loss_curve::LossCurve;
use super::tensorboard::{EventFile, scalar};
use super::{Best, PLAN_SLACK, StepReport, TrainError, TrainPlan, Trainer};
use crate::Result;
use crate::atomic_file::AtomicFile;
use crate::memory::{anonymous_bytes, peak_bytes};

const METRICS: &str = "metrics.jsonl";
const CURVE: &str = "loss.svg";
const CONFIG: &str = "config.json";

/// The folder a run writes.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: AppendFile,
    log: PathBuf,
    events: Option<EventFile>,
}

/// What is written of an update, and what of it is not on the disk yet.
pub(super) struct Entry {
    line: Vec<u8>,
    events: Vec<u8>,
}

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    report: &'a StepReport,
    tokens_per_second: f64,
    peak_bytes: u64,
    /// Held now, without mapped files.
    anonymous_bytes: u64,
    /// How much of it is more than the plan and its slack: 0, or the plan is wrong.
    over_plan_bytes: u64,
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
        AtomicFile::write(&path.join(CONFIG), &json(config))?;
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
        forget(path, step)?;
        Self::open(path)
    }

    /// The same for a run that goes back while it is at work.
    pub(super) fn rewind(&mut self, step: u64) -> Result<()> {
        forget(&self.path, step)?;
        *self = Self {
            log: self.log.clone(),
            ..Self::open(&self.path)?
        };
        Ok(())
    }

    fn open(path: &Path) -> Result<Self> {
        let metrics = path.join(METRICS);
        let record = OpenOptions::new().create(true).append(true).open(&metrics);
        let record = record.map_err(io("open", &metrics))?;
        // Held until the run ends, however it ends. Not every file system can lock.
        let _ = record.try_lock();
        sweep(path);
        Ok(Self {
            path: path.to_owned(),
            metrics: AppendFile::new(record).map_err(io("open", &metrics))?,
            log: path.join("tb"),
            events: None,
        })
    }

    /// Puts TensorBoard's event files into `folder` instead of `tb` in the run folder.
    pub fn log_to(&mut self, folder: &Path) {
        self.log = folder.to_owned();
    }

    /// Replaces the configuration that the folder was created with.
    ///
    /// # Errors
    /// If the disk refuses; the old one is kept then.
    pub fn configure(&self, config: &impl Serialize) -> Result<()> {
        AtomicFile::write(&self.path.join(CONFIG), &json(config))
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

    /// Begins the events of a run whose next update is number `first`, unless they have begun.
    pub(super) fn begin(&mut self, first: u64) -> Result<()> {
        if self.events.is_some() {
            return Ok(());
        }
        let events = EventFile::create(&self.log, first);
        self.events = Some(events.map_err(io("write", &self.log))?);
        Ok(())
    }

    /// Writes what is left to write of an update.
    pub(super) fn record(&mut self, entry: &mut Entry) -> Result<()> {
        let path = self.path.join(METRICS);
        let written = self.metrics.append(&entry.line);
        written.map_err(io("write", &path))?;
        entry.line.clear();
        if let Some(events) = &mut self.events {
            let written = events.append(&entry.events);
            written.map_err(io("write", &self.log))?;
        }
        Ok(())
    }

    /// Saves a checkpoint, not before its record is on the disk, and deletes old ones.
    pub(super) fn save(&self, trainer: &mut Trainer, keep_best: bool) -> Result<PathBuf> {
        let metrics = self.path.join(METRICS);
        let synced = self.metrics.file().sync_data();
        synced.map_err(io("write", &metrics))?;
        let saved = trainer.save(&self.path)?;
        let best = trainer.standing().best.filter(|_| keep_best);
        self.prune(trainer.options().keep, best)?;
        Ok(saved)
    }

    /// Writes the results: what was learned last, or when it was best.
    pub(super) fn finish(&self, trainer: &Trainer, keep_best: bool) -> Result<()> {
        match trainer.standing().best.filter(|_| keep_best) {
            Some(best) if best.step != trainer.done() => {
                let folder = checkpoint::named(&self.path, best.step);
                for name in [checkpoint::ADAPTER, checkpoint::MMPROJ] {
                    let from = folder.join(name);
                    if from.exists() {
                        let bytes = fs::read(&from).map_err(io("read", &from))?;
                        AtomicFile::write(&self.path.join(name), &bytes)?;
                    }
                }
            }
            _ => trainer.write_results(&self.path)?,
        }
        // A run that was killed right after its last checkpoint has not deleted the ones before.
        let best = trainer.standing().best.filter(|_| keep_best);
        self.prune(trainer.options().keep, best)?;
        self.draw()
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

    /// Deletes all checkpoints but the latest `keep` and the best.
    fn prune(&self, keep: usize, best: Option<Best>) -> Result<()> {
        let found = checkpoint::all(&self.path)?;
        let old = if keep == 0 {
            0
        } else {
            found.len().saturating_sub(keep)
        };
        for (step, path) in &found[..old] {
            if best.is_none_or(|best| best.step != *step) {
                // Under a name that is swept: nobody takes what a kill leaves of it for a checkpoint.
                let dying = self.path.join(format!(".checkpoint-{step}.partial"));
                let gone = fs::rename(path, &dying).and_then(|()| fs::remove_dir_all(&dying));
                gone.map_err(io("delete", path))?;
            }
        }
        Ok(())
    }
}

impl Entry {
    pub(super) fn new(report: &StepReport, plan: &TrainPlan, eval_loss: Option<f64>) -> Self {
        let seconds = report.duration.as_secs_f64().max(1e-9);
        let anonymous_bytes = anonymous_bytes().unwrap_or(0);
        let planned = plan.memory.anonymous_peak() + PLAN_SLACK;
        let line = Line {
            report,
            tokens_per_second: report.tokens as f64 / seconds,
            peak_bytes: peak_bytes().unwrap_or(0),
            anonymous_bytes,
            over_plan_bytes: anonymous_bytes.saturating_sub(planned),
            eval_loss,
        };
        let curves = [
            ("train/loss", Some(report.loss)),
            ("train/lr", Some(report.lr)),
            ("train/grad_norm", Some(report.grad_norm)),
            ("train/tokens_per_second", Some(line.tokens_per_second)),
            ("eval/loss", eval_loss),
        ];
        let events = curves.into_iter().filter_map(|(tag, value)| {
            let value = value? as f32;
            Some(scalar(tag, report.step, value))
        });
        let events = events.collect::<Vec<_>>().concat();
        let mut line = serde_json::to_vec(&line).expect("numbers become JSON");
        line.push(b'\n');
        Self { line, events }
    }
}

/// A configuration as the text of its file.
fn json(config: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(config).expect("a configuration is plain values");
    text.push(b'\n');
    text
}

/// Drops the record of updates after number `step`, which will be done again.
fn forget(path: &Path, step: u64) -> Result<()> {
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
    Ok(())
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

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Io {
        action,
        path,
        source,
    }
}
