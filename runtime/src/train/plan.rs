//! What a run will take: bytes per part, time per update, and what fits a budget.

use serde::Serialize;

use super::sequence_step::ImageSizes;
use super::workload::Load;
use super::{
    GradientPlace, Levers, MomentStore, OptimizerKind, Place, SavedKind, SequenceBuffers,
    TrainError, TrainOptions, Workload,
};
use crate::Result;
use crate::adapter::Adapter;
use crate::device::TrainingRoom;
use crate::memory::{self, MemoryPlan, PROGRAM_BYTES, Part};
use crate::model::{
    ActivationPlan, DeviceKept, LlamaShape, Model, Site, SiteKind, VisionWork, Widest, worker_bytes,
};

/// What a run will take, and what was chosen so that it fits.
#[derive(Clone, Debug, Serialize)]
pub struct TrainPlan {
    /// Bytes per part.
    pub memory: MemoryPlan,
    /// Most bytes at once.
    pub peak_bytes: u64,
    /// What was chosen: every lever has a position.
    pub levers: Levers,
    /// Top layers that keep everything between forward and backward; the others compute it twice.
    pub kept_layers: usize,
    /// Layers of the model.
    pub layers: usize,
    /// Those that backward visits: from the lowest trained one up.
    pub visited_layers: usize,
    /// Peak with every lever that is free in its leanest position: no budget below works.
    pub smallest_bytes: u64,
    /// Peak of the fastest choice: no budget above makes a run faster.
    pub fastest_bytes: u64,
    /// What each lever that was pulled saves.
    pub savings: Savings,
    /// What runs at once: packs, or samples without packing.
    pub packs: usize,
    /// Positions of the longest of them.
    pub rows: usize,
    /// Updates of the run.
    pub steps: u64,
    /// Trained values.
    pub parameters: usize,
    /// Multiplications and additions of an average update.
    pub flops_per_step: f64,
    /// Bytes that an average update reads from and writes to the disk, without the weights, which are
    /// read while the processor works.
    pub disk_bytes_per_step: f64,
    /// Bytes of the system's memory that a device leaves values in: inputs of its layers, and what lies inside them.
    pub beside_device_bytes: u64,
    /// Sizes of the buffers of a sequence.
    #[serde(skip)]
    pub(super) activations: ActivationPlan,
    /// Sizes of the largest image.
    #[serde(skip)]
    pub(super) images: ImageSizes,
}

/// Bytes that the peak would rise by, if a lever stood where it saves nothing.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs)] // named as the levers
pub struct Savings {
    pub kept_layers: u64,
    pub weights: u64,
    pub inputs: u64,
    pub features: u64,
    pub gradients: u64,
    pub moments: u64,
}

/// What a run must stay within.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// No limit: all stays in memory.
    None,
    /// Most bytes at once, those of mapped files included.
    Budget(u64),
    /// Most bytes at once that are no pages of a file, where a device leaves values in the system's memory.
    System(u64),
}

impl Limit {
    /// The budget, if there is one; otherwise, for a model that a device runs, what the system has available but for an
    /// eighth, or `most` if that is less.
    pub fn of(budget: Option<u64>, model: &Model, most: Option<u64>) -> Self {
        if let Some(budget) = budget {
            return Self::Budget(budget);
        }
        let available = memory::memory().map(|memory| memory.available / 8 * 7);
        match available.into_iter().chain(most).min() {
            Some(bytes) if model.llama().device().is_some() => Self::System(bytes),
            _ => Self::None,
        }
    }

    fn holds(self, plan: &MemoryPlan) -> bool {
        match self {
            Self::None => true,
            Self::Budget(budget) => plan.peak() <= budget,
            Self::System(bytes) => plan.anonymous_peak() <= bytes,
        }
    }
}

/// Plans a run. Levers that `options` leave free are chosen: of everything that fits in `budget`
/// bytes what takes the least time; without a budget all stays in memory, as far as the system has some where a device
/// leaves values there. `initial` is the adapter that training goes on from, if it is no new one.
///
/// # Errors
/// If the options are impossible, or no choice fits the budget: the message says what would.
pub fn plan(
    model: &Model,
    options: &TrainOptions,
    work: &Workload,
    initial: Option<&Adapter>,
    budget: Option<u64>,
) -> Result<TrainPlan> {
    let limit = Limit::of(budget, model, None);
    plan_within(model, options, work, initial, limit)
}

