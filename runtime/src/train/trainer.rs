//! The loop: micro-batches, accumulation, clipping, update, report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::moments::{MomentKind, MomentStore};
use super::order;
use super::packs::{Pack, nothing_to_learn, packs};
use super::parameters::{DropoutStream, Gradients, Group, Parameters};
use super::schedule::Schedule;
use super::sequence_step::{self, Example, Learning, Packed, SequenceBuffers};
use super::update::{Update, clipped};
use super::{
    Features, GradientPlace, Limit, Place, Standing, TrainError, TrainOptions, TrainPlan, Workload,
    plan_within,
};
use crate::Result;
use crate::adapter::{Adapter, BaseIdentity, LoraPair};
use crate::cancel::Cancel;
use crate::memory::{Arena, Hold, Part};
use crate::model::{GradientView, LoraGradient, Model, ProjectorParameters, Site};

/// What one update did.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct StepReport {
    /// Number of the update, from 1.
    pub step: u64,
    /// Updates of the whole run.
    pub steps: u64,
    /// Mean loss over the learned tokens of its micro-batches, averaged over these.
    pub loss: f64,
    /// Learning rate of the pairs; of the projector, if that learns alone.
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

/// How far a look at other examples is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// Packs seen.
    packs: usize,
    /// The sum of their losses.
    sum: f64,
}

/// A training run: the model is shared and stays as it is, the parameters are its own.
#[derive(Debug)]
pub struct Trainer {
    model: Arc<Model>,
    options: TrainOptions,
    examples: Vec<Example>,
    packs: Vec<Pack>,
    schedule: Schedule,
    steps: u64,
    pub(super) parameters: Parameters,
    gradients: Gradients,
    pub(super) moments: MomentStore,
    /// Only [`Trainer::make_room`] takes them, and puts larger ones in their place.
    buffers: Option<SequenceBuffers>,
    work: Workload,
    plan: TrainPlan,
    arena: Arena,
    _counted: Vec<Hold>,
    /// Ends an update between two layers.
    cancel: Cancel,
    /// Whether an update stopped half-way.
    pub(super) torn: bool,
    groups: Vec<(String, Group)>,
    pub(super) done: u64,
    pub(super) standing: Standing,
    order: Option<(u64, Vec<usize>)>,
}

impl Trainer {
    /// A run from the beginning, with `initial` as the adapter's first values or a new one.
    ///
    /// # Errors
    /// If the options are impossible, nothing is to be learned, `initial` does not fit, the system has
    /// no memory left, or the disk refuses what the options put there.
    pub fn new(
        model: Arc<Model>,
        options: TrainOptions,
        mut examples: Vec<Example>,
        initial: Option<Adapter>,
    ) -> Result<Self> {
        options.check()?;
        if !examples.iter().any(|e| e.extent().teaches(&options)) {
            let extents = examples.iter().map(Example::extent);
            return Err(nothing_to_learn(extents, &options).into());
        }
        examples.retain(|e| e.extent().teaches(&options));
        let adapter = match initial {
            Some(_) if options.projector_alone() => {
                return Err(TrainError::Option {
                    option: "--targets",
                    value: options.targets,
                    reason: "the pairs of the initial adapter are there to learn",
                }
                .into());
            }
            Some(adapter) => {
                adapter.check_base(&model)?;
                check_places(&adapter)?;
                adapter
            }
            None => begin(&model, &options)?,
        };
        let projector = match (options.train_projector, model.vision()) {
            (true, Some(vision)) if options.new_projector => {
                let of = vision.projector();
                let (inputs, width) = (of.inputs(), of.outputs());
                Some(ProjectorParameters::random(inputs, width, options.seed))
            }
            (true, Some(vision)) => Some(vision.projector().parameters()),
            (true, None) => return Err(TrainError::NoProjector.into()),
            (false, _) => None,
        };
        let parameters = Parameters { adapter, projector };
        let names = parameters.names();
        let lengths: Vec<usize> = names.iter().map(|&(_, _, len)| len).collect();
        let extents: Vec<_> = examples.iter().map(Example::extent).collect();
        let packs = packs(&extents, &options, options.max_len);
        let steps = options.updates(packs.len());
        let work = Workload::of(&examples);
        let plan = own_plan(&model, &options, &work, &examples, &parameters.adapter)?;
        let arena = Arena::new(plan.memory);
        let moments = MomentKind {
            optimizer: options.optimizer,
            folder: options.levers.moments_in(),
        };
        Ok(Self {
            schedule: Schedule::new(options.schedule, steps, options.warmup_ratio),
            steps,
            gradients: Gradients::new(
                &parameters,
                options.levers.gradients.unwrap_or_default(),
                &arena,
            )?,
            moments: MomentStore::new(&lengths, &moments, &arena)?,
            _counted: counted(&parameters, &examples, &arena)?,
            groups: names
                .into_iter()
                .map(|(name, group, _)| (name, group))
                .collect(),
            buffers: Some(buffers(&model, &plan, &arena)?),
            work,
            plan,
            arena,
            model,
            options,
            examples,
            packs,
            parameters,
            done: 0,
            standing: Standing::default(),
            cancel: Cancel::new(),
            torn: false,
            order: None,
        })
    }

