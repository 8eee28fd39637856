//! The loop: micro-batches, accumulation, clipping, update, report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::features::Features;
use super::moments::MomentStore;
use super::optimizer::AdamW;
use super::order::{self, Order};
use super::parameters::{Gradients, Group, Parameters, Training};
use super::schedule::Schedule;
use super::sequence_step::{self, Example, ImageSizes, SequenceBuffers};
use super::{Standing, TrainError, TrainOptions};
use crate::Result;
use crate::adapter::{Adapter, BaseIdentity, LoraPair};
use crate::model::{ActivationPlan, LlamaShape, Model, Site};

/// What one update did.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct StepReport {
    /// Number of the update, from 1.
    pub step: u64,
    /// Updates of the whole run.
    pub steps: u64,
    /// Mean loss over the learned tokens of its micro-batches, averaged over these.
    pub loss: f64,
    /// Learning rate of the pairs.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Positions that went through the model.
    pub tokens: u64,
    /// Learned ones among them.
    pub learned_tokens: u64,
    /// How long it took.
    #[serde(skip)]
    pub duration: Duration,
}

/// A training run: the model is shared and stays as it is, the parameters are its own.
#[derive(Debug)]
pub struct Trainer {
    model: Arc<Model>,
    options: TrainOptions,
    examples: Vec<Example>,
    schedule: Schedule,
    steps: u64,
    pub(super) parameters: Parameters,
    gradients: Gradients,
    pub(super) moments: MomentStore,
    buffers: SequenceBuffers,
    plan: ActivationPlan,
    images: ImageSizes,
    optimizer: AdamW,
    groups: Vec<(String, Group)>,
    pub(super) done: u64,
    pub(super) standing: Standing,
    order: Option<(u64, Vec<usize>)>,
}

impl Trainer {
    /// A run from the beginning, with `initial` as the adapter's first values or a new one.
    ///
    /// # Errors
    /// If the options are impossible, nothing is to be learned, `initial` does not fit, or the disk
    /// refuses what the options put there.
    pub fn new(
        model: Arc<Model>,
        options: TrainOptions,
        mut examples: Vec<Example>,
        initial: Option<Adapter>,
    ) -> Result<Self> {
        options.check()?;
        examples.retain(|e| e.targets() > 0);
        if examples.is_empty() {
            let max_tokens = options.max_len;
            return Err(TrainError::NothingToLearn { max_tokens }.into());
        }
        let adapter = match initial {
            Some(adapter) => {
                adapter.check_base(&model)?;
                adapter
            }
            None => begin(&model, &options)?,
        };
        let projector = match (options.train_projector, model.vision()) {
            (true, Some(vision)) => Some(vision.projector().parameters()),
            (true, None) => {
                let id = "--train-projector".into();
                return Err(TrainError::NoVision { id }.into());
            }
            (false, _) => None,
        };
        let parameters = Parameters { adapter, projector };
        let names = parameters.names();
        let lengths: Vec<usize> = names.iter().map(|&(_, _, len)| len).collect();
        let group = options.batch * options.grad_accum;
        let steps = options
            .steps
            .unwrap_or_else(|| options.epochs * examples.len().div_ceil(group) as u64);
        let plan = activation_plan(&options, model.llama().shape(), &parameters, &examples);
        let images = image_sizes(&model, &examples);
        Ok(Self {
            schedule: Schedule::new(options.schedule, steps, options.warmup_ratio),
            steps,
            gradients: Gradients::new(&parameters),
            moments: MomentStore::new(&lengths, options.levers.moments_in().as_deref())?,
            groups: names
                .into_iter()
                .map(|(name, group, _)| (name, group))
                .collect(),
            buffers: SequenceBuffers::new(model.llama(), &plan, images)?,
            plan,
            images,
            optimizer: AdamW {
                weight_decay: options.weight_decay,
                ..AdamW::default()
            },
            model,
            options,
            examples,
            parameters,
            done: 0,
            standing: Standing::default(),
            order: None,
        })
    }

    /// The options of the run.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// The base model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What it learns from.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// Updates of the whole run.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Updates done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// What evaluations have shown so far.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The gradients of the last update, before clipping.
    pub fn gradients(&self) -> &Gradients {
        &self.gradients
    }

