//! What a training run was asked for: the arguments of `graft train`, as its run folder keeps them.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use graft::train::{
    EarlyStop, GradientPlace, Levers, OptimizerKind, Place, ProductKind, SavedKind, ScheduleKind,
    TrainOptions,
};
use serde::{Deserialize, Serialize};

use crate::device_arguments::DeviceArguments;
use crate::failure::Failure;
use crate::model_arguments::threads;

/// Everything needed to repeat a run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RunConfig {
    /// The program that wrote it.
    pub graft: String,
    pub model: PathBuf,
    pub mmproj: Option<PathBuf>,
    pub data: PathBuf,
    pub image_dir: Option<PathBuf>,
    pub eval_data: Option<PathBuf>,
    pub eval_every: u64,
    #[serde(default)]
    pub early_stop: Option<u64>,
    #[serde(default)]
    pub early_stop_delta: Option<f64>,
    #[serde(default)]
    pub keep_best: bool,
    #[serde(default)]
    pub log_dir: Option<PathBuf>,
    pub template: Option<String>,
    #[serde(default)]
    pub feature_cache: Option<PathBuf>,
    pub init_adapter: Option<PathBuf>,
    /// Bytes that training may use.
    pub memory: Option<u64>,
    pub output: PathBuf,
    pub options: TrainOptions,
}

/// The arguments that `train` and `plan` share.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// The base model, a GGUF file in any type
    #[arg(short, long, value_name = "FILE", required_unless_present = "resume")]
    pub model: Option<PathBuf>,
    /// Its vision half, for models that see
    #[arg(long, value_name = "FILE")]
    pub mmproj: Option<PathBuf>,
    /// Samples as LLaVA JSON (`graft convert` writes it)
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Where relative image names count from [default: the folder of --data]
    #[arg(long, value_name = "DIR")]
    pub image_dir: Option<PathBuf>,
    /// Samples to measure the loss on without learning from them
    #[arg(long, value_name = "FILE")]
    pub eval_data: Option<PathBuf>,
    /// Updates between looks at --eval-data; 0 for one at the end
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub eval_every: u64,
    /// End after N looks at --eval-data without an improvement; 0 for never. With --resume: from now on
    #[arg(long, value_name = "N")]
    pub early_stop: Option<u64>,
    /// The loss must fall by more than this to be an improvement [default: 0]
    #[arg(long, value_name = "LOSS")]
    pub early_stop_delta: Option<f64>,
    /// Keep the checkpoint with the lowest loss on --eval-data as well; the result is its adapter
    #[arg(long)]
    pub keep_best: bool,
    /// Conversation template: vicuna_v1, plain, … [default: the model's]
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// Go on from this adapter instead of a new one
    #[arg(long, value_name = "FILE")]
    pub init_adapter: Option<PathBuf>,
    /// Most memory to use, such as 3GiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub memory: Option<u64>,
    /// Go on with the run in this folder, or from this checkpoint; other options are taken from there
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    pub threads: usize,
    #[command(flatten)]
    pub device: DeviceArguments,

    /// Rank of every pair
    #[arg(long, default_value_t = 16, help_heading = "Adapter")]
    pub rank: usize,
    /// Alpha: what is learned is multiplied by alpha / rank
    #[arg(long, default_value_t = 32.0, help_heading = "Adapter")]
    pub alpha: f32,
    /// Probability that an input of a pair is dropped
    #[arg(long, default_value_t = 0.0, help_heading = "Adapter")]
    pub dropout: f32,
    /// Multiply by alpha / sqrt(rank) instead
    #[arg(long, help_heading = "Adapter")]
    pub rslora: bool,
    /// all-linear, names such as q_proj,v_proj, a regular expression over full names, or none to
    /// train the projector alone
    #[arg(
        long,
        default_value = "all-linear",
        value_name = "LIST",
        help_heading = "Adapter"
    )]
    pub targets: String,
    /// Train the projector as well; it is written as a vision half beside the adapter
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "full", help_heading = "Adapter")]
    pub train_projector: Option<ProjectorMode>,

    /// Begin with a projector of random values, as LLaVA's first phase does
    #[arg(long, help_heading = "Adapter")]
    pub new_projector: bool,

    /// Passes over the data
    #[arg(long, default_value_t = 1, help_heading = "Course")]
    pub epochs: u64,
    /// Updates, instead of epochs
    #[arg(long, help_heading = "Course")]
    pub steps: Option<u64>,
    /// Samples (packs, with --packing) of a micro-batch: its loss is the mean over their learned tokens
    #[arg(long, default_value_t = 1, help_heading = "Course")]
    pub batch: usize,
    /// Micro-batches of an update
    #[arg(long, default_value_t = 1, help_heading = "Course")]
    pub grad_accum: usize,
    /// Learning rate
    #[arg(long, default_value_t = 2e-4, help_heading = "Course")]
    pub lr: f64,
    /// Learning rate of the projector [default: 2e-5; 1e-3 where it learns alone]
    #[arg(long, help_heading = "Course")]
    pub projector_lr: Option<f64>,
    /// How the learning rate runs
    #[arg(long, default_value = "cosine", help_heading = "Course")]
    pub schedule: ScheduleName,
    /// Part of the updates in which it rises
    #[arg(long, default_value_t = 0.03, help_heading = "Course")]
    pub warmup_ratio: f64,
    /// Weight decay
    #[arg(long, default_value_t = 0.0, help_heading = "Course")]
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for none
    #[arg(long, default_value_t = 1.0, help_heading = "Course")]
    pub clip: f64,
    /// Longest sequence in tokens, images included
    #[arg(long, default_value_t = 2048, help_heading = "Course")]
    pub max_len: usize,
    /// Put samples of like length into one update
    #[arg(long, help_heading = "Course")]
    pub group_by_length: bool,
    /// Put only samples with images, or only samples without, into one update, of like length
    #[arg(long, help_heading = "Course")]
    pub group_by_modality_length: bool,
    /// Run samples together, as many as fit in --max-len: the same arithmetic, faster if they are short
    #[arg(long, help_heading = "Course")]
    pub packing: bool,
    /// Take the samples in the order of the file
    #[arg(long, help_heading = "Course")]
    pub no_shuffle: bool,
    /// Of the initial values, the order and dropout
    #[arg(long, default_value_t = 42, help_heading = "Course")]
    pub seed: u64,

    /// Top layers that keep their values between forward and backward; the others compute them twice
    #[arg(long, value_name = "N", help_heading = MEMORY)]
    pub kept_layers: Option<usize>,
    /// Where the base's weights lie; on disk, each layer is read for its turn
    #[arg(long, value_name = "PLACE", help_heading = MEMORY)]
    pub weights: Option<PlaceName>,
    /// Where the inputs of layers lie between forward and backward
    #[arg(long, value_name = "PLACE", help_heading = MEMORY)]
    pub layer_inputs: Option<PlaceName>,
    /// Where the vision tower's features of images lie
    #[arg(long, value_name = "PLACE", help_heading = MEMORY)]
    pub image_features: Option<PlaceName>,
    /// Where features of images are kept on the disk for later runs [default: the run folder]
    #[arg(long, value_name = "DIR", help_heading = MEMORY)]
    pub feature_cache: Option<PathBuf>,
    /// How AdamW's moments are kept; in 8 bits the result is another one, nearly as good
    #[arg(long, value_name = "NAME", default_value = "adamw", help_heading = ROUNDED)]
    pub optimizer: OptimizerName,
    /// How the inputs of layers are kept between forward and backward; in bf16 gradients are rounded, and all
    /// layers computed twice
    #[arg(long, value_name = "TYPE", default_value = "f32", help_heading = ROUNDED)]
    pub saved_activations: SavedName,
    /// How frozen layers in blocks are multiplied on the processor; in words of 14 bits gradients are off by less than 1 %
    #[arg(long, value_name = "NAME", default_value = "f32", help_heading = FASTER)]
    pub products: ProductName,
    /// When the gradients of the pairs are used; a layer's at once needs --batch 1, --grad-accum 1, --clip 0
    #[arg(long, value_name = "WHEN", help_heading = MEMORY)]
    pub gradients: Option<GradientName>,
    /// Where AdamW's moments lie
    #[arg(long, value_name = "PLACE", help_heading = MEMORY)]
    pub moments: Option<PlaceName>,
}

