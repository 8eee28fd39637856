//! What a run will take: bytes per part, time per update, and what fits a budget.

use std::collections::HashSet;
use std::time::Instant;

use serde::Serialize;

use super::packs::{Extent, Pack, nothing_to_learn, packs};
use super::sequence_step::ImageSizes;
use super::{
    Example, Features, Levers, MomentStore, Place, SequenceBuffers, TrainError, TrainOptions,
};
use crate::Result;
use crate::dataset::{Sample, prompt};
use crate::memory::{MemoryPlan, Phase};
use crate::model::{
    ActivationPlan, LlamaShape, Model, VisionWork, llava, product_parallel, worker_bytes,
};
use crate::tokenizer::ChatTemplate;
use graft_kernels::product::{Mat, MatMut};

/// What there is to learn from, as far as memory and time depend on it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Workload {
    /// Examples with something to learn.
    pub examples: usize,
    /// Positions of the longest.
    pub longest: usize,
    /// Positions of all.
    pub tokens: usize,
    /// Learned positions of all.
    pub learned: usize,
    /// Different images.
    pub images: usize,
    /// Of each example that counts.
    #[serde(skip)]
    extents: Vec<Extent>,
}

impl Workload {
    /// Of prepared examples.
    pub fn of(examples: &[Example]) -> Self {
        let extents = examples.iter().map(Example::extent);
        let images: HashSet<_> = examples
            .iter()
            .flat_map(|e| e.features.iter().map(Features::digest))
            .collect();
        Self::new(extents, images.len())
    }

    /// Of samples, without looking at their images.
    ///
    /// # Errors
    /// If the template refuses a conversation or the vocabulary cannot spell it.
    pub fn measure(
        model: &Model,
        template: &ChatTemplate,
        samples: &[Sample],
        max_len: usize,
    ) -> Result<Self> {
        let tokenizer = model.tokenizer()?;
        let patches = model.vision().map_or(0, |v| v.tower().shape().patches());
        let mut extents = Vec::with_capacity(samples.len());
        let mut images = HashSet::new();
        for sample in samples {
            let (prompt, _) = prompt::training(sample, template, tokenizer)?;
            let sequence = llava::splice(&prompt.ids, &prompt.labels, patches, max_len);
            extents.push(Extent::of(&sequence));
            images.extend(sample.images.iter().map(|image| format!("{image:?}")));
        }
        Ok(Self::new(extents, images.len()))
    }

    /// Of examples of these extents, with so many different images.
    pub fn new(extents: impl IntoIterator<Item = Extent>, images: usize) -> Self {
        let mut work = Self {
            examples: 0,
            longest: 0,
            tokens: 0,
            learned: 0,
            images,
            extents: extents.into_iter().filter(|e| e.learned > 0).collect(),
        };
        for &Extent {
            tokens, learned, ..
        } in &work.extents
        {
            work.examples += 1;
            work.longest = work.longest.max(tokens);
            work.tokens += tokens;
            work.learned += learned;
        }
        work
    }
}

/// What of a workload a run with some options sees, a pack at a time.
struct Load {
    /// How many packs; samples, without packing.
    packs: usize,
    /// Rows of the longest pack.
    rows: usize,
    /// Positions of the longest sample.
    longest: usize,
    /// Of an average pack: positions, the sum of the squares of its samples' lengths, learned
    /// positions.
    tokens: f64,
    squares: f64,
    learned: f64,
    /// Different images, per pack.
    images: f64,
}

impl Load {
    fn new(work: &Workload, options: &TrainOptions) -> Result<Self, TrainError> {
        let all = || work.extents.iter().copied();
        let taught: Vec<Extent> = all().filter(|e| e.teaches(options)).collect();
        if taught.is_empty() {
            return Err(nothing_to_learn(all(), options));
        }
        let packs = packs(&taught, options, options.max_len);
        let mean = |of: fn(&Extent) -> f64| {
            let sum: f64 = taught.iter().map(of).sum();
            sum / packs.len() as f64
        };
        Ok(Self {
            rows: packs.iter().map(Pack::rows).max().unwrap_or(0),
            longest: taught.iter().map(|e| e.tokens).max().unwrap_or(0),
            tokens: mean(|e| e.tokens as f64),
            squares: mean(|e| (e.tokens as f64).powi(2)),
            learned: mean(|e| e.learned as f64),
            images: work.images as f64 / packs.len() as f64,
            packs: packs.len(),
        })
    }
}

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
    /// Peak with every lever that is free in its leanest position: no budget below works.
    pub smallest_bytes: u64,
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
}