/// The same within a limit.
///
/// # Errors
/// As [`plan()`].
pub fn plan_within(
    model: &Model,
    options: &TrainOptions,
    work: &Workload,
    initial: Option<&Adapter>,
    limit: Limit,
) -> Result<TrainPlan> {
    options.check()?;
    let subject = Subject::new(model, options, work, initial)?;
    let mut choices = subject.choices(&options.levers);
    choices.sort_by(|a, b| subject.seconds(a).total_cmp(&subject.seconds(b)));
    let peak = |levers: &Levers| subject.memory(levers).peak();
    let smallest_bytes = choices.iter().map(peak).min().unwrap_or(0);
    let fastest_bytes = choices.first().map_or(0, peak);
    let fits = |levers: &&Levers| limit.holds(&subject.memory(levers));
    let Some(levers) = choices.iter().find(fits) else {
        return Err(match limit {
            Limit::System(available) => {
                let own = |levers| subject.memory(levers).anonymous_peak();
                TrainError::SystemMemory {
                    needed: choices.iter().map(own).min().unwrap_or(0),
                    available,
                }
            }
            Limit::Budget(budget) => TrainError::Budget {
                needed: fastest_bytes,
                budget,
                smallest: smallest_bytes,
                ways: ways(&subject, initial, smallest_bytes),
            },
            Limit::None => unreachable!("there is a choice, and no limit"),
        }
        .into());
    };
    let memory = subject.memory(levers);
    Ok(TrainPlan {
        peak_bytes: memory.peak(),
        memory,
        kept_layers: subject.kept(levers),
        layers: subject.shape.layers,
        visited_layers: subject.visited(),
        smallest_bytes,
        fastest_bytes,
        savings: subject.savings(levers),
        packs: subject.load.packs,
        rows: subject.load.rows,
        steps: options.updates(subject.load.packs),
        parameters: subject.parameters(),
        flops_per_step: subject.flops(levers),
        disk_bytes_per_step: subject.disk_bytes(levers),
        beside_device_bytes: subject.activations(levers).host_bytes(subject.shape) as u64,
        levers: levers.clone(),
        activations: subject.activations(levers),
        images: subject.images(levers),
    })
}

/// What a run needs of a device, whatever its memory.
///
/// # Errors
/// If the options are impossible, or there is nothing to learn.
pub fn device_room(
    model: &Model,
    options: &TrainOptions,
    work: &Workload,
    initial: Option<&Adapter>,
) -> Result<TrainingRoom> {
    options.check()?;
    let subject = Subject::new(model, options, work, initial)?;
    Ok(TrainingRoom {
        tokens: subject.load.rows,
        rank: subject.rank,
    })
}

/// Options that would make a smaller budget do, and which: what changes the result only a little first.
fn ways(subject: &Subject<'_>, initial: Option<&Adapter>, smallest: u64) -> Vec<(String, u64)> {
    let Subject {
        model,
        options,
        work,
        ref load,
        ..
    } = *subject;
    let mut found = Vec::new();
    let mut consider = |option: String, work: &Workload, change: &dyn Fn(&mut TrainOptions)| {
        let mut options = options.clone();
        change(&mut options);
        let subject = match options.check() {
            Ok(()) => Subject::new(model, &options, work, initial),
            Err(error) => Err(error.into()),
        };
        if let Ok(needed) = subject.map(|subject| subject.smallest())
            && needed < smallest
        {
            found.push((option, needed));
        }
    };
    let folder = options.levers.folder.clone();
    consider("no lever set by hand".into(), work, &|o| {
        o.levers = Levers {
            folder: folder.clone(),
            ..Levers::default()
        };
    });
    if options.batch * options.grad_accum == 1 {
        consider("--clip 0".into(), work, &|o| o.clip = 0.0);
    }
    consider("--optimizer adamw8bit".into(), work, &|o| {
        o.optimizer = OptimizerKind::AdamW8bit;
    });
    consider("--saved-activations bf16".into(), work, &|o| {
        o.saved = SavedKind::Bf16;
    });
    if options.train_projector && !options.projector_alone() {
        consider("no --train-projector".into(), work, &|o| {
            o.train_projector = false;
        });
    }
    if initial.is_none() && options.rank > 1 {
        let rank = options.rank / 2;
        consider(format!("--rank {rank}"), work, &|o| o.rank = rank);
    }
    let half = load.rows / 2;
    consider(format!("--max-len {half}"), &work.cut(half), &|o| {
        o.max_len = half;
    });
    found
}

