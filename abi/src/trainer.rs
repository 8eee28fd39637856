//! Trainers: runs that learn an adapter from a data set.

use std::ffi::CStr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use graft::adapter::{gguf_file, peft};
use graft::cancel::Cancel;
use graft::memory::Reservation;
use graft::train::{
    Advance, DataPart, Evaluation, Run, RunEvent, RunFolder, Setup, SetupEvent, checkpoint,
};
use serde_json::json;

use crate::adapter::AdapterObject;
use crate::buffer::Buffer;
use crate::call::{self, DONE, Outcome};
use crate::callback::{Progress, UserData};
use crate::cancel::CancelToken;
use crate::dataset::DatasetObject;
use crate::error::ErrorOut;
use crate::exclusive::Exclusive;
use crate::fault::Fault;
use crate::handle::{Handle, exclusive_kind};
use crate::job::{Event, JobObject};
use crate::metrics::{self, graft_train_metrics};
use crate::model::ModelObject;
use crate::pointer::{In, Out, OutStruct, Text};
use crate::status::{
    GRAFT_DONE, GRAFT_E_CALLBACK, GRAFT_E_CANCELLED, GRAFT_E_STATE, GRAFT_OK, graft_status,
};
use crate::train_options::{GRAFT_TRAIN_KEEP_BEST, graft_train_options};

/// Told after every update, and when the run begins or ceases to wait: 0 goes on, 1 pauses, 2 ends the run.
#[allow(non_camel_case_types)]
pub type graft_train_fn =
    Option<unsafe extern "C" fn(userdata: UserData, metrics: *const graft_train_metrics) -> i32>;

/// A run, with what any thread may touch while a call is at work.
pub struct TrainerObject {
    /// Holds the runtime that its memory is of.
    _model: Arc<ModelObject>,
    run: Exclusive<Held>,
    pause: Cancel,
    metrics: Mutex<graft_train_metrics>,
}

exclusive_kind!(TrainerObject, "trainer", graft_trainer_release);

/// A run and its memory.
struct Held {
    run: Run,
    _memory: Reservation,
}

