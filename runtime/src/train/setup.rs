//! From a model and data to a trainer that fits its budget.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    Example, FeatureCache, Limit, Place, Preparation, Prepared, TrainError, TrainOptions,
    TrainPlan, Trainer, Workload, device_room, plan_within, prepare,
};
use crate::adapter::Adapter;
use crate::cancel::Cancel;
use crate::dataset::DataSet;
use crate::device::{DeviceChoice, DeviceError, DeviceOptions};
use crate::memory::Arena;
use crate::model::Model;
use crate::tokenizer::ChatTemplate;
use crate::{Error, Result};

/// What a run begins with, nothing prepared yet.
#[derive(Debug)]
pub struct Setup {
    /// The base.
    pub model: Arc<Model>,
    /// Turns conversations into text.
    pub template: ChatTemplate,
    /// What to learn from.
    pub data: Arc<DataSet>,
    /// What to look at only.
    pub held_out: Option<Arc<DataSet>>,
    /// The adapter to go on from.
    pub initial: Option<Arc<Adapter>>,
    /// How to train.
    pub options: TrainOptions,
    /// Most bytes at once.
    pub budget: Option<u64>,
    /// Without a budget, where a device leaves values in the system's memory: most bytes that are no pages of a file,
    /// if less than what the system has.
    pub system: Option<u64>,
    /// Where features of images are kept for later runs.
    pub feature_cache: Option<PathBuf>,
}

/// A trainer, and the examples to look at only.
#[derive(Debug)]
pub struct Ready {
    /// The trainer, at the beginning of its run.
    pub trainer: Trainer,
    /// Empty without such data.
    pub held_out: Vec<Example>,
}

/// Which of a run's data something is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DataPart {
    /// What it learns from.
    Training,
    /// What it looks at only.
    HeldOut,
}

/// What happens while examples are made, for whoever watches.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum SetupEvent<'a> {
    /// So many samples of a part are examples.
    Prepared {
        /// Of which data.
        part: DataPart,
        /// Samples done.
        samples: usize,
        /// Samples of the part.
        all: usize,
        /// Different images seen by the vision tower.
        images: usize,
    },
    /// A part is done, and this was noticed: one sentence for each sample that will not teach what its author meant.
    Noticed {
        /// In which data.
        part: DataPart,
        /// The sentences.
        warnings: &'a [String],
    },
}

impl Setup {
    /// What there is in some data, without looking at the images.
    ///
    /// # Errors
    /// If the template refuses a conversation or the vocabulary cannot spell it.
    pub fn measure(&self, data: &DataSet) -> Result<Workload> {
        let max_len = self.options.max_len;
        Workload::measure(&self.model, &self.template, &data.samples, max_len)
    }

    /// What there is to learn and to look at.
    ///
    /// # Errors
    /// As [`Setup::measure`].
    pub fn workload(&self) -> Result<Workload> {
        let work = self.measure(&self.data)?;
        Ok(match &self.held_out {
            Some(data) => work.with_evaluation(&self.measure(data)?),
            None => work,
        })
    }

    /// What the run will take; levers that are free are chosen.
    ///
    /// # Errors
    /// As [`super::plan()`].
    pub fn plan(&self, work: &Workload) -> Result<TrainPlan> {
        let (options, initial) = (&self.options, self.initial.as_deref());
        let limit = Limit::of(self.budget, &self.model, self.system);
        plan_within(&self.model, options, work, initial, limit)
    }

    /// Has a device run the model from now on, with room for this work: the one that was asked for, or that which runs
    /// the model already, if it has room for more than that. Without either, nothing changes. Plans are made afterwards.
    ///
    /// # Errors
    /// If the options are impossible, there is nothing to learn, or as [`Model::on_device`] and
    /// [`Model::for_training`].
    pub fn place(&mut self, device: Option<&DeviceOptions>, work: &Workload) -> Result<()> {
        let device = device.filter(|device| device.device != DeviceChoice::Cpu);
        if device.is_none() && self.model.llama().device().is_none() {
            return Ok(());
        }
        let (options, initial) = (&self.options, self.initial.as_deref());
        let room = device_room(&self.model, options, work, initial)?;
        self.model = match device {
            Some(device) => self.model.on_device(&DeviceOptions {
                training: Some(room),
                ..device.clone()
            })?,
            None => match self.model.for_training(room) {
                // It may have some for the layers that are there.
                Err(Error::Device(DeviceError::NoRoom { .. } | DeviceError::NoMemory(_))) => {
                    return Ok(());
                }
                placed => placed?,
            },
        };
        Ok(())
    }

    /// Makes the examples and the trainer, as planned. `folder` is the run's, which is made if need be; what the plan
    /// puts on the disk goes there, or, without one, into the folder of the levers. The initial adapter is given to the
    /// trainer: there is no room for it twice.
    ///
    /// # Errors
    /// As [`prepare()`] and [`Trainer::new`], or if the disk refuses the folder.
    pub fn trainer(
        &mut self,
        plan: &TrainPlan,
        folder: Option<&Path>,
        cancel: &Cancel,
        watch: &mut dyn FnMut(SetupEvent<'_>),
    ) -> Result<Ready> {
        let mut options = self.options.clone();
        options.levers = plan.levers.clone();
        if let Some(folder) = folder {
            options.levers.folder = Some(folder.to_owned());
        }
        let cache = self.cache(&options)?;
        let arena = Arena::new(plan.memory);
        let mut examples = |part, data: &DataSet| {
            let preparation = Preparation {
                model: &self.model,
                template: &self.template,
                images: &data.images,
                cache: cache.as_ref(),
                max_len: options.max_len,
                arena: &arena,
            };
            let Prepared { examples, warnings } =
                prepare(&preparation, &data.samples, cancel, |done| {
                    watch(SetupEvent::Prepared {
                        part,
                        samples: done.samples,
                        all: data.samples.len(),
                        images: done.images,
                    });
                })?;
            let warnings = warnings.as_slice();
            watch(SetupEvent::Noticed { part, warnings });
            Ok::<_, crate::Error>(examples)
        };
        let training = examples(DataPart::Training, &self.data)?;
        let held_out = match &self.held_out {
            Some(data) => examples(DataPart::HeldOut, data)?,
            None => Vec::new(),
        };
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(|source| TrainError::Io {
                action: "create",
                path: folder.to_owned(),
                source,
            })?;
        }
        let initial = self.initial.take().map(Arc::unwrap_or_clone);
        let trainer = Trainer::new(Arc::clone(&self.model), options, training, initial);
        if let (Err(_), Some(folder)) = (&trainer, folder) {
            // Nothing is in it unless it was there before.
            let _ = std::fs::remove_dir(folder);
        }
        Ok(Ready {
            trainer: trainer?,
            held_out,
        })
    }

    /// Where features of images are kept, if not in memory.
    fn cache(&self, options: &TrainOptions) -> Result<Option<FeatureCache>> {
        let on_disk = options.levers.features == Some(Place::Disk);
        let folder = match &self.feature_cache {
            Some(folder) => Some(folder.clone()),
            None => on_disk.then(|| options.levers.folder().join("features")),
        };
        match (self.model.vision(), folder) {
            (Some(vision), Some(folder)) => {
                let cache = FeatureCache::open(&folder, vision)?;
                Ok(Some(match self.model.llama().device() {
                    Some(device) => cache.beside(&device.report().device),
                    None => cache,
                }))
            }
            _ => Ok(None),
        }
    }
}