/// Anonymous memory that a run may take beyond its plan: what allocators round up and keep back.
pub const PLAN_SLACK: u64 = 24 << 20;

/// What the choice of levers depends on.
struct Subject<'a> {
    model: &'a Model,
    options: &'a TrainOptions,
    work: &'a Workload,
    load: Load,
    shape: &'a LlamaShape,
    /// Lowest layer that backward visits.
    lowest: usize,
    /// Largest rank of a pair.
    rank: usize,
    /// What a device has room for, if one runs layers.
    device: Option<DeviceKept>,
    /// Values of the adapter.
    adapter: usize,
    /// Values of the largest pair of each kind of site.
    layer: usize,
    /// Of every trained array.
    lengths: Vec<usize>,
}

impl<'a> Subject<'a> {
    fn new(
        model: &'a Model,
        options: &'a TrainOptions,
        work: &'a Workload,
        initial: Option<&Adapter>,
    ) -> Result<Self> {
        let shape = model.llama().shape();
        if options.train_projector && model.vision().is_none() {
            return Err(TrainError::NoProjector.into());
        }
        let pairs: Vec<(Site, usize)> = match initial {
            Some(adapter) => adapter.iter().map(|(site, p)| (site, p.rank())).collect(),
            None => {
                let sites = options.sites(shape.layers)?.into_iter();
                sites.map(|site| (site, options.rank)).collect()
            }
        };
        let mut lengths = Vec::with_capacity(2 * pairs.len() + 4);
        let mut largest = [0; SiteKind::ALL.len()];
        for &(site, rank) in &pairs {
            let (_, kind) = site.in_layer().ok_or(TrainError::NotTrained { site })?;
            let (outputs, inputs) = shape.linear(kind);
            lengths.extend([rank * inputs, outputs * rank]);
            let largest = &mut largest[kind as usize];
            *largest = (*largest).max(rank * (inputs + outputs));
        }
        let adapter = lengths.iter().sum();
        if let (true, Some(vision)) = (options.train_projector, model.vision()) {
            let (inputs, width) = (vision.projector().inputs(), vision.projector().outputs());
            lengths.extend([width * inputs, width, width * width, width]);
        }
        let mut subject = Self {
            model,
            options,
            work,
            load: Load::new(work, options)?,
            shape,
            lowest: match options.train_projector {
                true => 0,
                false => pairs
                    .iter()
                    .filter_map(|(s, _)| s.in_layer())
                    .map(|(layer, _)| layer)
                    .min()
                    .unwrap_or(0),
            },
            rank: pairs.iter().map(|&(_, rank)| rank).max().unwrap_or(0),
            device: None,
            adapter,
            layer: largest.iter().sum(),
            lengths,
        };
        if let Some(device) = model.llama().device() {
            let plan = subject.activations(&Levers::default());
            subject.device = Some(device.kept(&plan));
        }
        Ok(subject)
    }