    /// Updates end between two layers, with [`crate::Error::Cancelled`] and nothing changed, once `cancel` is
    /// raised; those that use gradients layer by layer go on to their end.
    pub fn heed(&mut self, cancel: &Cancel) {
        self.cancel = cancel.clone();
    }

    /// The options of the run.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// The base model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What the run takes.
    pub fn plan(&self) -> &TrainPlan {
        &self.plan
    }

    /// Where its large buffers come from.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// What it learns from.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// Which of them run together.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
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

    /// What was learned so far, as an adapter that any session of the model can attach at once; training goes
    /// on without changing it.
    pub fn adapter(&self) -> Arc<Adapter> {
        Arc::new(self.parameters.adapter.clone())
    }

    /// The gradients of the last update, before clipping; of the pairs only if they are all there at
    /// once.
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
    /// If the loss or a gradient is not finite, the disk refuses what lies there, or the update is cancelled. Unless the gradients
    /// were all looked at before the first was used, the run must go on from its last checkpoint then.
    pub fn step(&mut self) -> Result<Option<StepReport>> {
        if self.done >= self.steps {
            return Ok(None);
        }
        self.check_whole()?;
        self.make_buffers()?;
        let begun = Instant::now();
        let chosen = self.chosen(self.done);
        let micro_batches: Vec<&[usize]> = chosen.chunks(self.options.batch).collect();
        self.gradients.clear();
        let step = self.done + 1;
        let mut squares = vec![0.0; self.groups.len()];
        let (mut loss, mut tokens, mut learned) = (0.0, 0, 0);
        for (micro, indices) in micro_batches.iter().enumerate() {
            let members = indices.iter().flat_map(|&i| self.packs[i].members());
            let targets: usize = members.map(|&i| self.examples[i].targets()).sum();
            let scale = 1.0 / (targets * micro_batches.len()) as f64;
            for (place, &index) in indices.iter().enumerate() {
                let sequence =
                    self.done * (chosen.len() as u64) + (micro * self.options.batch + place) as u64;
                loss += scale * self.pack(index, sequence, scale as f32, &mut squares)?;
                tokens += self.packs[index].rows() as u64;
            }
            learned += targets as u64;
        }
        if !loss.is_finite() {
            let tensor = "the loss".into();
            return Err(TrainError::NotFinite { step, tensor }.into());
        }
        let grad_norm = self.update(&mut squares)?;
        let rate = match self.options.projector_alone() {
            true => self.options.projector_lr,
            false => self.options.lr,
        };
        let lr = rate * self.schedule.factor(self.done);
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

    /// Refuses to go on, or to save, after an update that stopped half-way.
    pub(super) fn check_whole(&self) -> Result<(), TrainError> {
        match self.torn {
            true => Err(TrainError::Torn {
                step: self.done + 1,
            }),
            false => Ok(()),
        }
    }

    /// The mean loss over the learned tokens of other examples, without dropout or gradients.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    pub fn evaluate(&mut self, examples: &[Example]) -> Result<f64> {
        self.look(examples, &mut Look::default(), &Cancel::new())
    }