const FASTER: &str = "Speed: more of it for a rounded result";
const ROUNDED: &str = "Memory: less of it for a rounded result";
const MEMORY: &str = "Memory: same result, other time [default: the fastest that fits --memory]";

/// Names of [`Place`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PlaceName {
    /// In memory
    Memory,
    /// On the disk
    Disk,
}

impl PlaceName {
    fn place(self) -> Place {
        match self {
            Self::Memory => Place::Memory,
            Self::Disk => Place::Disk,
        }
    }
}

/// Names of [`GradientPlace`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum GradientName {
    /// When all are there
    Whole,
    /// A layer's as soon as they are complete
    Layer,
}

/// Names of [`OptimizerKind`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OptimizerName {
    /// Two floats for each trained value
    Adamw,
    /// Two bytes for each
    Adamw8bit,
}

/// Names of [`SavedKind`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SavedName {
    /// As they are
    F32,
    /// Rounded
    Bf16,
}

/// Names of [`ProductKind`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ProductName {
    /// As floats
    F32,
    /// As integers where that is faster
    Words,
}

/// What of the projector learns.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ProjectorMode {
    /// All of it
    Full,
}

/// Names of [`ScheduleKind`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ScheduleName {
    /// Falls like half a cosine, to 0
    Cosine,
    /// Falls evenly, to 0
    Linear,
    /// Stays
    Constant,
}

impl RunArguments {
    /// Refuses arguments without data: a run that goes on knows its own.
    pub fn check_data(&self) -> Result<(), Failure> {
        match (&self.data, &self.resume) {
            (None, None) => Err(Failure::Usage(
                "there is nothing to learn from: name the samples with --data".into(),
            )),
            _ => Ok(()),
        }
    }

