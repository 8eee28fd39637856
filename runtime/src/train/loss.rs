//! The loss of one sequence and its gradient for the last layer's rows.
//!
//! Only positions that carry a label are normed and multiplied with the output matrix, a chunk at a
//! time: the logits of a whole sequence never exist. The matrix is taken in parts of the vocabulary, so
//! that no more than one part must be in memory.

use std::ops::Range;

use graft_kernels::Kernels;
use graft_kernels::product::{Mat, MatMut};

use crate::memory::{Arena, ArenaError, Floats, MemoryPlan, Part};
use crate::model::{ActivationPlan, Linear, Llama, LlamaShape, Words, cross_entropy};

/// Bytes that the logits of a chunk take if it is longer than [`FEWEST`] positions.
const LOGITS: usize = 16 << 20;
/// Fewest and most labelled positions whose logits exist at once, if there are as many. Each chunk decodes the output
/// matrix twice.
const FEWEST: usize = 64;
const MOST: usize = 256;

/// Labelled positions whose logits exist at once with a vocabulary of `vocabulary` tokens.
pub fn chunk(vocabulary: usize) -> usize {
    let room = LOGITS / size_of::<f32>() / vocabulary.max(1);
    room.clamp(FEWEST, MOST) / FEWEST * FEWEST
}

/// Buffers of the loss.
#[derive(Debug)]
pub struct LossBuffers {
    /// Whether a part of the output matrix leaves memory after its turn.
    stream_weights: bool,
    words: Words,
    parts: Vec<(Range<usize>, Linear)>,
    rows: Floats,
    normed: Floats,
    inv_rms: Floats,
    dnormed: Floats,
    drows: Floats,
    logits: Floats,
}

impl LossBuffers {
    /// Buffers for a model; empty where a device computes the loss.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(llama: &Llama, plan: &ActivationPlan, arena: &Arena) -> Result<Self, ArenaError> {
        let [rows, normed, inv_rms, dnormed, drows, logits] =
            arena.arrays(Part::Loss, Self::floats(llama.shape(), plan))?;
        Ok(Self {
            stream_weights: plan.stream_weights,
            words: plan.words,
            parts: llama.output_parts().collect(),
            rows,
            normed,
            inv_rms,
            dnormed,
            drows,
            logits,
        })
    }

    /// Adds what [`LossBuffers::new`] takes from its arena.
    pub fn add_to(memory: &mut MemoryPlan, shape: &LlamaShape, plan: &ActivationPlan) {
        let floats: usize = Self::floats(shape, plan).iter().sum();
        memory.add(Part::Loss, floats * size_of::<f32>());
    }

    /// Does some work with each part of the output matrix; while it lasts, the next one is read.
    fn each_part(
        stream_weights: bool,
        parts: &[(Range<usize>, Linear)],
        mut work: impl FnMut(&Range<usize>, &Linear),
    ) {
        for (i, (tokens, part)) in parts.iter().enumerate() {
            if stream_weights && let Some((_, next)) = parts.get(i + 1) {
                next.prefetch();
            }
            work(tokens, part);
            if stream_weights {
                part.release();
            }
        }
    }

    fn floats(shape: &LlamaShape, plan: &ActivationPlan) -> [usize; 6] {
        let (w, v) = (shape.width, shape.vocabulary);
        let rows = if plan.loss_on_device { 0 } else { chunk(v) };
        [w, w, 1, w, w, v].map(|floats| rows * floats)
    }
}

/// Returns the summed loss over `targets` (position, label), and adds its gradient times `scale` to
/// `dhidden` where one is given. `hidden` and `dhidden` are `[T, W]`, before the final norm.
pub fn loss(
    llama: &Llama,
    hidden: &[f32],
    mut dhidden: Option<&mut [f32]>,
    targets: &[(usize, i32)],
    scale: f32,
    buffers: &mut LossBuffers,
) -> f64 {
    let shape = llama.shape();
    let width = shape.width;
    let words = buffers.words;
    let mut sum = 0.0;
    for chunk in targets.chunks(chunk(shape.vocabulary)) {
        let n = chunk.len();
        let rows = &mut buffers.rows[..n * width];
        for (row, &(position, _)) in rows.chunks_exact_mut(width).zip(chunk) {
            row.copy_from_slice(&hidden[position * width..][..width]);
        }
        let normed = &mut buffers.normed[..n * width];
        let inv_rms = &mut buffers.inv_rms[..n];
        llama.final_norm(normed, inv_rms, rows);
        let logits = &mut buffers.logits[..n * shape.vocabulary];
        LossBuffers::each_part(buffers.stream_weights, &buffers.parts, |tokens, part| {
            let mut logits = MatMut::new(logits, n, shape.vocabulary);
            let logits = logits.col_range(tokens.start, tokens.len());
            llama.pool().run(|| part.forward_to(logits, normed, words));
        });
        let mut labels = [0; MOST];
        labels
            .iter_mut()
            .zip(chunk)
            .for_each(|(l, &(_, label))| *l = label);
        let (labels, vocabulary) = (&labels[..n], shape.vocabulary);
        let losses = llama
            .pool()
            .run(|| cross_entropy(logits, labels, vocabulary, scale));
        // Row after row, so that the sum does not depend on chunks and threads.
        losses.into_iter().for_each(|loss| sum += loss);
        let Some(dhidden) = &mut dhidden else {
            continue;
        };
        let dnormed = &mut buffers.dnormed[..n * width];
        LossBuffers::each_part(buffers.stream_weights, &buffers.parts, |tokens, part| {
            let dlogits = Mat::new(logits, n, shape.vocabulary);
            let dlogits = dlogits.col_range(tokens.start, tokens.len());
            let accumulate = tokens.start > 0;
            llama
                .pool()
                .run(|| part.backward_from(dnormed, accumulate, dlogits, words));
        });
        let drows = &mut buffers.drows[..n * width];
        drows.fill(0.0);
        llama.final_norm_backward(drows, dnormed, rows, inv_rms);
        for (row, &(position, _)) in drows.chunks_exact(width).zip(chunk) {
            Kernels::detect().add(&mut dhidden[position * width..][..width], row);
        }
    }
    sum
}