    /// The parameters' names, in the order of their arrays.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|(name, _)| name.as_str())
    }

    /// Does the next update; `None` when the run is over.
    ///
    /// # Errors
    /// If the loss or a gradient is not finite: then nothing was changed. If the disk refuses what lies
    /// there: then the run must go on from its last checkpoint.
    pub fn step(&mut self) -> Result<Option<StepReport>> {
        if self.done >= self.steps {
            return Ok(None);
        }
        let begun = Instant::now();
        let chosen = self.chosen(self.done);
        let micro_batches: Vec<&[usize]> = chosen.chunks(self.options.batch).collect();
        self.gradients.clear();
        let (mut loss, mut tokens, mut learned) = (0.0, 0, 0);
        for (micro, indices) in micro_batches.iter().enumerate() {
            let targets: usize = indices.iter().map(|&i| self.examples[i].targets()).sum();
            let scale = 1.0 / (targets * micro_batches.len()) as f64;
            for (place, &index) in indices.iter().enumerate() {
                let sequence =
                    self.done * (chosen.len() as u64) + (micro * self.options.batch + place) as u64;
                loss += scale * self.sequence(index, sequence, scale as f32)?;
                tokens += self.examples[index].sequence.len() as u64;
            }
            learned += targets as u64;
        }
        let step = self.done + 1;
        let grad_norm = self.norm(step, loss)?;
        let lr = self.options.lr * self.schedule.factor(self.done);
        self.update(step, grad_norm)?;
        self.done = step;
        Ok(Some(StepReport {
            step,
            steps: self.steps,
            loss,
            lr,
            grad_norm,
            tokens,
            learned_tokens: learned,
            duration: begun.elapsed(),
        }))
    }

    /// The mean loss over the learned tokens of other examples, without dropout or gradients.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    pub fn evaluate(&mut self, examples: &[Example]) -> Result<f64> {
        self.make_room(examples)?;
        let (mut sum, mut targets) = (0.0, 0);
        for example in examples {
            let training = Training {
                adapter: &self.parameters.adapter,
                rate: 0.0,
                seed: 0,
                sequence: 0,
            };
            sum += sequence_step::run(
                &self.model,
                example,
                &self.parameters,
                &training,
                None,
                0.0,
                &mut self.buffers,
            )?;
            targets += example.targets();
        }
        Ok(sum / targets.max(1) as f64)
    }

    /// Makes the buffers large enough for examples that are longer than the run's own.
    fn make_room(&mut self, examples: &[Example]) -> Result<()> {
        let longest = examples.iter().map(|e| e.sequence.len()).max().unwrap_or(0);
        let more = image_sizes(&self.model, examples);
        let images = ImageSizes {
            patches: self.images.patches.max(more.patches),
            features: self.images.features.max(more.features),
        };
        if longest > self.plan.tokens || images != self.images {
            self.plan.tokens = self.plan.tokens.max(longest);
            self.images = images;
            self.buffers = SequenceBuffers::new(self.model.llama(), &self.plan, images)?;
        }
        Ok(())
    }

    /// The samples of an update.
    fn chosen(&mut self, step: u64) -> Vec<usize> {
        let group = self.options.batch * self.options.grad_accum;
        let per_epoch = self.examples.len().div_ceil(group) as u64;
        let (epoch, place) = (step / per_epoch, (step % per_epoch) as usize);
        if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let order = match (self.options.shuffle, self.options.group_by_length) {
                (_, true) => Order::ByLength,
                (true, false) => Order::Shuffled,
                (false, false) => Order::Given,
            };
            let lengths: Vec<usize> = self.examples.iter().map(|e| e.sequence.len()).collect();
            let indices = order::epoch(order, &lengths, group, self.options.seed, epoch);
            self.order = Some((epoch, indices));
        }
        let indices = self
            .order
            .as_ref()
            .map(|(_, indices)| indices.as_slice())
            .unwrap_or_default();
        indices
            .iter()
            .skip(place * group)
            .take(group)
            .copied()
            .collect()
    }

    fn sequence(&mut self, index: usize, sequence: u64, scale: f32) -> Result<f64> {
        let training = Training {
            adapter: &self.parameters.adapter,
            rate: self.options.dropout,
            seed: self.options.seed,
            sequence,
        };
        sequence_step::run(
            &self.model,
            &self.examples[index],
            &self.parameters,
            &training,
            Some(&mut self.gradients),
            scale,
            &mut self.buffers,
        )
    }

    /// The norm of the whole gradient, having made sure that everything is finite.
    fn norm(&self, step: u64, loss: f64) -> Result<f64, TrainError> {
        if !loss.is_finite() {
            return Err(TrainError::NotFinite {
                step,
                tensor: "the loss".into(),
            });
        }
        let mut sum = 0.0;
        for (gradient, (name, _)) in self.gradients.arrays().iter().zip(&self.groups) {
            let square: f64 = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
            if !square.is_finite() {
                let tensor = format!("the gradient of {name}");
                return Err(TrainError::NotFinite { step, tensor });
            }
            sum += square;
        }
        Ok(sum.sqrt())
    }

    fn update(&mut self, step: u64, grad_norm: f64) -> Result<()> {
        // PyTorch's clip_grad_norm_.
        let clip = self.options.clip;
        let gradient_scale = if clip > 0.0 {
            (clip / (grad_norm + 1e-6)).min(1.0) as f32
        } else {
            1.0
        };
        let factor = self.schedule.factor(step - 1);
        let (lr, projector_lr) = (self.options.lr * factor, self.options.projector_lr * factor);
        let arrays = self
            .parameters
            .arrays_mut()
            .into_iter()
            .zip(self.gradients.arrays());
        for (array, ((parameters, gradients), (name, group))) in
            arrays.zip(&self.groups).enumerate()
        {
            let rate = match group {
                Group::Adapter => lr,
                Group::Projector => projector_lr,
            };
            // As PyTorch's trainers group parameters: biases do not decay.
            let weight_decay = if name.ends_with(".bias") {
                0.0
            } else {
                self.optimizer.weight_decay
            };
            let optimizer = AdamW {
                weight_decay,
                ..self.optimizer
            };
            self.moments.update(array, |first, mean, square| {
                let piece = first..first + mean.len();
                let (parameters, gradients) = (&mut parameters[piece.clone()], &gradients[piece]);
                let moments = (mean, square);
                optimizer.update(parameters, moments, gradients, gradient_scale, rate, step);
            })?;
        }
        Ok(())
    }
}