    /// The options of the trainer.
    pub fn options(&self, save_every: u64, keep: usize) -> TrainOptions {
        TrainOptions {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            rslora: self.rslora,
            targets: self.targets.clone(),
            train_projector: self.train_projector.is_some(),
            new_projector: self.new_projector,
            epochs: self.epochs,
            steps: self.steps,
            batch: self.batch,
            grad_accum: self.grad_accum,
            lr: self.lr,
            projector_lr: self
                .projector_lr
                .unwrap_or_else(|| TrainOptions::usual_projector_lr(&self.targets)),
            schedule: match self.schedule {
                ScheduleName::Cosine => ScheduleKind::Cosine,
                ScheduleName::Linear => ScheduleKind::Linear,
                ScheduleName::Constant => ScheduleKind::Constant,
            },
            warmup_ratio: self.warmup_ratio,
            weight_decay: self.weight_decay,
            clip: self.clip,
            max_len: self.max_len,
            group_by_length: self.group_by_length,
            group_by_modality_length: self.group_by_modality_length,
            packing: self.packing,
            shuffle: !self.no_shuffle,
            optimizer: match self.optimizer {
                OptimizerName::Adamw => OptimizerKind::AdamW,
                OptimizerName::Adamw8bit => OptimizerKind::AdamW8bit,
            },
            saved: match self.saved_activations {
                SavedName::F32 => SavedKind::F32,
                SavedName::Bf16 => SavedKind::Bf16,
            },
            products: match self.products {
                ProductName::F32 => ProductKind::F32,
                ProductName::Words => ProductKind::Words,
            },
            levers: Levers {
                kept_layers: self.kept_layers,
                weights: self.weights.map(PlaceName::place),
                inputs: self.layer_inputs.map(PlaceName::place),
                features: match &self.feature_cache {
                    Some(_) => Some(Place::Disk),
                    None => self.image_features.map(PlaceName::place),
                },
                gradients: self.gradients.map(|place| match place {
                    GradientName::Whole => GradientPlace::Whole,
                    GradientName::Layer => GradientPlace::Layer,
                }),
                moments: self.moments.map(PlaceName::place),
                folder: None,
            },
            seed: self.seed,
            save_every,
            keep,
        }
    }

    /// The configuration of a new run with these arguments.
    pub fn config(&self, output: &Path, options: TrainOptions) -> RunConfig {
        let given = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
        RunConfig {
            graft: env!("CARGO_PKG_VERSION").into(),
            model: given(&self.model),
            mmproj: self.mmproj.clone(),
            data: given(&self.data),
            image_dir: self.image_dir.clone(),
            eval_data: self.eval_data.clone(),
            eval_every: self.eval_every,
            early_stop: self.early_stop,
            early_stop_delta: self.early_stop_delta,
            keep_best: self.keep_best,
            log_dir: None,
            template: self.template.clone(),
            feature_cache: self.feature_cache.clone(),
            init_adapter: self.init_adapter.clone(),
            memory: self.memory,
            output: output.to_owned(),
            options,
        }
    }
}

impl RunConfig {
    /// Refuses options about the evaluation data that cannot be meant.
    pub fn check_evaluation(&self) -> Result<(), Failure> {
        let stops = self.early_stop.is_some_and(|after| after > 0);
        let delta = self.early_stop_delta.unwrap_or(0.0);
        if !(delta.is_finite() && delta >= 0.0) {
            return Err(Failure::Usage(format!(
                "--early-stop-delta is {delta}: it must be a number from 0 on"
            )));
        }
        if self.early_stop_delta.is_some() && !stops {
            let reason = "--early-stop-delta says what --early-stop looks for: give both";
            return Err(Failure::Usage(reason.into()));
        }
        let option = match (stops, self.keep_best) {
            (true, _) => "--early-stop",
            (false, true) => "--keep-best",
            (false, false) => return Ok(()),
        };
        if self.eval_data.is_none() || self.eval_every == 0 {
            return Err(Failure::Usage(format!(
                "{option} needs --eval-data and --eval-every: it goes by the loss on samples that the \
                 run does not learn from"
            )));
        }
        Ok(())
    }

    /// When the run ends early.
    pub fn stop(&self) -> Option<EarlyStop> {
        let after = self.early_stop.filter(|after| *after > 0)?;
        let delta = self.early_stop_delta.unwrap_or(0.0);
        Some(EarlyStop { after, delta })
    }
}

/// A number of bytes: `3GiB`, `800MB`, `1.5G` (of 1024), or a plain number.
pub fn bytes(text: &str) -> Result<u64, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(format!("{unit:?} is no unit of bytes; write 3GiB or 800MB")),
    };
    match number.parse::<f64>() {
        Ok(n) if n > 0.0 && n * factor < 1e18 => Ok((n * factor) as u64),
        _ => Err(format!(
            "{text:?} is no number of bytes; write 3GiB or 800MB"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("3GiB"), Ok(3 << 30));
        assert_eq!(bytes("1.5g"), Ok(3 << 29));
        assert_eq!(bytes("800MB"), Ok(800_000_000));
        assert_eq!(bytes("4096"), Ok(4096));
        for wrong in ["", "GiB", "3 elephants", "-1", "1e400", "0"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
