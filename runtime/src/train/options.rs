//! What a training run is asked to do.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{GradientPlace, Levers, Place, ScheduleKind, TrainError};
use crate::model::{Site, SiteKind, Words};

/// How the optimizer keeps its state. Both follow AdamW.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Two floats for each trained value.
    #[default]
    AdamW,
    /// Two bytes for each trained value, and scales.
    AdamW8bit,
}

/// How the inputs of layers are kept between forward and backward.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SavedKind {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bf16, and every layer but the top one computed again from them: gradients are no longer
    /// exact.
    Bf16,
}

/// How the products with frozen weights in blocks are computed on the processor.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProductKind {
    /// In f32.
    #[default]
    F32,
    /// Forward and back in integers of 14 bits ([`graft_kernels::words`]) where the processor gains by it: gradients
    /// are off by less than 1 %.
    Words,
}

/// How to train; the defaults are LLaVA's LoRA recipe at a rank for small data.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TrainOptions {
    /// Rank of every pair.
    pub rank: usize,
    /// Alpha: the factor is `alpha / rank`, with rsLoRA `alpha / sqrt(rank)`.
    pub alpha: f32,
    /// Probability that an input of a pair is dropped.
    pub dropout: f32,
    /// Rank-stabilised scaling (Kalajdzievski 2023).
    pub rslora: bool,
    /// `all-linear`, names separated by commas, a regular expression over the full names
    /// (`model.layers.3.self_attn.q_proj` and `blk.3.attn_q`), or `none` to train the projector alone.
    pub targets: String,
    /// Train the whole projector together with the adapter.
    pub train_projector: bool,
    /// Begin with a projector of random values instead of the one in the file.
    #[serde(default)]
    pub new_projector: bool,
    /// Passes over the data.
    pub epochs: u64,
    /// Updates; instead of epochs where given.
    pub steps: Option<u64>,
    /// Samples, or packs, of a micro-batch: its loss is the mean over all its learned tokens.
    pub batch: usize,
    /// Micro-batches of an update.
    pub grad_accum: usize,
    /// Learning rate of the pairs.
    pub lr: f64,
    /// Learning rate of the projector.
    pub projector_lr: f64,
    /// Its course.
    pub schedule: ScheduleKind,
    /// Part of the updates that warm up.
    pub warmup_ratio: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for no limit.
    pub clip: f64,
    /// Longest sequence, images expanded; the rest of a sample is cut off.
    pub max_len: usize,
    /// Put samples of like length into one update.
    pub group_by_length: bool,
    /// Put only samples with images, or only samples without, into one update, of like length.
    #[serde(default)]
    pub group_by_modality_length: bool,
    /// Run samples together, as many as fit in `max_len` positions: packs take the place of samples in
    /// `batch` and in the number of updates. A sample computes what it would compute alone.
    #[serde(default)]
    pub packing: bool,
    /// See the samples in a new order every epoch.
    pub shuffle: bool,
    /// How AdamW's moments are kept.
    #[serde(default)]
    pub optimizer: OptimizerKind,
    /// How the layers' inputs are kept.
    #[serde(default)]
    pub saved: SavedKind,
    /// How frozen layers are multiplied.
    #[serde(default)]
    pub products: ProductKind,
    /// How the run stays inside its memory.
    #[serde(default)]
    pub levers: Levers,
    /// Of the initial values, the order and dropout.
    pub seed: u64,
    /// Updates between checkpoints; 0 for one at the end only.
    pub save_every: u64,
    /// Checkpoints kept, the latest; 0 keeps all.
    pub keep: usize,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            rslora: false,
            targets: "all-linear".into(),
            train_projector: false,
            new_projector: false,
            epochs: 1,
            steps: None,
            batch: 1,
            grad_accum: 1,
            lr: 2e-4,
            projector_lr: 2e-5,
            schedule: ScheduleKind::Cosine,
            warmup_ratio: 0.03,
            weight_decay: 0.0,
            clip: 1.0,
            max_len: 2048,
            group_by_length: false,
            group_by_modality_length: false,
            packing: false,
            shuffle: true,
            optimizer: OptimizerKind::AdamW,
            saved: SavedKind::F32,
            products: ProductKind::F32,
            levers: Levers::default(),
            seed: 42,
            save_every: 0,
            keep: 2,
        }
    }
}