fn begin(model: &Model, options: &TrainOptions) -> Result<Adapter> {
    let shape = model.llama().shape();
    let sites = options.sites(shape.layers)?;
    let scale = options.scale();
    let pair = |site: Site| {
        let sizes = shape.linear(site.linear);
        (
            site,
            LoraPair::begin(site, sizes, options.rank, scale, options.seed),
        )
    };
    let base = BaseIdentity {
        fingerprint: Some(model.fingerprint().to_owned()),
        name: Some(model.name()),
    };
    // Files state one alpha, and readers divide it by the rank.
    let alpha = if options.rslora {
        options.alpha * (options.rank as f32).sqrt()
    } else {
        options.alpha
    };
    Ok(Adapter::new(
        "adapter",
        base,
        alpha,
        sites.into_iter().map(pair),
    )?)
}

/// Sizes of the largest image.
fn image_sizes(model: &Model, examples: &[Example]) -> ImageSizes {
    let features = || examples.iter().flat_map(|e| &e.features);
    let on_disk = features().filter(|f| f.on_disk());
    let values = features().map(Features::len).max().unwrap_or(0);
    ImageSizes {
        patches: model
            .vision()
            .map_or(0, |v| values / v.projector().inputs()),
        features: on_disk.map(Features::len).max().unwrap_or(0),
    }
}

/// Sizes of the buffers for these options and examples.
fn activation_plan(
    options: &TrainOptions,
    shape: &LlamaShape,
    parameters: &Parameters,
    examples: &[Example],
) -> ActivationPlan {
    let lowest = parameters.adapter.iter().map(|(site, _)| site.layer).min();
    ActivationPlan {
        tokens: examples.iter().map(|e| e.sequence.len()).max().unwrap_or(0),
        lowest: if parameters.projector.is_some() {
            0
        } else {
            lowest.unwrap_or(0)
        },
        kept: options
            .levers
            .kept_layers
            .unwrap_or(usize::MAX)
            .min(shape.layers),
        max_rank: parameters
            .adapter
            .iter()
            .map(|(_, p)| p.rank())
            .max()
            .unwrap_or(0),
        dropout: options.dropout > 0.0,
        stream_weights: options.levers.stream_weights(),
        inputs_in: options.levers.inputs_in(),
    }
}
