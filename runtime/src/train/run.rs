//! A whole run: updates with all that belongs to each - evaluation, record, checkpoints - and the results at the end.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checkpoint;
use super::room::{BETWEEN_TRIES, Lack, Room, when_there_is_room};
use super::run_folder::Entry;
use super::trainer::Look;
use super::{Best, EarlyStop, Example, RunFolder, Standing, StepReport, TrainError, Trainer};
use crate::cancel::Cancel;
use crate::device::DeviceError;
use crate::{Error, Result};

/// What happened in a run, for whoever watches.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunEvent<'a> {
    /// An update was done.
    Step {
        /// What it did.
        report: &'a StepReport,
        /// What the run has done so far.
        tally: &'a Tally,
    },
    /// The evaluation data were looked at.
    Evaluated {
        /// Updates done.
        step: u64,
        /// Mean loss over their learned tokens.
        loss: f64,
        /// What all evaluations have shown, this one included.
        standing: &'a Standing,
    },
    /// A checkpoint was saved.
    Saved(&'a Path),
    /// There is no room on the disk: the run waits, and goes on by itself when there is.
    Paused {
        /// What could not be written.
        error: &'a Error,
        /// What is lacking.
        lack: Lack,
        /// The checkpoint to go on from if the run ends now.
        kept: Option<&'a Path>,
    },
    /// There was room again: what could not be written is written.
    WentOn,
}

/// Gets what happens in a run.
pub type Watch<'a> = dyn FnMut(RunEvent<'_>) + 'a;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEnd {
    /// All updates are done; the results lie in the run folder.
    Done,
    /// It was cancelled; this checkpoint goes on from there. A run without a folder has none.
    Interrupted(Option<PathBuf>),
    /// It was cancelled while there was no room on the disk.
    NoRoom {
        /// Updates done.
        done: u64,
        /// The latest checkpoint, if there is one.
        kept: Option<PathBuf>,
    },
}

/// What [`Run::advance`] came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Advance {
    /// An update is done, with all that belongs to it.
    Step,
    /// There is nothing left to do; the results are written.
    Over,
    /// It was stopped while there was no room on the disk. What could not be written is written first when it goes on.
    NoRoom,
}

/// Data to measure the loss on without learning from them.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The examples.
    pub examples: Vec<Example>,
    /// Updates between looks; 0 for one at the end only.
    pub every: u64,
    /// When the run ends early.
    pub stop: Option<EarlyStop>,
    /// Keep the checkpoint with the lowest loss, and make it the result.
    pub keep_best: bool,
}

/// What a run has done since it began or went on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// The latest update.
    pub last: Option<StepReport>,
    /// Loss of the first update.
    pub first_loss: Option<f64>,
    /// A running mean of the losses.
    pub mean_loss: Option<f64>,
    /// Positions that went through the model.
    pub tokens: u64,
    /// The latest evaluation.
    pub evaluated: Option<Best>,
    /// How long the rest will take, by the latest updates; zero where that is not known.
    pub remaining: Duration,
}

/// A trainer, with what belongs to each of its updates: evaluation, record, checkpoints.
pub struct Run {
    trainer: Trainer,
    folder: Option<RunFolder>,
    evaluation: Option<Evaluation>,
    owed: Option<Owed>,
    /// Updates of the latest checkpoint in the folder.
    saved: u64,
    /// It was asked to end before its last update.
    ended: bool,
    finished: bool,
    /// Ends a wait for room, as cancelling does.
    pause: Cancel,
    tally: Tally,
    pace: Pace,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("done", &self.trainer.done())
            .field("folder", &self.folder)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

/// What belongs to the latest update and is not done yet.
struct Owed {
    report: StepReport,
    /// The evaluation, if it is due and not at its end.
    look: Option<Look>,
    eval_loss: Option<f64>,
    /// What is not on the disk yet.
    entry: Option<Entry>,
    /// Whether those who watch have heard of the update.
    told: bool,
}

impl Run {
    /// A run of `trainer` from where it stands. Without a folder there is no record, and checkpoints are saved only
    /// where somebody asks for them.
    ///
    /// # Errors
    /// If the evaluation data are others than those the run began with and it depends on them, its best checkpoint is
    /// gone, or the best is to be kept and there is no folder.
    pub fn new(
        trainer: Trainer,
        folder: Option<RunFolder>,
        evaluation: Option<Evaluation>,
    ) -> Result<Self> {
        let mut run = Self {
            saved: trainer.done(),
            trainer,
            folder,
            evaluation: evaluation.filter(|e| !e.examples.is_empty()),
            owed: None,
            ended: false,
            finished: false,
            pause: Cancel::new(),
            tally: Tally::default(),
            pace: Pace::default(),
        };
        run.check_standing()?;
        Ok(run)
    }

