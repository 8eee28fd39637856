//! How long an update will take on this machine, from short trials of everything it consists of.
//!
//! No weight of the model is read: a layer of the same shape and types stands for all of them
//! ([`Trial`]). What depends on the number of tokens is measured for few of them where that many
//! would take too long, and continued: decoding weights takes the same time for any number, products grow
//! with it, and attention with its square.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::loss::chunk as loss_tokens;
use super::moments::{MomentKind, MomentStore};
use super::workload::Load;
use super::{AdamW, Levers, TrainOptions, TrainPlan, Workload};
use crate::Result;
use crate::memory::{Arena, FloatFile};
use crate::model::{Model, SiteKind, Trial, VisionShape};

/// Where the time of an update goes.
#[derive(Clone, Debug, Serialize)]
pub struct Pace {
    /// Seconds of an average update.
    pub seconds_per_step: f64,
    /// What they are made of.
    pub parts: Vec<PacePart>,
    /// Seconds that an image takes in the vision tower, once.
    pub seconds_per_image: f64,
    /// Multiplications and additions per second of the layers' forward.
    pub flops_per_second: f64,
}

/// Seconds of a part of an update.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PacePart {
    /// What is done in them.
    pub name: &'static str,
    /// How many they are.
    pub seconds: f64,
}

