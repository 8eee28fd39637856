//! What `train`, `plan` and `demo` share: from a configuration to a trainer that fits its budget.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use graft::adapter::Adapter;
use graft::cancel::Cancel;
use graft::dataset::DataSet;
use graft::device::DeviceError;
use graft::model::ModelOptions;
use graft::train::{
    Best, DataPart, Evaluation, Lack, Run, RunEnd, RunEvent, RunFolder, Setup, SetupEvent,
    TrainError, TrainPlan, Workload, checkpoint,
};

use crate::device_arguments::DeviceArguments;
use crate::failure::Failure;
use crate::model_arguments::{about, open_model};
use crate::progress::Progress;
use crate::run_config::RunConfig;

/// Opens what a configuration names.
pub fn open(config: &RunConfig, threads: usize) -> Result<Setup, Failure> {
    let options = ModelOptions {
        mmproj: config.mmproj.clone(),
        threads,
        ..ModelOptions::default()
    };
    let model = open_model(&config.model, &options)?;
    let initial = match &config.init_adapter {
        Some(path) => Some(Adapter::open(path, &model).map_err(|e| about(path, e))?),
        None => None,
    };
    let data = |path: &Path| -> Result<Arc<DataSet>, Failure> {
        let read = DataSet::open(path, config.image_dir.as_deref());
        Ok(Arc::new(read.map_err(graft::Error::from)?))
    };
    Ok(Setup {
        template: model.chat_template(config.template.as_deref())?,
        model,
        data: data(&config.data)?,
        held_out: config.eval_data.as_deref().map(data).transpose()?,
        initial,
        options: config.options.clone(),
        budget: config.memory,
        system: None,
        feature_cache: config.feature_cache.clone(),
    })
}

/// What there is to learn, without looking at the images; a failure says in which file.
pub fn workload(setup: &Setup) -> Result<Workload, Failure> {
    let measure = |data: &DataSet| setup.measure(data).map_err(|e| about(&data.path, e));
    let work = measure(&setup.data)?;
    Ok(match &setup.held_out {
        Some(data) => work.with_evaluation(&measure(data)?),
        None => work,
    })
}

/// Has the device that was asked for run the model, with room for the run.
pub fn on_device(
    setup: &mut Setup,
    work: &Workload,
    device: &DeviceArguments,
) -> Result<(), Failure> {
    let placed = setup.place(Some(&device.options(0)), work);
    placed.map_err(|error| of_data(setup, error))?;
    device.tell(&setup.model);
    Ok(())
}

/// What a run will take.
pub fn planned(setup: &Setup, work: &Workload) -> Result<TrainPlan, Failure> {
    setup.plan(work).map_err(|error| of_data(setup, error))
}

/// A failure that says in which file, if it is about the data.
fn of_data(setup: &Setup, error: graft::Error) -> Failure {
    match error {
        graft::Error::Train(TrainError::NothingToLearn { .. } | TrainError::NoImages) => {
            about(&setup.data.path, error)
        }
        other => other.into(),
    }
}

/// Shows how far the making of examples is; warnings go to stderr.
fn preparing() -> impl FnMut(SetupEvent<'_>) {
    let mut shown: Option<Progress> = None;
    move |event| match event {
        SetupEvent::Prepared {
            part,
            samples,
            all,
            images,
        } => {
            let label = match part {
                DataPart::Training => "preparing",
                DataPart::HeldOut => "eval data",
            };
            let progress = shown.get_or_insert_with(|| Progress::new(label, all as u64));
            progress.at(samples as u64, &format!("{images} images"));
        }
        SetupEvent::Noticed { warnings, .. } => {
            shown.take().map(Progress::finish);
            const SHOWN: usize = 10;
            for warning in warnings.iter().take(SHOWN) {
                eprintln!("warning: {warning}");
            }
            if warnings.len() > SHOWN {
                eprintln!("warning: {} more like these", warnings.len() - SHOWN);
            }
        }
        _ => {}
    }
}

/// A run's end and what is worth saying about it.
pub struct Trained {
    pub end: RunEnd,
    pub plan: TrainPlan,
    pub first_loss: Option<f64>,
    pub last_loss: Option<f64>,
    pub eval_loss: Option<f64>,
    /// The lowest loss on the evaluation data.
    pub best: Option<Best>,
    /// Evaluations without an improvement that have ended the run.
    pub stopped_after: Option<u64>,
    /// Updates done.
    pub steps: u64,
    pub tokens: u64,
    pub seconds: f64,
}