    /// The same, from where `look` stands. A raised `cancel` ends it between two layers; it can go on from there as
    /// long as nothing is learned in between.
    pub(super) fn look(
        &mut self,
        examples: &[Example],
        look: &mut Look,
        cancel: &Cancel,
    ) -> Result<f64> {
        self.make_room(examples)?;
        self.make_buffers()?;
        let buffers = self.buffers.as_mut().expect("they were made");
        let extents: Vec<_> = examples.iter().map(Example::extent).collect();
        let packs = packs(&extents, &self.options, most_rows(&self.packs));
        for pack in packs.iter().skip(look.packs) {
            look.sum += sequence_step::run(
                &self.model,
                &Packed { examples, pack },
                &mut self.parameters,
                DropoutStream::default(),
                None,
                cancel,
                buffers,
            )?;
            look.packs += 1;
        }
        let targets: usize = extents.iter().map(|extent| extent.learned).sum();
        Ok(look.sum / targets.max(1) as f64)
    }

    /// Makes the buffers large enough for examples that are longer than the run's own.
    fn make_room(&mut self, examples: &[Example]) -> Result<()> {
        let more = Workload::of(examples);
        let plan = &self.plan;
        if more.longest <= plan.rows && (more.images == 0 || self.work.all_images() > 0) {
            return Ok(());
        }
        self.work = self.work.clone().with_evaluation(&more);
        // The old ones go first: a device has room for more without them.
        self.buffers = None;
        let adapter = &self.parameters.adapter;
        self.plan = own_plan(&self.model, &self.options, &self.work, examples, adapter)?;
        self.arena.replan(self.plan.memory);
        self.make_buffers()
    }

    /// Makes the buffers if there are none: the system may have refused them before.
    fn make_buffers(&mut self) -> Result<()> {
        if self.buffers.is_none() {
            self.buffers = Some(buffers(&self.model, &self.plan, &self.arena)?);
        }
        Ok(())
    }