impl TrainOptions {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// Names the option, its value and the reason.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |option, value: String, reason| {
            Err(TrainError::Option {
                option,
                value,
                reason,
            })
        };
        for (option, value) in [
            ("--rank", self.rank),
            ("--batch", self.batch),
            ("--grad-accum", self.grad_accum),
        ] {
            if value == 0 {
                return refuse(option, "0".into(), "it must be at least 1");
            }
            if value > 1 << 20 {
                return refuse(option, value.to_string(), "it must be at most 1048576");
            }
        }
        if self.rank > 1 << 14 {
            return refuse("--rank", self.rank.to_string(), "it must be at most 16384");
        }
        if self.max_len < 2 {
            return refuse(
                "--max-len",
                self.max_len.to_string(),
                "a sequence needs two tokens",
            );
        }
        if self.targets == NONE && !self.train_projector {
            return refuse(
                "--targets",
                NONE.into(),
                "then only the projector can learn: add --train-projector",
            );
        }
        if self.steps.unwrap_or(self.epochs) == 0 {
            return refuse("--epochs or --steps", "0".into(), "there is nothing to do");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse(
                "--dropout",
                self.dropout.to_string(),
                "it must be from 0 to below 1",
            );
        }
        if !(0.0..=1.0).contains(&self.warmup_ratio) {
            return refuse(
                "--warmup-ratio",
                self.warmup_ratio.to_string(),
                "it must be from 0 to 1",
            );
        }
        if self.new_projector && !self.train_projector {
            return refuse(
                "--new-projector",
                "there".into(),
                "a projector of random values must learn: give --train-projector",
            );
        }
        if self.optimizer == OptimizerKind::AdamW8bit && self.levers.moments == Some(Place::Disk) {
            return refuse(
                "--moments",
                "disk".into(),
                "the moments of adamw8bit stay in memory; use --optimizer adamw for moments on the disk",
            );
        }
        if let (SavedKind::Bf16, Some(kept @ 2..)) = (self.saved, self.levers.kept_layers) {
            return refuse(
                "--kept-layers",
                kept.to_string(),
                "with --saved-activations bf16 every layer but the top one is computed again",
            );
        }
        if self.levers.gradients == Some(GradientPlace::Layer) && !self.updates_by_layer() {
            return refuse(
                "--gradients",
                "layer".into(),
                "it needs --batch 1, --grad-accum 1 and --clip 0",
            );
        }
        for (option, value) in [
            ("--lr", self.lr),
            ("--projector-lr", self.projector_lr),
            ("--weight-decay", self.weight_decay),
            ("--clip", self.clip),
            ("--alpha", self.alpha.into()),
        ] {
            if !value.is_finite() || value < 0.0 {
                return refuse(option, value.to_string(), "it must be a number from 0 on");
            }
        }
        Ok(())
    }

    /// The learning rate of the projector in LLaVA's two phases: where it learns alone, as the targets say, and where
    /// it learns with an adapter.
    pub fn usual_projector_lr(targets: &str) -> f64 {
        match targets == NONE {
            true => 1e-3,
            false => 2e-5,
        }
    }

    /// The same options, but for those that a JSON object names as this type does.
    ///
    /// # Errors
    /// If it is no object, or an option is unknown or of another type.
    pub fn with_json(&self, text: &str) -> Result<Self, TrainError> {
        let refused = |reason: String| TrainError::OptionsJson { reason };
        let changes: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| refused(e.to_string()))?;
        let mut all = serde_json::to_value(self).map_err(|e| refused(e.to_string()))?;
        for (option, value) in changes {
            match all.get_mut(&option) {
                Some(place) => *place = value,
                None => return Err(refused(format!("there is no option {option}"))),
            }
        }
        serde_json::from_value(all).map_err(|e| refused(e.to_string()))
    }

    /// Updates of a run that sees `packs` packs (samples, without packing) in an epoch.
    pub fn updates(&self, packs: usize) -> u64 {
        let group = self.batch * self.grad_accum;
        let epochs = || self.epochs.saturating_mul(packs.div_ceil(group) as u64);
        self.steps.unwrap_or_else(epochs)
    }

    /// Whether a run with `other` would take the same course: only how often it saves, how much it
    /// keeps and how it stays inside its memory may differ.
    pub fn same_course(&self, other: &Self) -> bool {
        let other = Self {
            levers: self.levers.clone(),
            save_every: self.save_every,
            keep: self.keep,
            ..other.clone()
        };
        *self == other
    }

    /// Which frozen layers are multiplied in words.
    pub fn words(&self) -> Words {
        match self.products {
            ProductKind::F32 => Words::Never,
            ProductKind::Words => Words::Blocks,
        }
    }

    /// Whether there are no pairs, and the projector learns alone.
    pub fn projector_alone(&self) -> bool {
        self.targets == NONE
    }

    /// Whether a layer's gradients may be used as soon as they are complete: nothing is added to them
    /// later, and nothing asks for the norm of all before.
    pub fn updates_by_layer(&self) -> bool {
        self.batch == 1 && self.grad_accum == 1 && self.clip == 0.0
    }

    /// What the product of a pair is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// The sites that the targets name, in a model with `layers` layers; there are none if they say so.
    ///
    /// # Errors
    /// If they match no site, or are not a regular expression.
    pub fn sites(&self, layers: usize) -> Result<Vec<Site>, TrainError> {
        let none = || TrainError::NoTargets {
            targets: self.targets.clone(),
        };
        if self.projector_alone() {
            return Ok(Vec::new());
        }
        if self.targets == "all-linear" {
            return Ok(Site::of_layers(layers).collect());
        }
        let names: Vec<&str> = self.targets.split(',').map(str::trim).collect();
        let kind = |name: &str| {
            let of = |k: &SiteKind| k.hf_name() == name || k.gguf_name() == name;
            SiteKind::ALL.into_iter().find(of)
        };
        let kinds: Option<Vec<SiteKind>> = names.iter().map(|name| kind(name)).collect();
        let sites: Vec<Site> = match kinds {
            Some(kinds) => Site::of_layers(layers)
                .filter(|s| s.in_layer().is_some_and(|(_, kind)| kinds.contains(&kind)))
                .collect(),
            None => {
                let pattern = format!("^(?:{})$", self.targets);
                let regex = regex::Regex::new(&pattern).map_err(|e| TrainError::Pattern {
                    pattern: self.targets.clone(),
                    reason: last_line(&e.to_string()),
                })?;
                let matches = |site: &Site| {
                    regex.is_match(&site.hf_path()) || regex.is_match(&site.to_string())
                };
                Site::of_layers(layers).filter(matches).collect()
            }
        };
        if sites.is_empty() {
            Err(none())
        } else {
            Ok(sites)
        }
    }
}