    /// The trainer.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The trainer alone.
    pub fn into_trainer(self) -> Trainer {
        self.trainer
    }

    /// The folder.
    pub fn folder(&self) -> Option<&RunFolder> {
        self.folder.as_ref()
    }

    /// What it has done since it began or went on.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether there is no update left to do.
    pub fn is_over(&self) -> bool {
        let stop = self.evaluation.as_ref().and_then(|e| e.stop);
        let (trainer, standing) = (&self.trainer, self.trainer.standing());
        self.ended || trainer.done() >= trainer.steps() || standing.is_over(stop)
    }

    /// From now on a wait for room on the disk ends also when `pause` is raised.
    pub fn heed_pause(&mut self, pause: &Cancel) {
        self.pause = pause.clone();
    }

    /// Ends the run after the updates that are done: what is left is to write its results.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Does the next update with all that belongs to it, or, when none is left, writes the results.
    ///
    /// While the disk is full it waits; then it goes on where it was.
    ///
    /// # Errors
    /// If the step fails or the disk refuses: the last checkpoint is kept. If `cancel` is raised: the updates that are
    /// done stay, and calling again goes on as if nothing had happened.
    pub fn advance(&mut self, cancel: &Cancel, watch: &mut Watch<'_>) -> Result<Advance> {
        if !self.settle(cancel, watch)? {
            return Ok(Advance::NoRoom);
        }
        if self.is_over() {
            return Ok(match self.finish(cancel, watch)? {
                true => Advance::Over,
                false => Advance::NoRoom,
            });
        }
        cancel.check()?;
        if let Some(folder) = &mut self.folder {
            folder.begin(self.trainer.done() + 1)?;
        }
        self.trainer.heed(cancel);
        let Some(report) = self.trainer.step()? else {
            return Ok(Advance::Over);
        };
        self.tally.note(&report, &mut self.pace);
        let last = report.step == report.steps;
        let looks = |e: &Evaluation| last || due(e.every, report.step);
        self.owed = Some(Owed {
            report,
            look: self
                .evaluation
                .as_ref()
                .is_some_and(looks)
                .then(Look::default),
            eval_loss: None,
            entry: None,
            told: false,
        });
        Ok(match self.settle(cancel, watch)? {
            true => Advance::Step,
            false => Advance::NoRoom,
        })
    }