/// Plans a run. Levers that `options` leave free are chosen: of everything that fits in `budget`
/// bytes what takes the least time; without a budget all stays in memory.
///
/// # Errors
/// If the options are impossible, or no choice fits the budget: the message says what would.
pub fn plan(
    model: &Model,
    options: &TrainOptions,
    work: &Workload,
    budget: Option<u64>,
) -> Result<TrainPlan> {
    options.check()?;
    let subject = Subject::new(model, options, work)?;
    let mut choices = subject.choices(&options.levers);
    choices.sort_by(|a, b| subject.seconds(a).total_cmp(&subject.seconds(b)));
    let peak = |levers: &Levers| subject.memory(levers).peak();
    let least = choices.iter().min_by_key(|levers| peak(levers));
    let smallest_bytes = least.map_or(0, peak);
    let fits = |levers: &&Levers| budget.is_none_or(|budget| peak(levers) <= budget);
    let Some(levers) = choices.iter().find(fits) else {
        return Err(TrainError::Budget {
            needed: choices.first().map_or(0, peak),
            budget: budget.unwrap_or(u64::MAX),
            smallest: smallest_bytes,
            longest: subject.load.rows,
        }
        .into());
    };
    let memory = subject.memory(levers);
    Ok(TrainPlan {
        peak_bytes: memory.peak(),
        memory,
        kept_layers: subject.kept(levers),
        layers: subject.shape.layers,
        smallest_bytes,
        packs: subject.load.packs,
        rows: subject.load.rows,
        steps: options.updates(subject.load.packs),
        parameters: subject.parameters,
        flops_per_step: subject.flops(levers),
        disk_bytes_per_step: subject.disk_bytes(levers),
        levers: levers.clone(),
    })
}

/// Anonymous memory that a run may take beyond its plan: what allocators round up and keep back.
pub const PLAN_SLACK: u64 = 24 << 20;

/// What no part below counts: code, the vocabulary, stacks of threads. Measured on models with 32,000
/// tokens.
const PROGRAM: usize = 16 << 20;

/// What the choice of levers depends on.
struct Subject<'a> {
    model: &'a Model,
    options: &'a TrainOptions,
    work: &'a Workload,
    load: Load,
    shape: &'a LlamaShape,
    /// Lowest layer that backward visits.
    lowest: usize,
    /// Values of the adapter.
    adapter: usize,
    /// All trained values.
    parameters: usize,
}

impl<'a> Subject<'a> {
    fn new(model: &'a Model, options: &'a TrainOptions, work: &'a Workload) -> Result<Self> {
        let shape = model.llama().shape();
        let sites = options.sites(shape.layers)?;
        if options.train_projector && model.vision().is_none() {
            return Err(TrainError::NoProjector.into());
        }
        let pairs = sites.iter().map(|site| {
            let (outputs, inputs) = shape.linear(site.linear);
            options.rank * (inputs + outputs)
        });
        let adapter: usize = pairs.sum();
        let projector = match (options.train_projector, model.vision()) {
            (true, Some(vision)) => {
                let (inputs, width) = (vision.projector().inputs(), vision.projector().outputs());
                width * (inputs + 1) + width * (width + 1)
            }
            _ => 0,
        };
        Ok(Self {
            model,
            options,
            work,
            load: Load::new(work, options)?,
            shape,
            lowest: match options.train_projector {
                true => 0,
                false => sites.iter().map(|s| s.layer).min().unwrap_or(0),
            },
            adapter,
            parameters: adapter + projector,
        })
    }

    fn visited(&self) -> usize {
        self.shape.layers - self.lowest
    }

    fn kept(&self, levers: &Levers) -> usize {
        let kept = levers.kept_layers.unwrap_or(usize::MAX);
        kept.min(self.visited()).max(1)
    }