/// The targets of a run without pairs.
const NONE: &str = "none";

/// What is wrong with a pattern; the lines before it draw the pattern.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_a_word_a_list_or_a_pattern() {
        let sites = |targets: &str| {
            let options = TrainOptions {
                targets: targets.into(),
                ..TrainOptions::default()
            };
            options.sites(2).map(|sites| sites.len())
        };
        assert_eq!(sites("all-linear").unwrap(), 14);
        assert_eq!(sites("q_proj, ffn_down").unwrap(), 4);
        assert_eq!(sites(r"model\.layers\.1\..*(q|v)_proj").unwrap(), 2);
        assert_eq!(sites(r"blk\.0\.attn_.*").unwrap(), 4);
        assert_eq!(sites("none").unwrap(), 0);
        assert!(sites("lm_head").is_err());
        assert!(sites("(").is_err());
    }

    #[test]
    fn json_changes_what_it_names_and_nothing_else() {
        let options = TrainOptions::default();
        let changed = options.with_json(r#"{"rank": 3, "levers": {"moments": "disk"}}"#);
        let levers = Levers {
            moments: Some(Place::Disk),
            ..Levers::default()
        };
        let expected = TrainOptions {
            rank: 3,
            levers,
            ..options.clone()
        };
        assert_eq!(changed.unwrap(), expected);
        for wrong in ["", "[]", r#"{"rank": "three"}"#, r#"{"rnak": 3}"#] {
            assert!(options.with_json(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        let refused = |change: fn(&mut TrainOptions)| {
            let mut options = TrainOptions::default();
            change(&mut options);
            options.check().is_err()
        };
        assert!(TrainOptions::default().check().is_ok());
        assert!(refused(|o| o.rank = 0));
        assert!(refused(|o| o.batch = usize::MAX));
        assert!(refused(|o| o.lr = f64::NAN));
        assert!(refused(|o| o.dropout = 1.0));
        assert!(refused(|o| o.steps = Some(0)));
        assert!(refused(|o| o.warmup_ratio = 1.5));
        assert!(refused(|o| o.targets = "none".into()));
    }
}
