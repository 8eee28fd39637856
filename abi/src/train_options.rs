//! How to train, as programs say it.

use std::path::{Path, PathBuf};

use graft::train::checkpoint::{self, CheckpointState};
use graft::train::{
    EarlyStop, GradientPlace, Levers, OptimizerKind, Place, SavedKind, ScheduleKind, TrainOptions,
};

use crate::adapter::AdapterObject;
use crate::callback::{UserData, graft_progress_fn};
use crate::cancel::CancelToken;
use crate::fault::Fault;
use crate::handle::Handle;
use crate::pointer::Text;
use crate::structs::c_struct;

/// AdamW.
pub const GRAFT_OPTIMIZER_ADAMW: u32 = 0;
/// AdamW with moments of 8 bits.
pub const GRAFT_OPTIMIZER_ADAMW_8BIT: u32 = 1;
/// The rate falls like half a cosine.
pub const GRAFT_SCHEDULE_COSINE: u32 = 0;
/// The rate falls evenly.
pub const GRAFT_SCHEDULE_LINEAR: u32 = 1;
/// The rate stays.
pub const GRAFT_SCHEDULE_CONSTANT: u32 = 2;
/// In memory.
pub const GRAFT_PLACE_MEMORY: u32 = 1;
/// On the disk.
pub const GRAFT_PLACE_DISK: u32 = 2;
/// Gradients are used when all are there.
pub const GRAFT_GRADIENTS_WHOLE: u32 = 1;
/// A layer's gradients are used at once.
pub const GRAFT_GRADIENTS_LAYER: u32 = 2;
/// Activations are kept in f32.
pub const GRAFT_SAVED_F32: u32 = 0;
/// Activations are kept in bf16.
pub const GRAFT_SAVED_BF16: u32 = 1;
/// rsLoRA: multiply by alpha / sqrt(rank).
pub const GRAFT_TRAIN_RSLORA: u32 = 1 << 0;
/// Train the projector as well.
pub const GRAFT_TRAIN_PROJECTOR: u32 = 1 << 1;
/// Begin with a projector of random values.
pub const GRAFT_TRAIN_NEW_PROJECTOR: u32 = 1 << 2;
/// Run samples together, as many as fit.
pub const GRAFT_TRAIN_PACKING: u32 = 1 << 3;
/// Put samples of like length into one update.
pub const GRAFT_TRAIN_GROUP_BY_LENGTH: u32 = 1 << 4;
/// The same, with images or without.
pub const GRAFT_TRAIN_GROUP_BY_MODALITY: u32 = 1 << 5;
/// Take the samples in their order.
pub const GRAFT_TRAIN_NO_SHUFFLE: u32 = 1 << 6;
/// Keep the checkpoint with the lowest loss on the evaluation data, and make it the result.
pub const GRAFT_TRAIN_KEEP_BEST: u32 = 1 << 7;
/// What is learned and how is taken from the checkpoint in `resume_from`.
pub const GRAFT_TRAIN_AS_CHECKPOINT: u32 = 1 << 8;
const FLAGS: u32 = (1 << 9) - 1;

/// As `keep`: all checkpoints.
pub const GRAFT_KEEP_ALL: u32 = u32::MAX;