/// Trains as configured, in `folder`, from the beginning or from a checkpoint.
pub fn train(
    config: &RunConfig,
    setup: &mut Setup,
    folder: &Path,
    resume: Option<&Path>,
    device: &DeviceArguments,
    cancel: &Cancel,
) -> Result<Trained, Failure> {
    let work = workload(setup)?;
    on_device(setup, &work, device)?;
    let plan = planned(setup, &work)?;
    let ready = setup.trainer(&plan, Some(folder), cancel, &mut preparing())?;
    let mut trainer = ready.trainer;
    let mut folder = match resume {
        Some(checkpoint) => {
            trainer.resume(checkpoint)?;
            let folder = RunFolder::reopen(folder, trainer.done())?;
            // What it was asked for may have changed.
            folder.configure(config)?;
            folder
        }
        None => RunFolder::create(folder, config)?,
    };
    if let Some(log) = &config.log_dir {
        folder.log_to(log);
    }
    let resume_with = format!("graft train --resume {}", folder.path().display());
    let evaluation = Evaluation {
        examples: ready.held_out,
        every: config.eval_every,
        stop: config.stop(),
        keep_best: config.keep_best,
    };
    let mut run = Run::new(trainer, Some(folder), Some(evaluation))?;
    let mut progress = Progress::new("training", run.trainer().steps());
    let end = run.to_end(cancel, &mut |event| match event {
        RunEvent::Step { report, tally } => {
            let smooth = tally.mean_loss.unwrap_or(report.loss);
            progress.at_with(report.step, tally.remaining, &format!("loss {smooth:.4}"));
        }
        RunEvent::Evaluated {
            step,
            loss,
            standing,
        } => {
            let compared = match standing.best {
                Some(best) if best.step == step => ", the lowest so far".into(),
                Some(best) => {
                    format!(", the lowest was {:.4} at step {}", best.loss, best.step)
                }
                None => String::new(),
            };
            progress.say(&format!(
                "step {step}: loss on the evaluation data {loss:.4}{compared}"
            ));
        }
        RunEvent::Paused { error, lack, kept } => {
            progress.say(&paused(error, lack));
            let end = match kept {
                Some(kept) => {
                    format!("`{resume_with}` then goes on from {}", kept.display())
                }
                None => "nothing is saved yet".into(),
            };
            progress.say(&format!("Ctrl-C ends the run; {end}"));
        }
        RunEvent::WentOn => progress.say("there is room again, the run goes on"),
        _ => {}
    });
    let end = end.map_err(|error| ended(error, &run, &resume_with))?;
    let (tally, trainer) = (run.tally(), run.trainer());
    let standing = trainer.standing();
    let early = standing.is_over(config.stop()) && trainer.done() < trainer.steps();
    Ok(Trained {
        end,
        plan,
        first_loss: tally.first_loss,
        last_loss: tally.mean_loss,
        eval_loss: tally.evaluated.map(|evaluated| evaluated.loss),
        best: standing.best,
        stopped_after: early.then_some(standing.since),
        steps: trainer.done(),
        tokens: tally.tokens,
        seconds: progress.finish().as_secs_f64(),
    })
}

/// Why a run ended before its time; where it goes on, if it lost its device.
fn ended(error: graft::Error, run: &Run, resume_with: &str) -> Failure {
    let graft::Error::Device(DeviceError::Lost(_)) = error else {
        return error.into();
    };
    let folder = run.folder().map_or(Path::new(""), RunFolder::path);
    Failure::Work(match checkpoint::latest(folder) {
        Ok(kept) => format!("{error}; `{resume_with}` goes on from {}", kept.display()),
        Err(_) => format!("{error}; nothing was saved yet, the same command begins again"),
    })
}

/// That work waits for room on the disk, in words.
pub fn paused(error: &graft::Error, lack: Lack) -> String {
    let (what, help) = match lack {
        Lack::Space => ("the disk is full", "free some space"),
        Lack::Quota => ("the quota is used up", "free some space"),
        Lack::Length => (
            "a file may not grow longer",
            "raise the limit (ulimit -f, or prlimit for a process that runs)",
        ),
    };
    format!("paused: {what}: {error}; {help} and it goes on by itself")
}

/// The run folder and the checkpoint that `--resume` names.
pub fn resumed(path: &Path) -> graft::Result<(PathBuf, PathBuf)> {
    let checkpoint = checkpoint::latest(path)?;
    let folder = checkpoint.parent().unwrap_or(Path::new(".")).to_owned();
    Ok((folder, checkpoint))
}