    /// Every position of the levers that are free.
    fn choices(&self, fixed: &Levers) -> Vec<Levers> {
        let places = |fixed: Option<Place>| match fixed {
            Some(place) => vec![place],
            None => vec![Place::Memory, Place::Disk],
        };
        let kept: Vec<usize> = match fixed.kept_layers {
            Some(kept) => vec![kept.min(self.visited()).max(1)],
            None => (1..=self.visited()).rev().collect(),
        };
        let mut choices = Vec::new();
        let features = match self.work.images {
            0 => vec![fixed.features.unwrap_or(Place::Memory)],
            _ => places(fixed.features),
        };
        for weights in places(fixed.weights) {
            for inputs in places(fixed.inputs) {
                for moments in places(fixed.moments) {
                    for &features in &features {
                        choices.extend(kept.iter().map(|&kept| Levers {
                            kept_layers: Some(kept),
                            weights: Some(weights),
                            inputs: Some(inputs),
                            features: Some(features),
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
        let each = flops(self.shape, self.lowest, self.kept(levers), &self.load);
        let group = (self.options.batch * self.options.grad_accum) as f64;
        group * (each + 6.0 * self.adapter as f64 * self.load.tokens)
    }

    /// Bytes that an average update reads and writes besides the weights.
    fn disk_bytes(&self, levers: &Levers) -> f64 {
        let mut bytes = 0.0;
        if levers.moments == Some(Place::Disk) {
            bytes += 16.0 * self.parameters as f64;
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

    /// Every large buffer of a run.
    fn memory(&self, levers: &Levers) -> MemoryPlan {
        let Self {
            model, work, shape, ..
        } = *self;
        let Load { rows, longest, .. } = self.load;
        let activations = ActivationPlan {
            tokens: rows,
            lowest: self.lowest,
            kept: self.kept(levers),
            max_rank: match self.adapter {
                0 => 0,
                _ => self.options.rank,
            },
            dropout: self.options.dropout > 0.0,
            stream_weights: levers.stream_weights(),
            inputs_in: levers.inputs_in(),
        };
        let mut plan = MemoryPlan::default();
        plan.add("program and vocabulary", Phase::Always, PROGRAM);
        let mut images = ImageSizes::default();
        if let Some(vision) = model.vision() {
            let file = vision.gguf().file_bytes() as usize;
            if work.images > 0 {
                let tower = vision.tower().shape();
                let patches = tower.patches();
                images.patches = patches;
                let each = patches * tower.width;
                if levers.features == Some(Place::Disk) {
                    images.features = each;
                }
                let kept = match images.features {
                    0 => 4 * work.images * each,
                    // One goes through the tower, and is written.
                    _ => 3 * 4 * each,
                };
                plan.add("image features", Phase::Always, kept);
                plan.add("vision weights, mapped", Phase::Images, file);
                plan.add("vision tower", Phase::Images, VisionWork::bytes(tower));
            }
            let projector = vision.projector().bytes();
            plan.add("projector weights, mapped", Phase::Work, projector);
        }
        let llama = model.llama();
        if levers.stream_weights() {
            let bytes = llama.streamed_bytes(rows);
            plan.add("weights of a layer, streamed", Phase::Work, bytes);
        } else {
            let bytes = model.gguf().file_bytes() as usize;
            plan.add("weights, mapped", Phase::Work, bytes);
        }
        let [buffers, loss, projector] = SequenceBuffers::bytes(shape, &activations, images);
        plan.add("activations", Phase::Work, buffers);
        plan.add("logits and loss", Phase::Work, loss);
        plan.add("projector", Phase::Work, projector);
        plan.add(
            "decoded tiles and attention, per thread",
            Phase::Work,
            llama.pool().threads() * worker_bytes(longest, longest, true),
        );
        plan.add("trained values", Phase::Work, 4 * self.parameters);
        plan.add("their gradients", Phase::Work, 4 * self.parameters);
        let on_disk = levers.moments == Some(Place::Disk);
        let moments = MomentStore::bytes(self.parameters, on_disk);
        plan.add("AdamW moments", Phase::Work, moments);
        plan
    }
}

/// Multiplications and additions of an average pack.
fn flops(shape: &LlamaShape, lowest: usize, kept: usize, load: &Load) -> f64 {
    let sizes = crate::model::SiteKind::ALL.map(|kind| shape.linear(kind));
    let weights: usize = sizes.iter().map(|(outputs, inputs)| outputs * inputs).sum();
    let linear = 2.0 * weights as f64 * load.tokens;
    // Every position looks at half of its sample's on average, once for scores and once for values.
    let attention = 2.0 * load.squares * shape.query_width() as f64;
    let forward = linear + attention;
    let (layers, visited) = (shape.layers as f64, (shape.layers - lowest) as f64);
    let recomputed = visited - (kept as f64).min(visited);
    // Frozen weights have no gradient, so backward costs a forward; attention's costs 2.5.
    let backward = linear + 2.5 * attention;
    let output = 4.0 * shape.width as f64 * shape.vocabulary as f64 * load.learned;
    forward * (layers + recomputed) + backward * visited + output
}

/// Multiplications and additions per second of this machine's dense products, from a short trial.
pub fn measured_flops(model: &Model) -> f64 {
    const SIDE: usize = 512;
    let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.5; SIDE * SIDE]);
    let mut c = vec![0.0; SIDE * SIDE];
    let pool = model.llama().pool();
    let mut product = || {
        let (a, b) = (Mat::new(&a, SIDE, SIDE), Mat::new(&b, SIDE, SIDE));
        let c = MatMut::new(&mut c, SIDE, SIDE);
        pool.run(|| product_parallel(c, false, 1.0, a, b));
    };
    product();
    let (begun, mut done) = (Instant::now(), 0u32);
    while begun.elapsed().as_millis() < 100 {
        product();
        done += 1;
    }
    let each = 2.0 * (SIDE * SIDE * SIDE) as f64;
    each * f64::from(done) / begun.elapsed().as_secs_f64()
}
