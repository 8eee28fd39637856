//! What `train`, `plan` and `demo` share: from a configuration to a trainer that fits its budget.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use graft::adapter::Adapter;
use graft::cancel::Cancel;
use graft::dataset::{ImageFolder, Sample, llava_json};
use graft::memory::Arena;
use graft::model::{Model, ModelOptions};
use graft::tokenizer::ChatTemplate;
use graft::train::{
    Best, Evaluation, Example, FeatureCache, Lack, Place, Preparation, Prepared, RunEnd, RunEvent,
    RunFolder, TrainError, TrainPlan, Trainer, Workload, checkpoint, plan, prepare, run,
};

use crate::failure::Failure;
use crate::model_arguments::{about, open_model};
use crate::progress::Progress;
use crate::run_config::RunConfig;

/// An opened base model with its data, nothing prepared yet.
pub struct Subject {
    pub model: Arc<Model>,
    pub template: ChatTemplate,
    pub samples: Vec<Sample>,
    pub images: ImageFolder,
    /// Samples to look at only, and their images.
    pub held_out: Option<(Vec<Sample>, ImageFolder)>,
    /// The adapter to go on from.
    pub initial: Option<Arc<Adapter>>,
}

impl Subject {
    /// Opens what a configuration names.
    pub fn open(config: &RunConfig, threads: usize) -> Result<Self, Failure> {
        let options = ModelOptions {
            mmproj: config.mmproj.clone(),
            threads,
        };
        let model = open_model(&config.model, &options)?;
        let initial = match &config.init_adapter {
            Some(path) => Some(Adapter::open(path, &model).map_err(|e| about(path, e))?),
            None => None,
        };
        Ok(Self {
            template: model.chat_template(config.template.as_deref())?,
            model,
            samples: llava_json::read(&config.data).map_err(graft::Error::from)?,
            images: images(config, &config.data),
            held_out: match &config.eval_data {
                Some(data) => {
                    let samples = llava_json::read(data).map_err(graft::Error::from)?;
                    Some((samples, images(config, data)))
                }
                None => None,
            },
            initial,
        })
    }

    /// What there is to learn, without looking at the images.
    pub fn workload(&self, config: &RunConfig) -> Result<Workload, Failure> {
        let measure = |samples, data: &Path| {
            let max_len = config.options.max_len;
            Workload::measure(&self.model, &self.template, samples, max_len)
                .map_err(|e| about(data, e))
        };
        let work = measure(&self.samples, &config.data)?;
        match (&self.held_out, &config.eval_data) {
            (Some((samples, _)), Some(data)) => Ok(work.with_evaluation(&measure(samples, data)?)),
            _ => Ok(work),
        }
    }

    /// What a run will take.
    pub fn plan(&self, config: &RunConfig, work: &Workload) -> Result<TrainPlan, Failure> {
        let initial = self.initial.as_deref();
        let planned = plan(&self.model, &config.options, work, initial, config.memory);
        planned.map_err(|error| match error {
            graft::Error::Train(TrainError::NothingToLearn { .. } | TrainError::NoImages) => {
                about(&config.data, error)
            }
            other => other.into(),
        })
    }

    /// The examples of some samples; warnings go to stderr.
    pub fn examples(
        &self,
        label: &'static str,
        (samples, images): (&[Sample], &ImageFolder),
        cache: Option<&FeatureCache>,
        max_len: usize,
        arena: &Arena,
        cancel: &Cancel,
    ) -> Result<Vec<Example>, Failure> {
        let mut progress = Progress::new(label, samples.len() as u64);
        let preparation = Preparation {
            model: &self.model,
            template: &self.template,
            images,
            cache,
            max_len,
            arena,
        };
        let Prepared { examples, warnings } = prepare(&preparation, samples, cancel, |done| {
            progress.at(done.samples as u64, &format!("{} images", done.images))
        })?;
        progress.finish();
        const SHOWN: usize = 10;
        for warning in warnings.iter().take(SHOWN) {
            eprintln!("warning: {warning}");
        }
        if warnings.len() > SHOWN {
            eprintln!("warning: {} more like these", warnings.len() - SHOWN);
        }
        Ok(examples)
    }
}