    fn parameters(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn smallest(&self) -> u64 {
        let choices = self.choices(&self.options.levers);
        let peaks = choices.iter().map(|levers| self.memory(levers).peak());
        peaks.min().unwrap_or(0)
    }

    fn savings(&self, levers: &Levers) -> Savings {
        let peak = self.memory(levers).peak();
        let without = |release: fn(&mut Levers)| {
            let mut other = levers.clone();
            release(&mut other);
            self.memory(&other).peak().saturating_sub(peak)
        };
        Savings {
            kept_layers: without(|l| l.kept_layers = None),
            weights: without(|l| l.weights = None),
            inputs: without(|l| l.inputs = None),
            features: without(|l| l.features = None),
            gradients: without(|l| l.gradients = None),
            moments: without(|l| l.moments = None),
        }
    }

    fn visited(&self) -> usize {
        self.shape.layers - self.lowest
    }

    fn kept(&self, levers: &Levers) -> usize {
        match levers.kept_layers {
            Some(kept) => kept.min(self.visited()).max(1),
            None => self.most_kept(),
        }
    }

    /// Most layers that it is faster to keep, in one memory or the other, than to compute again.
    fn most_kept(&self) -> usize {
        let below_device = self.model.llama().own_layers().len();
        match self.device {
            Some(device) if device.computes_again && below_device <= self.lowest => {
                device.layers.min(self.visited()).max(1)
            }
            _ => self.visited().max(1),
        }
    }

    /// Every position of the levers that are free.
    fn choices(&self, fixed: &Levers) -> Vec<Levers> {
        let places = |fixed: Option<Place>| match fixed {
            Some(place) => vec![place],
            None => vec![Place::Memory, Place::Disk],
        };
        let kept: Vec<usize> = match fixed.kept_layers {
            Some(kept) => vec![kept.min(self.visited()).max(1)],
            // A layer that is computed again begins with its rounded input: which do must not be left
            // to a lever, or it would change the result.
            None if self.options.saved == SavedKind::Bf16 => vec![1],
            None => (1..=self.most_kept()).rev().collect(),
        };
        let mut choices = Vec::new();
        let features = match self.work.all_images() {
            0 => vec![fixed.features.unwrap_or(Place::Memory)],
            _ => places(fixed.features),
        };
        let moments = match self.options.optimizer {
            OptimizerKind::AdamW => places(fixed.moments),
            OptimizerKind::AdamW8bit => vec![Place::Memory],
        };
        let gradients = match fixed.gradients {
            Some(place) => vec![place],
            None if self.options.updates_by_layer() => {
                vec![GradientPlace::Whole, GradientPlace::Layer]
            }
            None => vec![GradientPlace::Whole],
        };
        for weights in places(fixed.weights) {
            for inputs in places(fixed.inputs) {
                for &moments in &moments {
                    for (&features, &gradients) in combinations(&features, &gradients) {
                        choices.extend(kept.iter().map(|&kept| Levers {
                            kept_layers: Some(kept),
                            weights: Some(weights),
                            inputs: Some(inputs),
                            features: Some(features),
                            gradients: Some(gradients),
                            moments: Some(moments),
                            folder: fixed.folder.clone(),
                        }));
                    }
                }
            }
        }
        choices
    }

    /// About how long an update takes, to compare choices: the figures of a machine with two cores.
    fn seconds(&self, levers: &Levers) -> f64 {
        const FLOPS: f64 = 1.5e11;
        const DISK_BYTES: f64 = 1e9;
        // Pages that are in memory anyway are mapped again at this speed.
        const MAPPED_BYTES: f64 = 1e10;
        let passes = (self.options.batch * self.options.grad_accum) as f64
            * (2.0 + (self.visited() - self.kept(levers)) as f64 / self.visited() as f64);
        let streamed = match levers.stream_weights() {
            true => passes * self.model.gguf().file_bytes() as f64,
            false => 0.0,
        };
        self.flops(levers) / FLOPS + self.disk_bytes(levers) / DISK_BYTES + streamed / MAPPED_BYTES
    }

    /// Multiplications and additions of an average update.
    fn flops(&self, levers: &Levers) -> f64 {
        let each = self.load.flops(self.shape, self.lowest, self.kept(levers));
        let group = (self.options.batch * self.options.grad_accum) as f64;
        group * (each + 6.0 * self.adapter as f64 * self.load.tokens)
    }

    /// Bytes that an average update reads and writes besides the weights.
    fn disk_bytes(&self, levers: &Levers) -> f64 {
        let mut bytes = 0.0;
        if levers.moments == Some(Place::Disk) {
            bytes += 16.0 * self.parameters() as f64;
        }
        if let (Some(Place::Disk), Some(vision)) = (levers.features, self.model.vision()) {
            let tower = vision.tower().shape();
            let group = (self.options.batch * self.options.grad_accum) as f64;
            bytes += 4.0 * group * self.load.images * (tower.patches() * tower.width) as f64;
        }
        if levers.inputs == Some(Place::Disk) {
            let group = (self.options.batch * self.options.grad_accum) as f64;
            bytes += 8.0 * group * self.load.tokens * (self.visited() * self.shape.width) as f64;
        }
        bytes
    }

    fn activations(&self, levers: &Levers) -> ActivationPlan {
        let plan = ActivationPlan {
            tokens: self.load.rows,
            layers: self.model.llama().own_layers().len(),
            loss_on_device: self.model.llama().loss_on_device(),
            lowest: self.lowest,
            kept: self.kept(levers),
            offloaded: 0,
            host_inputs: 0,
            max_rank: self.rank,
            dropout: self.options.dropout > 0.0,
            stream_weights: levers.stream_weights(),
            inputs_in: levers.inputs_in(),
            half_inputs: self.options.saved == SavedKind::Bf16,
            words: self.options.words(),
        };
        match self.device {
            Some(device) => plan.beside(device, self.shape.layers),
            None => plan,
        }
    }

    fn images(&self, levers: &Levers) -> ImageSizes {
        match self.model.vision() {
            Some(vision) if self.work.all_images() > 0 => {
                let tower = vision.tower().shape();
                let patches = tower.patches();
                let features = match levers.features {
                    Some(Place::Disk) => patches * tower.width,
                    _ => 0,
                };
                let rounding = match self.options.train_projector {
                    true => Widest::default(),
                    false => vision.projector().rounding(patches),
                };
                ImageSizes {
                    patches,
                    features,
                    rounding,
                }
            }
            _ => ImageSizes::default(),
        }
    }

    /// Every large buffer of a run.
    fn memory(&self, levers: &Levers) -> MemoryPlan {
        let Self {
            model, work, shape, ..
        } = *self;
        let (activations, images) = (self.activations(levers), self.images(levers));
        let mut plan = MemoryPlan::default();
        plan.add(Part::Program, PROGRAM_BYTES);
        plan.add(Part::Samples, work.sample_bytes());
        if let Some(vision) = model.vision().filter(|_| work.all_images() > 0) {
            let tower = vision.tower().shape();
            let each = tower.patches() * tower.width * size_of::<f32>();
            // On the disk, one goes through the tower, and is written.
            let kept = if images.features > 0 {
                3
            } else {
                work.all_images()
            };
            plan.add(Part::ImageFeatures, kept * each);
            plan.add(Part::VisionWeights, vision.gguf().file_bytes() as usize);
            plan.add(Part::VisionTower, VisionWork::bytes(vision.tower()));
            plan.add(Part::ProjectorWeights, vision.projector().bytes());
        }
        let llama = model.llama();
        let longest = self.load.longest;
        let mut each = worker_bytes(&shape.attention(), longest, longest, true);
        let mut rounding = Widest::learning(self.options.words());
        if let Some(vision) = model.vision().filter(|_| work.all_images() > 0) {
            // The tower's tokens go through the same threads.
            let (tower, tokens) = (vision.tower().shape(), images.patches + 1);
            each = each.max(worker_bytes(&tower.attention(), tokens, tokens, true));
            rounding = rounding.and(vision.tower().rounding()).and(images.rounding);
        }
        each += rounding.worker_bytes();
        if levers.stream_weights() {
            plan.add(Part::StreamedWeights, llama.streamed_bytes(self.load.rows));
        } else {
            plan.add(Part::Weights, model.gguf().file_bytes() as usize);
        }
        SequenceBuffers::add_to(&mut plan, shape, &activations, images);
        plan.add(Part::Attention, llama.pool().threads() * each);
        let float = size_of::<f32>();
        plan.add(Part::Trained, self.parameters() * float);
        let pairs = match levers.gradients {
            Some(GradientPlace::Layer) => self.layer,
            _ => self.adapter,
        };
        let projector = self.parameters() - self.adapter;
        plan.add(Part::Gradients, (pairs + projector) * float);
        let lengths = self.lengths.iter().copied();
        MomentStore::add_to(&mut plan, lengths, self.options.optimizer, levers.moments);
        plan
    }
}

/// Every combination of two choices.
fn combinations<'a, A, B>(a: &'a [A], b: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    a.iter().flat_map(move |a| b.iter().map(move |b| (a, b)))
}