/// What a call hears of the run it is at.
enum Heard<'a> {
    Metrics(&'a graft_train_metrics),
    Saved(&'a Path),
}

/// What it wants then.
#[derive(Clone, Copy)]
enum Wish {
    GoOn,
    Pause,
    End,
    Fail(i32),
}

/// What a run is set up from.
///
/// # Errors
/// If a handle is none, or an option cannot be meant.
pub fn setup(
    model: &Arc<ModelObject>,
    data: Handle<DatasetObject>,
    eval_data: Handle<DatasetObject>,
    options: &graft_train_options,
) -> Result<Setup, Fault> {
    let name = options.template_name.optional("template_name")?;
    let initial = options.initial.optional()?;
    let cache = options.feature_cache.optional_path("feature_cache")?;
    let held_out = eval_data.optional()?;
    let budget = model.runtime().budget();
    Ok(Setup {
        model: Arc::clone(model.model()),
        template: model.model().chat_template(name)?,
        data: Arc::clone(data.get()?.data()),
        held_out: held_out.map(|data| Arc::clone(data.data())),
        initial: initial.map(|adapter| adapter.shared()),
        options: options.train_options()?,
        budget: (options.memory_budget > 0).then_some(options.memory_budget),
        system: Some(budget.limit().saturating_sub(budget.reserved())),
        feature_cache: cache.map(Path::to_owned),
    })
}

impl TrainerObject {
    fn new(
        model: Arc<ModelObject>,
        data: Handle<DatasetObject>,
        eval_data: Handle<DatasetObject>,
        options: &graft_train_options,
    ) -> Result<Self, Fault> {
        let cancel = options.cancel.flag()?;
        let mut setup = setup(&model, data, eval_data, options)?;
        let resume = options.resume_from.optional_path("resume_from")?;
        let folder = options.run_folder.optional_path("run_folder")?;
        let log = options.log_folder.optional_path("log_folder")?;
        let (stop, keep_best) = (options.stop()?, options.is(GRAFT_TRAIN_KEEP_BEST));
        let by_loss = stop.is_some() || keep_best;
        if by_loss && (setup.held_out.is_none() || options.eval_every == 0) {
            let message = "early_stop and keep_best go by the loss on samples that are not learned from: give eval_data \
                           and eval_every";
            return Err(Fault::argument(message).with("field", "eval_every"));
        }
        if let (Some(folder), None) = (folder, resume) {
            RunFolder::check_vacant(folder)?;
        }
        // Before images go through the tower.
        let resume = resume.map(checkpoint::latest).transpose()?;
        let work = setup.workload()?;
        setup.place(None, &work)?;
        let plan = setup.plan(&work)?;
        let budget = model.runtime().budget();
        let memory = budget.reserve(plan.memory.anonymous_peak())?;
        let progress = Progress::new(options.progress, options.progress_userdata);
        let mut watch = |event: SetupEvent<'_>| match event {
            SetupEvent::Prepared {
                part, samples, all, ..
            } => progress.tell(stage(part), samples as u64, all as u64, &cancel),
            SetupEvent::Noticed { warnings, .. } => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
            }
            _ => {}
        };
        let ready = setup.trainer(&plan, folder, &cancel, &mut watch)?;
        let mut trainer = ready.trainer;
        let record = json!({
            "graft": env!("CARGO_PKG_VERSION"),
            "model": model.model().name(),
            "fingerprint": model.model().fingerprint(),
            "data": setup.data.path,
            "eval_data": setup.held_out.as_ref().map(|data| &data.path),
            "options": trainer.options(),
        });
        let mut folder = match (folder, resume) {
            (folder, Some(checkpoint)) => {
                trainer.resume(&checkpoint)?;
                let folder = folder.map(|folder| RunFolder::reopen(folder, trainer.done()));
                folder.transpose()?
            }
            (Some(folder), None) => Some(RunFolder::create(folder, &record)?),
            (None, None) => None,
        };
        if let Some(folder) = &mut folder {
            folder.configure(&record)?;
            if let Some(log) = log {
                folder.log_to(log);
            }
        }
        let evaluation = Evaluation {
            examples: ready.held_out,
            every: options.eval_every,
            stop,
            keep_best,
        };
        let mut run = Run::new(trainer, folder, Some(evaluation))?;
        let pause = Cancel::new();
        run.heed_pause(&pause);
        let metrics = graft_train_metrics::of(&run, metrics::GRAFT_TRAIN_READY);
        Ok(Self {
            _model: model,
            run: Exclusive::new(Held {
                run,
                _memory: memory,
            }),
            pause,
            metrics: Mutex::new(metrics),
        })
    }

    fn metrics(&self) -> graft_train_metrics {
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, metrics: graft_train_metrics) {
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
    }

    /// Does up to `most` updates, and says where the run stands afterwards.
    fn go_on(
        &self,
        run: &mut Run,
        most: u64,
        cancel: &Cancel,
        told: &mut dyn FnMut(Heard<'_>) -> Wish,
    ) -> Outcome {
        self.publish(graft_train_metrics::of(run, metrics::GRAFT_TRAIN_RUNNING));
        let outcome = self.updates(run, most, cancel, told);
        let state = match &outcome {
            Ok((_, state)) => *state,
            Err(fault) if fault.status() == GRAFT_E_CANCELLED => metrics::GRAFT_TRAIN_PAUSED,
            Err(_) => metrics::GRAFT_TRAIN_FAILED,
        };
        self.publish(graft_train_metrics::of(run, state));
        outcome.map(|(status, _)| status)
    }

    fn updates(
        &self,
        run: &mut Run,
        most: u64,
        cancel: &Cancel,
        told: &mut dyn FnMut(Heard<'_>) -> Wish,
    ) -> Result<(graft_status, u32), Fault> {
        let first = run.trainer().done();
        loop {
            if self.pause.is_raised() {
                self.pause.lower();
                return Ok((GRAFT_OK, metrics::GRAFT_TRAIN_PAUSED));
            }
            if run.trainer().done() - first >= most && !run.is_over() {
                return Ok((GRAFT_OK, metrics::GRAFT_TRAIN_READY));
            }
            let mut waiting = Wish::GoOn;
            let advance = run.advance(cancel, &mut |event| {
                match self.hear(event, told) {
                    Wish::GoOn => return,
                    Wish::Pause | Wish::End => waiting = Wish::Pause,
                    failed @ Wish::Fail(_) => waiting = failed,
                }
                // The wait ends.
                self.pause.raise();
            })?;
            let wish = match advance {
                Advance::Over => return Ok((GRAFT_DONE, metrics::GRAFT_TRAIN_FINISHED)),
                Advance::NoRoom if !self.pause.is_raised() => {
                    let message = "interrupted while there was no room on the disk; what could not be written is \
                                   written first when the run goes on";
                    return Err(Fault::new(GRAFT_E_CANCELLED, message));
                }
                Advance::NoRoom => waiting,
                Advance::Step => {
                    let now = graft_train_metrics::of(run, metrics::GRAFT_TRAIN_RUNNING);
                    self.publish(now);
                    match told(Heard::Metrics(&now)) {
                        Wish::GoOn => waiting,
                        wish => wish,
                    }
                }
            };
            match wish {
                Wish::GoOn => {}
                Wish::Pause => self.pause.raise(),
                Wish::End => run.end(),
                Wish::Fail(answer) => {
                    self.pause.lower();
                    let message = format!("the callback returned {answer}; 0, 1 and 2 are known");
                    return Err(Fault::new(GRAFT_E_CALLBACK, message));
                }
            }
        }
    }

    /// Hands on what happens within an update, and says what the program wants then.
    fn hear(&self, event: RunEvent<'_>, told: &mut dyn FnMut(Heard<'_>) -> Wish) -> Wish {
        let mut now = self.metrics();
        match event {
            RunEvent::Saved(path) => {
                told(Heard::Saved(path));
                return Wish::GoOn;
            }
            RunEvent::Paused { error, lack, .. } => {
                tracing::warn!("the run waits for room on the disk: {error}");
                now.state = metrics::GRAFT_TRAIN_WAITING;
                now.lack = metrics::lack(lack);
            }
            RunEvent::WentOn => {
                now.state = metrics::GRAFT_TRAIN_RUNNING;
                now.lack = metrics::GRAFT_LACK_NONE;
            }
            _ => return Wish::GoOn,
        }
        self.publish(now);
        told(Heard::Metrics(&now))
    }
}