impl Pace {
    /// How long the whole run takes, images included.
    pub fn whole(&self, planned: &TrainPlan, work: &Workload) -> Duration {
        let images = work.all_images() as f64 * self.seconds_per_image;
        let seconds = planned.steps as f64 * self.seconds_per_step + images;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// The part that takes longest: to be faster, begin there.
    pub fn bottleneck(&self) -> Option<PacePart> {
        let parts = self.parts.iter().copied();
        parts.max_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }
}

/// Multiplications and additions that a trial of a layer may take.
const TRIAL_FLOPS: f64 = 1.2e11;
/// Fewest tokens of a trial: fewer are another code path.
const FEWEST: usize = 32;
/// Attention is measured with so many tokens at most.
const ATTENTION_TOKENS: usize = 1024;

/// Measures how long the updates of a planned run take.
///
/// # Errors
/// If the system has no memory for a layer and its buffers.
pub fn pace(
    model: &Model,
    options: &TrainOptions,
    work: &Workload,
    planned: &TrainPlan,
) -> Result<Pace> {
    let llama = model.llama();
    let shape = llama.shape();
    let sizes = SiteKind::ALL.map(|kind| shape.linear(kind));
    let weights: usize = sizes.iter().map(|(outputs, inputs)| outputs * inputs).sum();
    let load = Load::new(work, options)?;
    let (tokens, learned) = (load.tokens, load.learned);
    let kinds = kinds(options, shape.layers);
    let mut trial = Trial::new(llama, &kinds, options.rank, options.words())?;
    let (forward, backward) = layer(&mut trial, &load, weights)?;

    let group = (options.batch * options.grad_accum) as f64;
    let visited = (shape.layers - planned.activations.lowest.min(shape.layers)) as f64;
    let again = visited - planned.kept_layers as f64;
    let mut parts = Vec::new();
    let mut add = |name, seconds: f64| {
        if seconds > 0.0 {
            parts.push(PacePart { name, seconds });
        }
    };
    add("layers, forward", group * forward * shape.layers as f64);
    // The last product of a layer is not computed a second time.
    let (outputs, inputs) = shape.linear(SiteKind::Down);
    let recompute = forward * (1.0 - (outputs * inputs) as f64 / weights as f64);
    add("layers, forward again", group * recompute * again);
    add("layers, backward", group * backward * visited);
    let chunk = (learned.ceil() as usize).clamp(1, loss_tokens(shape.vocabulary));
    let output = trial.output(chunk, shape.vocabulary) / chunk as f64;
    add("logits and loss", group * output * learned);
    // Products of a layer, and of whatever has no trial of its own.
    let flops_per_second = 2.0 * weights as f64 * tokens / forward;
    if let Some(vision) = model.vision().filter(|_| work.images > 0) {
        let projector = vision.projector();
        let (inputs, width) = (projector.inputs() as f64, projector.outputs() as f64);
        let each = 2.0 * width * (inputs + width) * vision.tower().shape().patches() as f64;
        // A trained one goes forward again, and has a gradient for the weights and one for the rows.
        let passes = if options.train_projector { 4.0 } else { 1.0 };
        add(
            "projector",
            group * load.images * passes * each / flops_per_second,
        );
    }
    add("optimizer", planned.parameters as f64 * optimizer(options)?);
    if planned.levers.stream_weights() {
        let bytes = llama.streamed_bytes(1) as f64;
        let read = bytes / reading(model);
        // Reading a layer goes on while another one computes.
        let waits = |computes: f64| (read - computes).max(0.0);
        let seconds = shape.layers as f64 * waits(forward)
            + again * waits(backward + recompute)
            + (visited - again) * waits(backward);
        add("waiting for weights", group * seconds);
    }
    if planned.disk_bytes_per_step > 0.0 {
        let seconds = planned.disk_bytes_per_step / writing(&planned.levers);
        add("values on the disk", seconds);
    }
    let seconds_per_image = model.vision().map_or(0.0, |vision| {
        tower_flops(vision.tower().shape()) / flops_per_second
    });
    Ok(Pace {
        seconds_per_step: parts.iter().map(|part| part.seconds).sum(),
        parts,
        seconds_per_image,
        flops_per_second,
    })
}

/// Kinds of sites that have a pair in most layers.
fn kinds(options: &TrainOptions, layers: usize) -> Vec<SiteKind> {
    let sites = options.sites(layers).unwrap_or_default();
    let of: Vec<SiteKind> = sites
        .iter()
        .filter_map(|site| Some(site.in_layer()?.1))
        .collect();
    let in_half = |kind: &SiteKind| 2 * of.iter().filter(|of| *of == kind).count() >= layers;
    SiteKind::ALL.into_iter().filter(in_half).collect()
}

/// Seconds of a layer with `weights` weights for an average pack, forward and backward.
fn layer(trial: &mut Trial, load: &Load, weights: usize) -> Result<(f64, f64)> {
    let tokens = load.tokens;
    let (forward, backward) = sequence(trial, tokens, weights)?;
    // Attention grows with the square of a sample's length: packed samples need less of it than one of
    // their length together, and samples of different lengths more than as many of the mean.
    let other = load.squares / (tokens * tokens) - 1.0;
    if other.abs() < 0.05 {
        return Ok((forward, backward));
    }
    let attention = attention(trial, tokens);
    Ok((
        (forward + other * attention.0).max(0.0),
        (backward + other * attention.1).max(0.0),
    ))
}

/// Seconds that attention takes for `tokens` tokens, forward and backward.
fn attention(trial: &Trial, tokens: f64) -> (f64, f64) {
    let many = (tokens.ceil() as usize).min(ATTENTION_TOKENS);
    let square = (tokens / many as f64).powi(2);
    let (forward, backward) = trial.attention(many);
    (square * forward, square * backward)
}

/// Seconds of a layer with `weights` weights for one sequence of `tokens` tokens, forward and backward.
fn sequence(trial: &mut Trial, tokens: f64, weights: usize) -> Result<(f64, f64)> {
    let most = ((TRIAL_FLOPS / (2.0 * weights as f64)) as usize).max(2 * FEWEST);
    let wanted = tokens.ceil() as usize;
    if wanted <= most {
        return trial.layer(wanted);
    }
    let few = (most / 4).max(FEWEST);
    let (low, high) = (trial.layer(few)?, trial.layer(most)?);
    let (low_attention, high_attention) = (trial.attention(few), trial.attention(most));
    let attention = attention(trial, tokens);
    let longer = |low: f64, high: f64, attention: f64| {
        let each = (high - low).max(0.0) / (most - few) as f64;
        high + each * (tokens - most as f64) + attention
    };
    Ok((
        longer(
            low.0 - low_attention.0,
            high.0 - high_attention.0,
            attention.0,
        ),
        longer(
            low.1 - low_attention.1,
            high.1 - high_attention.1,
            attention.1,
        ),
    ))
}

/// Seconds that the optimizer takes for each value.
fn optimizer(options: &TrainOptions) -> Result<f64> {
    const VALUES: usize = 1 << 18;
    let kind = MomentKind {
        optimizer: options.optimizer,
        folder: None,
    };
    let mut store = MomentStore::new(&[VALUES], &kind, &Arena::unlimited())?;
    let (mut values, mut gradients) = (vec![0.1; VALUES], vec![0.0; VALUES]);
    let mut took = f64::INFINITY;
    for step in 1..=3 {
        let begun = Instant::now();
        gradients.fill(0.1_f32);
        let norm: f64 = gradients.iter().map(|&g| f64::from(g).powi(2)).sum();
        store.update(0, |first, mean, square| {
            let piece = first..first + mean.len();
            let (values, gradients) = (&mut values[piece.clone()], &gradients[piece]);
            let scale = 1.0 / norm.sqrt() as f32;
            AdamW::default().update(values, (mean, square), gradients, scale, 1e-4, step);
            Ok::<(), crate::Error>(())
        })?;
        took = took.min(begun.elapsed().as_secs_f64());
    }
    Ok(took / VALUES as f64)
}

/// Bytes per second at which the model's file is read now. A file that cannot be read is no slower than
/// any other: the run itself will say so.
fn reading(model: &Model) -> f64 {
    const MOST: u64 = 64 << 20;
    let measured = || -> std::io::Result<f64> {
        let Some(path) = model.gguf().path() else {
            return Ok(f64::INFINITY);
        };
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let most = MOST.min(bytes);
        file.seek(SeekFrom::Start((bytes - most) / 2))?;
        let mut piece = vec![0; 1 << 20];
        let (begun, mut read) = (Instant::now(), 0);
        while read < most {
            match file.read(&mut piece)? {
                0 => break,
                n => read += n as u64,
            }
        }
        Ok(read as f64 / begun.elapsed().as_secs_f64().max(1e-9))
    };
    measured().unwrap_or(f64::INFINITY)
}

/// Bytes per second at which values are written and read where the levers put them.
fn writing(levers: &Levers) -> f64 {
    const FLOATS: usize = 4 << 20;
    let measured = || -> Result<f64> {
        let mut values = vec![0.5; FLOATS];
        let mut file = FloatFile::create(&levers.folder(), FLOATS)?;
        let begun = Instant::now();
        file.write(0, &values)?;
        file.read(0, &mut values)?;
        let bytes = 2 * FLOATS * size_of::<f32>();
        Ok(bytes as f64 / begun.elapsed().as_secs_f64().max(1e-9))
    };
    measured().unwrap_or(1e9)
}

/// Multiplications and additions of one image.
fn tower_flops(shape: &VisionShape) -> f64 {
    let (tokens, width) = (shape.patches() as f64 + 1.0, shape.width as f64);
    let patch = 2.0 * tokens * width * (3 * shape.patch * shape.patch) as f64;
    let linear = 2.0 * tokens * width * (4.0 * width + 2.0 * shape.feed_forward as f64);
    let attention = 4.0 * tokens * tokens * width;
    patch + shape.blocks as f64 * (linear + attention)
}
