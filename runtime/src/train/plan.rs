//! What a run will take: bytes per part, time per update, and what fits a budget.

use std::collections::HashSet;
use std::time::Instant;

use serde::Serialize;

use super::{Example, SequenceBuffers, TrainError, TrainOptions};
use crate::Result;
use crate::dataset::{Sample, prompt};
use crate::memory::{MemoryPlan, Phase};
use crate::model::{
    ActivationPlan, LlamaShape, Model, VisionWork, llava, product_parallel, worker_bytes,
};
use crate::tokenizer::ChatTemplate;
use graft_kernels::product::{Mat, MatMut};

/// What there is to learn from, as far as memory and time depend on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
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
}

impl Workload {
    /// Of prepared examples.
    pub fn of(examples: &[Example]) -> Self {
        let lengths = examples.iter().map(|e| (e.sequence.len(), e.targets()));
        let images: HashSet<_> = examples
            .iter()
            .flat_map(|e| e.features.iter().map(|f| f.as_ptr()))
            .collect();
        Self::sum(lengths, images.len())
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
        let mut lengths = Vec::with_capacity(samples.len());
        let mut images = HashSet::new();
        for sample in samples {
            let (prompt, _) = prompt::training(sample, template, tokenizer)?;
            let sequence = llava::splice(&prompt.ids, &prompt.labels, patches, max_len);
            lengths.push((sequence.len(), sequence.targets().count()));
            images.extend(sample.images.iter().map(|image| format!("{image:?}")));
        }
        Ok(Self::sum(lengths.into_iter(), images.len()))
    }

    fn sum(lengths: impl Iterator<Item = (usize, usize)>, images: usize) -> Self {
        let mut work = Self {
            examples: 0,
            longest: 0,
            tokens: 0,
            learned: 0,
            images,
        };
        for (tokens, learned) in lengths.filter(|&(_, learned)| learned > 0) {
            work.examples += 1;
            work.longest = work.longest.max(tokens);
            work.tokens += tokens;
            work.learned += learned;
        }
        work
    }
}

/// What a run will take, and what was chosen so that it fits.
#[derive(Clone, Debug, Serialize)]
pub struct TrainPlan {
    /// Bytes per part.
    pub memory: MemoryPlan,
    /// Most bytes at once.
    pub peak_bytes: u64,
    /// Top layers that keep everything between forward and backward; the others compute it twice.
    pub kept_layers: usize,
    /// Layers of the model.
    pub layers: usize,
    /// Peak with every layer computed twice: no budget below works.
    pub smallest_bytes: u64,
    /// Updates of the run.
    pub steps: u64,
    /// Trained values.
    pub parameters: usize,
    /// Multiplications and additions of an average update.
    pub flops_per_step: f64,
}

/// Plans a run. Without `options.kept_layers`, as many layers keep their activations as fit in
/// `budget` bytes; without a budget all do.
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
    if work.examples == 0 {
        let max_tokens = options.max_len;
        return Err(TrainError::NothingToLearn { max_tokens }.into());
    }
    let shape = model.llama().shape();
    let sites = options.sites(shape.layers)?;
    let lowest = match options.train_projector {
        true => 0,
        false => sites.iter().map(|s| s.layer).min().unwrap_or(0),
    };
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
    let planned = |kept| {
        let activations = ActivationPlan {
            tokens: work.longest,
            lowest,
            kept,
            max_rank: options.rank,
            dropout: options.dropout > 0.0,
        };
        memory(model, work, &activations, adapter + projector)
    };
    let visited = shape.layers - lowest;
    let fits = |kept: usize| budget.is_none_or(|b| planned(kept).peak() <= b);
    let smallest_bytes = planned(1).peak();
    let kept_layers = match options.kept_layers {
        Some(kept) => kept.min(visited).max(1),
        None => (1..=visited).rev().find(|&kept| fits(kept)).unwrap_or(1),
    };
    if !fits(kept_layers) {
        return Err(TrainError::Budget {
            needed: planned(kept_layers).peak(),
            budget: budget.unwrap_or(u64::MAX),
            smallest: smallest_bytes,
            longest: work.longest,
        }
        .into());
    }
    let memory = planned(kept_layers);
    let group = options.batch * options.grad_accum;
    let epochs = options.epochs * work.examples.div_ceil(group) as u64;
    let mean = work.tokens as f64 / work.examples as f64;
    let learned = work.learned as f64 / work.examples as f64;
    let flops = flops(shape, lowest, kept_layers, mean, learned) * group as f64
        + 6.0 * (adapter as f64) * mean * group as f64;
    Ok(TrainPlan {
        peak_bytes: memory.peak(),
        memory,
        kept_layers,
        layers: shape.layers,
        smallest_bytes,
        steps: options.steps.unwrap_or(epochs),
        parameters: adapter + projector,
        flops_per_step: flops,
    })
}

/// Every large buffer of a run.
fn memory(
    model: &Model,
    work: &Workload,
    activations: &ActivationPlan,
    parameters: usize,
) -> MemoryPlan {
    let shape = model.llama().shape();
    let (tower, patches, feature_bytes) = match model.vision() {
        Some(vision) if work.images > 0 => {
            let tower = vision.tower().shape();
            let patches = tower.patches();
            (VisionWork::bytes(tower), patches, 4 * patches * tower.width)
        }
        _ => (0, 0, 0),
    };
    let [buffers, loss, images] = SequenceBuffers::bytes(shape, activations, patches);
    let threads = model.llama().pool().threads();
    let mut plan = MemoryPlan::default();
    let files = [
        Some(model.gguf().file_bytes()),
        model.vision().map(|v| v.gguf().file_bytes()),
    ];
    plan.add(
        "weights, mapped from the files",
        Phase::Always,
        files.into_iter().flatten().sum::<u64>() as usize,
    );
    plan.add("image features", Phase::Always, work.images * feature_bytes);
    plan.add("vision tower", Phase::Images, tower);
    plan.add("activations", Phase::Work, buffers);
    plan.add("logits and loss", Phase::Work, loss);
    plan.add("projector", Phase::Work, images);
    plan.add(
        "decoded tiles and attention, per thread",
        Phase::Work,
        threads * worker_bytes(activations.tokens, activations.tokens, true),
    );
    plan.add("trained values", Phase::Work, 4 * parameters);
    plan.add("their gradients", Phase::Work, 4 * parameters);
    plan.add("AdamW moments", Phase::Work, 8 * parameters);
    plan
}

/// Multiplications and additions of one example: `tokens` positions, `learned` of them with a loss.
fn flops(shape: &LlamaShape, lowest: usize, kept: usize, tokens: f64, learned: f64) -> f64 {
    let sizes = crate::model::SiteKind::ALL.map(|kind| shape.linear(kind));
    let weights: usize = sizes.iter().map(|(outputs, inputs)| outputs * inputs).sum();
    let linear = 2.0 * weights as f64 * tokens;
    // Every position looks at half of the others on average, once for scores and once for values.
    let attention = 2.0 * tokens * tokens * shape.query_width() as f64;
    let forward = linear + attention;
    let (layers, visited) = (shape.layers as f64, (shape.layers - lowest) as f64);
    let recomputed = visited - (kept as f64).min(visited);
    // Frozen weights have no gradient, so backward costs a forward; attention's costs 2.5.
    let backward = linear + 2.5 * attention;
    let output = 4.0 * shape.width as f64 * shape.vocabulary as f64 * learned;
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