fn stage(part: DataPart) -> &'static CStr {
    match part {
        DataPart::Training => c"samples",
        DataPart::HeldOut => c"evaluation samples",
    }
}

fn no_pairs() -> Fault {
    let message = "the run trains the projector alone, so there is no adapter; export it as mmproj";
    Fault::new(GRAFT_E_STATE, message)
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_create(
    model: Handle<ModelObject>,
    data: Handle<DatasetObject>,
    eval_data: Handle<DatasetObject>,
    options: In<graft_train_options>,
    out: Out<Handle<TrainerObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_trainer_create", err, || {
        let model = model.get()?;
        out.check("out")?;
        let trainer = TrainerObject::new(model, data, eval_data, &options.read()?)?;
        out.give(trainer)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_step(
    trainer: Handle<TrainerObject>,
    n_steps: u64,
    cancel: CancelToken,
    out: OutStruct<graft_train_metrics>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_trainer_step", err, || {
        let trainer = trainer.get()?;
        let mut held = trainer.run.enter("trainer")?;
        let cancel = cancel.flag()?;
        let mut told = |_: Heard<'_>| Wish::GoOn;
        let status = trainer.go_on(&mut held.run, n_steps, &cancel, &mut told)?;
        out.set(&trainer.metrics())?;
        Ok(status)
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_run(
    trainer: Handle<TrainerObject>,
    function: graft_train_fn,
    userdata: UserData,
    cancel: CancelToken,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_trainer_run", err, || {
        let trainer = trainer.get()?;
        let mut held = trainer.run.enter("trainer")?;
        let cancel = cancel.flag()?;
        let mut told = |heard: Heard<'_>| match (heard, function) {
            (Heard::Metrics(metrics), Some(function)) => {
                // SAFETY: the caller gave this function for this pointer; the struct outlives the call.
                match unsafe { function(userdata, metrics) } {
                    0 => Wish::GoOn,
                    1 => Wish::Pause,
                    2 => Wish::End,
                    other => Wish::Fail(other),
                }
            }
            _ => Wish::GoOn,
        };
        trainer.go_on(&mut held.run, u64::MAX, &cancel, &mut told)
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_start(
    trainer: Handle<TrainerObject>,
    out: Out<Handle<JobObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_trainer_start", err, || {
        let trainer = trainer.get()?;
        out.check("out")?;
        out.give(JobObject::start("graft_trainer_start", move |worker| {
            let mut held = trainer.run.enter("trainer")?;
            worker.begun();
            let mut told = |heard: Heard<'_>| {
                worker.tell(match heard {
                    Heard::Metrics(metrics) => Event::Metrics(Box::new(*metrics)),
                    Heard::Saved(path) => Event::checkpoint(path),
                });
                Wish::GoOn
            };
            trainer.go_on(&mut held.run, u64::MAX, worker.cancel(), &mut told)
        })?)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_pause(trainer: Handle<TrainerObject>) {
    call::value("graft_trainer_pause", (), || {
        trainer.get()?.pause.raise();
        Ok(())
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_metrics(
    trainer: Handle<TrainerObject>,
    out: OutStruct<graft_train_metrics>,
) -> graft_status {
    call::status("graft_trainer_metrics", || {
        let trainer = trainer.get()?;
        out.check("out")?;
        out.set(&trainer.metrics())?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_evaluate(
    trainer: Handle<TrainerObject>,
    cancel: CancelToken,
    out: Out<f64>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_trainer_evaluate", err, || {
        let trainer = trainer.get()?;
        let mut held = trainer.run.enter("trainer")?;
        out.check("out")?;
        let loss = held.run.evaluate(&cancel.flag()?)?;
        out.set(loss.ok_or_else(|| {
            let message = "the trainer was made without evaluation data";
            Fault::new(GRAFT_E_STATE, message)
        })?);
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_checkpoint(
    trainer: Handle<TrainerObject>,
    path: Text,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_trainer_checkpoint", err, || {
        let trainer = trainer.get()?;
        let mut held = trainer.run.enter("trainer")?;
        let run = &mut held.run;
        let target = match (path.optional_path("path")?, run.folder()) {
            (Some(path), _) => path.to_owned(),
            (None, Some(folder)) => checkpoint::named(folder.path(), run.trainer().done()),
            (None, None) => return Err(no_folder()),
        };
        run.save_as(&target)?;
        if out.check("out").is_ok() {
            out.give(Buffer::new(target.display().to_string()))?;
        }
        DONE
    })
}

fn no_folder() -> Fault {
    let message = "the trainer was made without a run folder; name the checkpoint";
    Fault::argument(message).with("field", "path")
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_resume(
    trainer: Handle<TrainerObject>,
    path: Text,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_trainer_resume", err, || {
        let trainer = trainer.get()?;
        let mut held = trainer.run.enter("trainer")?;
        let run = &mut held.run;
        let from = match (path.optional_path("path")?, run.folder()) {
            (Some(path), _) => path.to_owned(),
            (None, Some(folder)) => folder.path().to_owned(),
            (None, None) => return Err(no_folder()),
        };
        run.resume(&from)?;
        trainer.publish(graft_train_metrics::of(run, metrics::GRAFT_TRAIN_READY));
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_adapter(
    trainer: Handle<TrainerObject>,
    out: Out<Handle<AdapterObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_trainer_adapter", err, || {
        let trainer = trainer.get()?;
        let held = trainer.run.enter("trainer")?;
        if held.run.trainer().parameters().adapter.is_empty() {
            return Err(no_pairs());
        }
        let adapter = held.run.trainer().adapter();
        out.give(AdapterObject::new(adapter))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_trainer_export(
    trainer: Handle<TrainerObject>,
    path: Text,
    format: Text,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_trainer_export", err, || {
        let object = trainer.get()?;
        let held = object.run.enter("trainer")?;
        let (trainer, path) = (held.run.trainer(), path.path("path")?);
        let (model, parameters) = (trainer.model(), trainer.parameters());
        let format = format.optional("format")?.unwrap_or("gguf");
        match (format, &parameters.projector, model.vision()) {
            ("gguf" | "peft", ..) if parameters.adapter.is_empty() => return Err(no_pairs()),
            ("gguf", ..) => gguf_file::write(path, &parameters.adapter)?,
            ("peft", ..) => {
                let (shape, options) = (model.llama().shape(), peft::ExportOptions::default());
                peft::write(path, &parameters.adapter, shape, &options)?;
            }
            ("mmproj", Some(projector), Some(vision)) => {
                vision.write_with_projector(path, projector)?;
            }
            ("mmproj", ..) => {
                let message = "the run does not train the projector";
                return Err(Fault::new(GRAFT_E_STATE, message));
            }
            (other, ..) => {
                let message = format!("format is {other}; gguf, peft and mmproj are known");
                return Err(Fault::argument(message).with("field", "format"));
            }
        }
        DONE
    })
}