fn images(config: &RunConfig, data: &Path) -> ImageFolder {
    match &config.image_dir {
        Some(folder) => ImageFolder::new(folder),
        None => ImageFolder::beside(data),
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
    subject: &mut Subject,
    folder: &Path,
    resume: Option<&Path>,
    cancel: &Cancel,
) -> Result<Trained, Failure> {
    let max_len = config.options.max_len;
    let planned = subject.plan(config, &subject.workload(config)?)?;
    let mut options = config.options.clone();
    options.levers = planned.levers.clone();
    options.levers.folder = Some(folder.to_owned());
    let on_disk = planned.levers.features == Some(Place::Disk);
    let cache = match (subject.model.vision(), &config.feature_cache) {
        (Some(vision), Some(cache)) => Some(FeatureCache::open(cache, vision)?),
        (Some(vision), None) if on_disk => {
            Some(FeatureCache::open(&folder.join("features"), vision)?)
        }
        _ => None,
    };
    let arena = Arena::new(planned.memory);
    let examples = subject.examples(
        "preparing",
        (&subject.samples, &subject.images),
        cache.as_ref(),
        max_len,
        &arena,
        cancel,
    )?;
    let held_out = match &subject.held_out {
        Some((samples, images)) => subject.examples(
            "eval data",
            (samples, images),
            cache.as_ref(),
            max_len,
            &arena,
            cancel,
        )?,
        None => Vec::new(),
    };
    // There is no room for it twice.
    let initial = subject.initial.take().map(Arc::unwrap_or_clone);
    std::fs::create_dir_all(folder).map_err(|source| graft::Error::Io {
        action: "create",
        path: folder.to_owned(),
        source,
    })?;
    let mut trainer = match Trainer::new(Arc::clone(&subject.model), options, examples, initial) {
        Ok(trainer) => trainer,
        Err(error) => {
            // Nothing is in it unless it was there before.
            let _ = std::fs::remove_dir(folder);
            return Err(error.into());
        }
    };
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
    let evaluation = (!held_out.is_empty()).then_some(Evaluation {
        examples: &held_out,
        every: config.eval_every,
        stop: config.stop(),
        keep_best: config.keep_best,
    });
    let resume_with = format!("graft train --resume {}", folder.path().display());
    let mut trained = Trained {
        end: RunEnd::Done,
        plan: planned,
        first_loss: None,
        last_loss: None,
        eval_loss: None,
        best: None,
        stopped_after: None,
        steps: 0,
        tokens: 0,
        seconds: 0.0,
    };
    let mut progress = Progress::new("training", trainer.steps());
    trained.end = run(
        &mut trainer,
        &mut folder,
        evaluation,
        cancel,
        |event| match event {
            RunEvent::Step { report, remaining } => {
                let smooth = trained
                    .last_loss
                    .map_or(report.loss, |l| 0.9 * l + 0.1 * report.loss);
                trained.first_loss.get_or_insert(report.loss);
                trained.last_loss = Some(smooth);
                trained.tokens += report.tokens;
                progress.at_with(report.step, remaining, &format!("loss {smooth:.4}"));
            }
            RunEvent::Evaluated {
                step,
                loss,
                standing,
            } => {
                trained.eval_loss = Some(loss);
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
        },
    )?;
    trained.seconds = progress.finish().as_secs_f64();
    trained.steps = trainer.done();
    trained.best = trainer.standing().best;
    trained.stopped_after = (trainer.standing().is_over(config.stop())
        && trainer.done() < trainer.steps())
    .then_some(trainer.standing().since);
    Ok(trained)
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