    /// The packs of an update.
    fn chosen(&mut self, step: u64) -> Vec<usize> {
        let group = self.options.batch * self.options.grad_accum;
        let per_epoch = self.packs.len().div_ceil(group) as u64;
        let (epoch, place) = (step / per_epoch, (step % per_epoch) as usize);
        if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let indices = order::epoch(&self.packs, &self.options, epoch);
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

    /// Runs a pack; if layers are updated as soon as their gradients are complete, does that and
    /// leaves the squares of their gradients.
    fn pack(
        &mut self,
        index: usize,
        sequence: u64,
        scale: f32,
        squares: &mut [f64],
    ) -> Result<f64> {
        let by_layer = self.options.levers.gradients == Some(GradientPlace::Layer);
        let (step, factor) = (self.done + 1, self.schedule.factor(self.done));
        let update = Update::new(&self.options, &self.groups, step, factor);
        let moments = &mut self.moments;
        let torn = &mut self.torn;
        let mut after = |layer: usize, parameters: &mut Parameters, gradients: &mut Gradients| {
            *torn = true;
            let mut array = 0;
            for (site, pair) in parameters.adapter.iter_mut() {
                if site.in_layer().is_some_and(|(of, _)| of == layer)
                    && let Some(LoraGradient { da, db }) = gradients.at(site)
                {
                    for (values, gradient) in [(&mut pair.a, &*da), (&mut pair.b, &*db)] {
                        squares[array] = update.square(array, gradient)?;
                        update.apply(array, values, gradient, 1.0, moments)?;
                        array += 1;
                    }
                    da.fill(0.0);
                    db.fill(0.0);
                } else {
                    array += 2;
                }
            }
            Ok(())
        };
        let learning = Learning {
            gradients: &mut self.gradients,
            scale,
            after_layer: match by_layer {
                true => Some(&mut after),
                false => None,
            },
        };
        let dropout = DropoutStream {
            rate: self.options.dropout,
            seed: self.options.seed,
            sequence,
        };
        sequence_step::run(
            &self.model,
            &Packed {
                examples: &self.examples,
                pack: &self.packs[index],
            },
            &mut self.parameters,
            dropout,
            Some(learning),
            &self.cancel,
            self.buffers.as_mut().expect("they were made"),
        )
    }

    /// Uses the gradients that were not used layer by layer, whose squares are there already. Returns
    /// the norm of all.
    fn update(&mut self, squares: &mut [f64]) -> Result<f64> {
        let (step, factor) = (self.done + 1, self.schedule.factor(self.done));
        let update = Update::new(&self.options, &self.groups, step, factor);
        let gradients = self.gradients.arrays();
        let first = self.groups.len() - gradients.len();
        for (array, gradient) in (first..).zip(&gradients) {
            squares[array] = update.square(array, gradient)?;
        }
        let norm = squares.iter().sum::<f64>().sqrt();
        let scale = clipped(norm, self.options.clip);
        self.torn = true;
        let arrays = self.parameters.arrays_mut().into_iter().skip(first);
        for (array, (parameters, gradient)) in (first..).zip(arrays.zip(gradients)) {
            update.apply(array, parameters, gradient, scale, &mut self.moments)?;
        }
        self.torn = false;
        Ok(norm)
    }
}

/// Refuses an adapter with pairs that have no gradients here.
fn check_places(adapter: &Adapter) -> Result<(), TrainError> {
    match adapter.iter().find(|(site, _)| site.in_layer().is_none()) {
        Some((site, _)) => Err(TrainError::NotTrained { site }),
        None => Ok(()),
    }
}

fn begin(model: &Model, options: &TrainOptions) -> Result<Adapter> {
    let shape = model.llama().shape();
    let sites = options.sites(shape.layers)?;
    let scale = options.scale();
    let base = BaseIdentity {
        fingerprint: Some(model.fingerprint().to_owned()),
        name: Some(model.name()),
    };
    if options.projector_alone() {
        return Ok(Adapter::none(base));
    }
    let pair = |site: Site| {
        let sizes = shape.sizes(site).expect("a target is a site of the model");
        (
            site,
            LoraPair::begin(site, sizes, options.rank, scale, options.seed),
        )
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

/// The plan of a run whose levers are set; those that are not keep everything in memory, as far as a device that leaves
/// values there finds some.
fn own_plan(
    model: &Model,
    options: &TrainOptions,
    work: &Workload,
    examples: &[Example],
    adapter: &Adapter,
) -> Result<TrainPlan> {
    let mut options = options.clone();
    if examples
        .iter()
        .flat_map(|e| &e.features)
        .any(Features::on_disk)
    {
        options.levers.features = Some(Place::Disk);
    }
    // Whoever set it has asked what the system has.
    let limit = match options.levers.kept_layers {
        Some(_) => Limit::None,
        None => Limit::of(None, model, None),
    };
    plan_within(model, &options, work, Some(adapter), limit)
}

fn buffers(model: &Model, plan: &TrainPlan, arena: &Arena) -> Result<SequenceBuffers> {
    SequenceBuffers::new(model.llama(), &plan.activations, plan.images, arena)
}

/// Rows of the longest pack.
fn most_rows(packs: &[Pack]) -> usize {
    packs.iter().map(Pack::rows).max().unwrap_or(0)
}

/// Counts what was made before there was an arena: trained values, examples, features of images.
fn counted(parameters: &Parameters, examples: &[Example], arena: &Arena) -> Result<Vec<Hold>> {
    let samples: usize = examples.iter().map(|e| e.sequence.bytes()).sum();
    let features = examples.iter().flat_map(|e| &e.features);
    let features: HashMap<[u8; 32], usize> = features
        .filter(|f| !f.on_disk())
        .map(|f| (f.digest(), f.len() * size_of::<f32>()))
        .collect();
    Ok(vec![
        arena.hold(Part::Trained, parameters.len() * size_of::<f32>())?,
        arena.hold(Part::Samples, samples)?,
        arena.hold(Part::ImageFeatures, features.values().sum())?,
    ])
}