c_struct! {
    /// How to train.
    graft_train_options {
        /// [`GRAFT_TRAIN_RSLORA`] and its like.
        flags: u32,
        /// Rank of every pair; 0 for 16.
        rank: u32,
        /// Alpha; 0 for 32.
        alpha: f32,
        /// Probability that an input of a pair is dropped.
        dropout: f32,
        /// Samples of a micro-batch; 0 for 1.
        batch_size: u32,
        /// Micro-batches of an update; 0 for 1.
        accumulation: u32,
        /// Longest sequence; 0 for 2048.
        max_length: u32,
        /// Which linear layers; NULL for all.
        targets: Text,
        /// The adapter to go on from; NULL for a new one.
        initial: Handle<AdapterObject>,
        /// The conversation template; NULL for the model's.
        template_name: Text,
        /// Learning rate of the pairs; 0 for 2e-4.
        learning_rate: f64,
        /// Learning rate of the projector; 0 for the usual one.
        projector_learning_rate: f64,
        /// Weight decay.
        weight_decay: f64,
        /// Part of the updates in which the rate rises; 0 for 0.03, below 0 for none.
        warmup_ratio: f64,
        /// Largest norm of the gradient; 0 for 1, below 0 for no limit.
        max_grad_norm: f64,
        /// Passes over the data; 0 for 1.
        epochs: u64,
        /// Updates, instead of passes; 0 for those of the passes.
        max_steps: u64,
        /// Of the initial values, the order and dropout; 0 for 42.
        seed: u64,
        /// 0 AdamW, 1 AdamW with moments of 8 bits.
        optimizer: u32,
        /// 0 cosine, 1 linear, 2 constant.
        schedule: u32,
        /// Updates between looks at the evaluation data; 0 for one at the end.
        eval_every: u64,
        /// Looks without an improvement that end the run; 0 for never.
        early_stop: u64,
        /// The loss must fall by more than this to be an improvement.
        early_stop_delta: f64,
        /// Where record and checkpoints go; NULL for nowhere.
        run_folder: Text,
        /// A checkpoint, or a folder with some, to go on from; NULL begins.
        resume_from: Text,
        /// Where TensorBoard's files go; NULL for the run folder.
        log_folder: Text,
        /// Updates between checkpoints; 0 for one at the end.
        save_every: u64,
        /// Checkpoints kept; 0 for 2.
        keep: u32,
        /// Layers that keep their values; 0 for what fits.
        kept_layers: u32,
        /// Most bytes at once; 0 for no limit.
        memory_budget: u64,
        /// Where that goes which lies on the disk; NULL for the run folder.
        scratch_folder: Text,
        /// Where features of images are kept for later runs; NULL for nowhere.
        feature_cache: Text,
        /// Where the weights lie: 0 what fits, 1 memory, 2 disk.
        weights_place: u32,
        /// Where inputs of layers lie.
        inputs_place: u32,
        /// Where features of images lie.
        features_place: u32,
        /// Where moments lie.
        moments_place: u32,
        /// When gradients are used: 0 what fits, 1 when all are there, 2 a layer's at once.
        gradients: u32,
        /// How inputs of layers are kept: 0 f32, 1 bf16.
        saved_activations: u32,
        /// More options, as JSON; NULL for none.
        extra_json: Text,
        /// Told while samples are prepared.
        progress: graft_progress_fn,
        /// First argument of `progress`.
        progress_userdata: UserData,
        /// Stops the preparation; NULL for nothing.
        cancel: CancelToken,
    }
}

/// What a number of a struct stands for.
fn one_of<T: Copy>(field: &'static str, asked: u32, known: &[(u32, T)]) -> Result<T, Fault> {
    let found = known.iter().find(|(number, _)| *number == asked);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let numbers: Vec<String> = known.iter().map(|(n, _)| n.to_string()).collect();
        let message = format!("{field} is {asked}; it is one of {}", numbers.join(", "));
        Fault::argument(message).with("field", field)
    })
}

/// A number, or for 0 what is usual.
fn or<T: Default + PartialEq>(number: T, usual: T) -> T {
    match number == T::default() {
        true => usual,
        false => number,
    }
}

/// The same, with something below 0 for none.
fn or_none(number: f64, usual: f64) -> f64 {
    if number < 0.0 { 0.0 } else { or(number, usual) }
}

impl graft_train_options {
    /// The engine's options; those of the checkpoint where that is asked for.
    ///
    /// # Errors
    /// If a number stands for nothing, or the checkpoint cannot be read.
    pub fn train_options(&self) -> Result<TrainOptions, Fault> {
        if self.flags & !FLAGS != 0 {
            let message = format!("flags is {:#x}; {FLAGS:#x} are known", self.flags);
            return Err(Fault::argument(message).with("field", "flags"));
        }
        let options = match self.is(GRAFT_TRAIN_AS_CHECKPOINT) {
            true => CheckpointState::read(&checkpoint::latest(&self.resumed()?)?)?.options,
            false => self.course()?,
        };
        let usual = TrainOptions::default();
        let options = TrainOptions {
            levers: self.levers()?,
            save_every: self.save_every,
            keep: match self.keep {
                0 => usual.keep,
                GRAFT_KEEP_ALL => 0,
                kept => kept as usize,
            },
            ..options
        };
        match self.extra_json.optional("extra_json")? {
            Some(text) => Ok(options.with_json(text)?),
            None => Ok(options),
        }
    }

    /// Whether a flag is set.
    pub fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn resumed(&self) -> Result<PathBuf, Fault> {
        let path = self.resume_from.path("resume_from")?;
        Ok(path.to_owned())
    }