    /// Goes on to the end, until the evaluation data are no longer better for it, or until `cancel` is raised; then
    /// it saves a checkpoint.
    ///
    /// # Errors
    /// If a step fails or the disk refuses; the last checkpoint is kept. If a device is lost, it saves one first.
    pub fn to_end(&mut self, cancel: &Cancel, watch: &mut Watch<'_>) -> Result<RunEnd> {
        loop {
            if cancel.is_raised() && !self.is_over() {
                return Ok(match self.save(cancel, watch)? {
                    Some(saved) => RunEnd::Interrupted(saved),
                    None => self.no_room(),
                });
            }
            match self.advance(cancel, watch) {
                Ok(Advance::Step) => {}
                Ok(Advance::Over) => return Ok(RunEnd::Done),
                Ok(Advance::NoRoom) => return Ok(self.no_room()),
                // Nothing has changed since the last update; its evaluation goes on to its end.
                Err(Error::Cancelled) if cancel.is_raised() => self.look(&Cancel::new())?,
                Err(error) => {
                    if matches!(error, Error::Device(DeviceError::Lost(_))) {
                        self.save_after_loss(cancel, watch);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Saves what is learned when a device was lost: that is the processor's. What the latest update still owes may
    /// need the device; the run goes on from the checkpoint before it then.
    fn save_after_loss(&mut self, cancel: &Cancel, watch: &mut Watch<'_>) {
        if self.owed.is_none()
            && self.saved != self.trainer.done()
            && let Err(error) = self.checkpoint(cancel, watch)
        {
            tracing::warn!(%error, "what was learned since the last checkpoint is not saved");
        }
    }

    /// Saves a checkpoint in the run folder, if there is one, and returns its path; an evaluation that is under way
    /// goes on to its end before. `None` if it was stopped while there was no room on the disk.
    ///
    /// # Errors
    /// If the disk refuses; older checkpoints are untouched then.
    pub fn save(
        &mut self,
        cancel: &Cancel,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Option<PathBuf>>> {
        self.look(&Cancel::new())?;
        if !self.settle(cancel, watch)? {
            return Ok(None);
        }
        match self.folder {
            Some(_) => Ok(self.checkpoint(cancel, watch)?.map(Some)),
            None => Ok(Some(None)),
        }
    }

    /// Saves the checkpoint `target`, wherever that is; an evaluation that is under way goes on to its end before.
    /// It does not wait for room on the disk.
    ///
    /// # Errors
    /// If the disk refuses; a checkpoint that was there is untouched then.
    pub fn save_as(&mut self, target: &Path) -> Result<()> {
        self.look(&Cancel::new())?;
        self.trainer.save_as(target)
    }

    /// Goes on from a checkpoint of this run: `from`, or the latest in `from`. The record of later updates is dropped.
    ///
    /// # Errors
    /// If it is of another run, or damaged; nothing has changed then. If the disk refuses the record.
    pub fn resume(&mut self, from: &Path) -> Result<()> {
        self.trainer.resume(&checkpoint::latest(from)?)?;
        self.owed = None;
        (self.ended, self.finished) = (false, false);
        self.saved = self.trainer.done();
        (self.tally, self.pace) = (Tally::default(), Pace::default());
        if let Some(folder) = &mut self.folder {
            folder.rewind(self.trainer.done())?;
        }
        self.check_standing()
    }

    /// The mean loss on the evaluation data as things stand. It does not count for the end of the run. `None` without
    /// such data.
    ///
    /// # Errors
    /// If `cancel` is raised.
    pub fn evaluate(&mut self, cancel: &Cancel) -> Result<Option<f64>> {
        let Some(evaluation) = &self.evaluation else {
            return Ok(None);
        };
        let look = &mut Look::default();
        let loss = self.trainer.look(&evaluation.examples, look, cancel)?;
        Ok(Some(loss))
    }

    /// Does what is owed for the latest update. `false` if it was stopped while there was no room on the disk.
    fn settle(&mut self, cancel: &Cancel, watch: &mut Watch<'_>) -> Result<bool> {
        self.look(cancel)?;
        let Some(mut owed) = self.owed.take() else {
            return Ok(true);
        };
        let settled = self.settle_with(&mut owed, cancel, watch);
        if !matches!(settled, Ok(true)) {
            self.owed = Some(owed);
        }
        settled
    }

    fn settle_with(
        &mut self,
        owed: &mut Owed,
        cancel: &Cancel,
        watch: &mut Watch<'_>,
    ) -> Result<bool> {
        let (report, eval_loss) = (owed.report, owed.eval_loss);
        if let Some(folder) = &mut self.folder
            && !owed.told
        {
            let plan = self.trainer.plan();
            let entry = owed
                .entry
                .get_or_insert_with(|| Entry::new(&report, plan, eval_loss));
            let path = folder.path().to_owned();
            let stop = || cancel.is_raised() || self.pause.is_raised();
            let written = write(&path, stop, watch, || folder.record(entry))?;
            if written.is_none() {
                return Ok(false);
            }
        }
        let step = report.step;
        if !owed.told {
            owed.told = true;
            watch(RunEvent::Step {
                report: &report,
                tally: &self.tally,
            });
            if let Some(loss) = eval_loss {
                watch(RunEvent::Evaluated {
                    step,
                    loss,
                    standing: self.trainer.standing(),
                });
            }
        }
        let best = self.trainer.standing().best.is_some_and(|b| b.step == step);
        let save_every = self.trainer.options().save_every;
        let wanted = self.is_over() || due(save_every, step) || (self.keep_best() && best);
        if wanted && self.folder.is_some() {
            return Ok(self.checkpoint(cancel, watch)?.is_some());
        }
        Ok(true)
    }

    /// Looks at the evaluation data, if that is due.
    fn look(&mut self, cancel: &Cancel) -> Result<()> {
        let (Some(owed), Some(evaluation)) = (&mut self.owed, &self.evaluation) else {
            return Ok(());
        };
        let Some(look) = &mut owed.look else {
            return Ok(());
        };
        let loss = self.trainer.look(&evaluation.examples, look, cancel)?;
        let delta = evaluation.stop.map_or(0.0, |stop| stop.delta);
        let step = owed.report.step;
        self.trainer.standing.note(step, loss, delta);
        self.tally.evaluated = Some(Best { step, loss });
        owed.eval_loss = Some(loss);
        owed.look = None;
        Ok(())
    }

    /// Saves a checkpoint in the folder.
    fn checkpoint(&mut self, cancel: &Cancel, watch: &mut Watch<'_>) -> Result<Option<PathBuf>> {
        let keep_best = self.keep_best();
        let trainer = &mut self.trainer;
        let saved = match &self.folder {
            Some(folder) => {
                let path = folder.path();
                let stop = || cancel.is_raised() || self.pause.is_raised();
                write(path, stop, watch, || folder.save(trainer, keep_best))?
            }
            None => None,
        };
        if let Some(path) = &saved {
            self.saved = self.trainer.done();
            watch(RunEvent::Saved(path));
        }
        Ok(saved)
    }

    /// Writes the results, once. `false` if it was stopped while there was no room on the disk.
    fn finish(&mut self, cancel: &Cancel, watch: &mut Watch<'_>) -> Result<bool> {
        if self.finished || self.folder.is_none() {
            return Ok(true);
        }
        // It may have been told to end after an update that none was due at.
        if self.saved != self.trainer.done() && self.checkpoint(cancel, watch)?.is_none() {
            return Ok(false);
        }
        let keep_best = self.keep_best();
        let trainer = &self.trainer;
        if let Some(folder) = &self.folder {
            let path = folder.path();
            let stop = || cancel.is_raised() || self.pause.is_raised();
            let written = write(path, stop, watch, || folder.finish(trainer, keep_best))?;
            self.finished = written.is_some();
        }
        Ok(self.finished)
    }

    fn keep_best(&self) -> bool {
        self.evaluation.as_ref().is_some_and(|e| e.keep_best)
    }

    fn no_room(&self) -> RunEnd {
        let folder = self.folder.as_ref();
        RunEnd::NoRoom {
            done: self.trainer.done(),
            kept: folder.and_then(|folder| checkpoint::latest(folder.path()).ok()),
        }
    }

    /// Makes sure that what evaluations have shown so far is of these data, and that the best checkpoint is
    /// still there.
    fn check_standing(&mut self) -> Result<()> {
        let Some(evaluation) = &self.evaluation else {
            return Ok(());
        };
        let data = checkpoint::digest(&evaluation.examples);
        let refused = |path: PathBuf, reason: &str| {
            let reason = reason.into();
            Err(TrainError::Checkpoint { path, reason }.into())
        };
        let folder = self.folder.as_ref().map_or(Path::new(""), RunFolder::path);
        if evaluation.keep_best && self.folder.is_none() {
            return Err(TrainError::Option {
                option: "--keep-best",
                value: "there".into(),
                reason: "the best is kept as a checkpoint: name a run folder",
            }
            .into());
        }
        let standing = &mut self.trainer.standing;
        if standing.data.as_ref().is_some_and(|found| *found != data) {
            if evaluation.keep_best || evaluation.stop.is_some() {
                let reason = "the evaluation data changed, and its result depends on them";
                return refused(folder.to_owned(), reason);
            }
            *standing = Standing::default();
        }
        standing.data = Some(data);
        if let (true, Some(best)) = (evaluation.keep_best, standing.best) {
            let path = checkpoint::named(folder, best.step);
            if !checkpoint::is_one(&path) {
                return refused(path, "it had the lowest loss so far, and is gone");
            }
        }
        Ok(())
    }
}

/// Whether something that is done after every so many updates, 0 for never, is due after this one.
fn due(every: u64, step: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// Writes in a run's folder, and waits while there is no room; `None` if it was stopped while it waited.
fn write<T>(
    folder: &Path,
    stop: impl Fn() -> bool,
    watch: &mut Watch<'_>,
    attempt: impl FnMut() -> Result<T>,
) -> Result<Option<T>> {
    let tell = |room: Room<'_>| match room {
        Room::Lacking(error, lack) => {
            let kept = checkpoint::latest(folder).ok();
            let kept = kept.as_deref();
            watch(RunEvent::Paused { error, lack, kept });
        }
        Room::Found => watch(RunEvent::WentOn),
    };
    when_there_is_room(BETWEEN_TRIES, stop, tell, attempt)
}

impl Tally {
    fn note(&mut self, report: &StepReport, pace: &mut Pace) {
        let smooth = |mean: f64| 0.9 * mean + 0.1 * report.loss;
        self.first_loss.get_or_insert(report.loss);
        self.mean_loss = Some(self.mean_loss.map_or(report.loss, smooth));
        self.tokens += report.tokens;
        self.remaining = pace.remaining(report.steps - report.step);
        self.last = Some(*report);
    }
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
                let all = each.as_secs_f64() * updates as f64;
                Duration::try_from_secs_f64(all).unwrap_or(Duration::MAX)
            }
            _ => Duration::ZERO,
        }
    }
}