    /// When the run ends early.
    ///
    /// # Errors
    /// If the numbers cannot be meant.
    pub fn stop(&self) -> Result<Option<EarlyStop>, Fault> {
        let delta = self.early_stop_delta;
        if !(delta.is_finite() && delta >= 0.0) {
            let message = format!("early_stop_delta is {delta}: it must be a number from 0 on");
            return Err(Fault::argument(message).with("field", "early_stop_delta"));
        }
        let after = self.early_stop;
        Ok((after > 0).then_some(EarlyStop { after, delta }))
    }

    /// What is learned, and how.
    fn course(&self) -> Result<TrainOptions, Fault> {
        let schedules = [
            (GRAFT_SCHEDULE_COSINE, ScheduleKind::Cosine),
            (GRAFT_SCHEDULE_LINEAR, ScheduleKind::Linear),
            (GRAFT_SCHEDULE_CONSTANT, ScheduleKind::Constant),
        ];
        let optimizers = [
            (GRAFT_OPTIMIZER_ADAMW, OptimizerKind::AdamW),
            (GRAFT_OPTIMIZER_ADAMW_8BIT, OptimizerKind::AdamW8bit),
        ];
        let usual = TrainOptions::default();
        let targets = self.targets.optional("targets")?;
        let targets = targets.map_or_else(|| usual.targets.clone(), str::to_owned);
        let projector_lr = TrainOptions::usual_projector_lr(&targets);
        Ok(TrainOptions {
            rank: or(self.rank as usize, usual.rank),
            alpha: or(self.alpha, usual.alpha),
            dropout: self.dropout,
            rslora: self.is(GRAFT_TRAIN_RSLORA),
            targets,
            train_projector: self.is(GRAFT_TRAIN_PROJECTOR),
            new_projector: self.is(GRAFT_TRAIN_NEW_PROJECTOR),
            epochs: or(self.epochs, usual.epochs),
            steps: (self.max_steps > 0).then_some(self.max_steps),
            batch: or(self.batch_size as usize, usual.batch),
            grad_accum: or(self.accumulation as usize, usual.grad_accum),
            lr: or(self.learning_rate, usual.lr),
            projector_lr: or(self.projector_learning_rate, projector_lr),
            schedule: one_of("schedule", self.schedule, &schedules)?,
            warmup_ratio: or_none(self.warmup_ratio, usual.warmup_ratio),
            weight_decay: self.weight_decay,
            clip: or_none(self.max_grad_norm, usual.clip),
            max_len: or(self.max_length as usize, usual.max_len),
            group_by_length: self.is(GRAFT_TRAIN_GROUP_BY_LENGTH),
            group_by_modality_length: self.is(GRAFT_TRAIN_GROUP_BY_MODALITY),
            packing: self.is(GRAFT_TRAIN_PACKING),
            shuffle: !self.is(GRAFT_TRAIN_NO_SHUFFLE),
            optimizer: one_of("optimizer", self.optimizer, &optimizers)?,
            saved: one_of(
                "saved_activations",
                self.saved_activations,
                &[
                    (GRAFT_SAVED_F32, SavedKind::F32),
                    (GRAFT_SAVED_BF16, SavedKind::Bf16),
                ],
            )?,
            seed: or(self.seed, usual.seed),
            ..usual
        })
    }

    fn levers(&self) -> Result<Levers, Fault> {
        const PLACES: &[(u32, Option<Place>)] = &[
            (0, None),
            (GRAFT_PLACE_MEMORY, Some(Place::Memory)),
            (GRAFT_PLACE_DISK, Some(Place::Disk)),
        ];
        const WHEN: &[(u32, Option<GradientPlace>)] = &[
            (0, None),
            (GRAFT_GRADIENTS_WHOLE, Some(GradientPlace::Whole)),
            (GRAFT_GRADIENTS_LAYER, Some(GradientPlace::Layer)),
        ];
        let scratch = self.scratch_folder.optional_path("scratch_folder")?;
        Ok(Levers {
            kept_layers: (self.kept_layers > 0).then_some(self.kept_layers as usize),
            weights: one_of("weights_place", self.weights_place, PLACES)?,
            inputs: one_of("inputs_place", self.inputs_place, PLACES)?,
            features: match self.feature_cache.optional_path("feature_cache")? {
                Some(_) => Some(Place::Disk),
                None => one_of("features_place", self.features_place, PLACES)?,
            },
            gradients: one_of("gradients", self.gradients, WHEN)?,
            moments: one_of("moments_place", self.moments_place, PLACES)?,
            folder: scratch.map(Path::to_owned),
        })
    }
}
