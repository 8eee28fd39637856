//! What a layer does to each row or element alone, cut for threads.

use graft_kernels::Kernels;
use graft_kernels::ops::rope::RopeTable;
use rayon::prelude::*;

use super::{Layer, Pass};

impl Layer {
    /// Writes the norm of each row of `x` to `y`, and what it was divided by.
    pub(super) fn norm(&self, y: &mut [f32], inv_rms: &mut [f32], x: &[f32], weight: &[f32]) {
        let floats = TOKENS_PER_PIECE * weight.len();
        y.par_chunks_mut(floats)
            .zip(inv_rms.par_chunks_mut(TOKENS_PER_PIECE))
            .zip(x.par_chunks(floats))
            .for_each(|((y, inv_rms), x)| {
                self.kernels
                    .rms_norm_forward(y, inv_rms, x, weight, self.norm_eps);
            });
    }

    /// Adds to `dx` what the gradient `dy` of the norm of `x` means for it.
    pub(super) fn norm_backward(
        &self,
        dx: &mut [f32],
        dy: &[f32],
        x: &[f32],
        weight: &[f32],
        inv_rms: &[f32],
    ) {
        let floats = TOKENS_PER_PIECE * weight.len();
        dx.par_chunks_mut(floats)
            .zip(dy.par_chunks(floats))
            .zip(x.par_chunks(floats))
            .zip(inv_rms.par_chunks(TOKENS_PER_PIECE))
            .for_each(|(((dx, dy), x), inv)| {
                self.kernels.rms_norm_backward(dx, dy, x, weight, inv);
            });
    }

    /// `y = silu(gate) * up`.
    pub(super) fn activate(&self, y: &mut [f32], gate: &[f32], up: &[f32]) {
        y.par_chunks_mut(FLOATS_PER_PIECE)
            .zip(gate.par_chunks(FLOATS_PER_PIECE))
            .zip(up.par_chunks(FLOATS_PER_PIECE))
            .for_each(|((y, gate), up)| self.kernels.swiglu_forward(y, gate, up));
    }

    /// Writes to `dgate` and `dup` what the gradient of [`Layer::activate`]'s result means for them.
    pub(super) fn activate_backward(
        &self,
        (dgate, dup): (&mut [f32], &mut [f32]),
        dy: &[f32],
        gate: &[f32],
        up: &[f32],
    ) {
        dgate
            .par_chunks_mut(FLOATS_PER_PIECE)
            .zip(dup.par_chunks_mut(FLOATS_PER_PIECE))
            .zip(dy.par_chunks(FLOATS_PER_PIECE))
            .zip(gate.par_chunks(FLOATS_PER_PIECE))
            .zip(up.par_chunks(FLOATS_PER_PIECE))
            .for_each(|((((dgate, dup), dy), gate), up)| {
                dgate.fill(0.0);
                dup.fill(0.0);
                self.kernels.swiglu_backward(dgate, dup, dy, gate, up);
            });
    }

    /// `x += update`.
    pub(super) fn add(&self, x: &mut [f32], update: &[f32]) {
        elementwise(x, update, Kernels::add);
    }

    /// Rotates queries or keys, or their gradients back.
    pub(super) fn turn(&self, x: &mut [f32], heads: usize, pass: &Pass<'_>, rotate: Rotate) {
        let head_width = self.attention.head_width;
        let width = heads * head_width;
        let pieces = x.par_chunks_mut(TOKENS_PER_PIECE * width).enumerate();
        pieces.for_each(|(i, x)| {
            let first = i * TOKENS_PER_PIECE;
            for (rows, start) in pass.parts(first..first + x.len() / width) {
                let x = &mut x[rows.start * width..rows.end * width];
                rotate(self.kernels, x, heads, head_width, start, pass.rope);
            }
        });
    }
}

type Rotate = fn(&Kernels, &mut [f32], usize, usize, usize, &RopeTable);

/// Has `work` change `y` by the elements of `x` at the same places.
pub(super) fn elementwise(y: &mut [f32], x: &[f32], work: fn(&Kernels, &mut [f32], &[f32])) {
    let kernels = Kernels::detect();
    y.par_chunks_mut(FLOATS_PER_PIECE)
        .zip(x.par_chunks(FLOATS_PER_PIECE))
        .for_each(|(y, x)| work(kernels, y, x));
}

/// The loss of each row of logits `[T, V]`, which become the gradient times `scale`: see
/// [`Kernels::softmax_cross_entropy`]. Runs in the calling thread's pool.
///
/// # Panics
/// If a label is neither `IGNORED` nor below `vocabulary`.
pub fn cross_entropy(
    logits: &mut [f32],
    labels: &[i32],
    vocabulary: usize,
    scale: f32,
) -> Vec<f64> {
    let kernels = Kernels::detect();
    let rows = logits.par_chunks_mut(vocabulary).zip(labels.par_chunks(1));
    rows.map(|(row, label)| kernels.softmax_cross_entropy(row, label, vocabulary, scale))
        .collect()
}

/// Tokens that one piece of an elementwise operator works on.
const TOKENS_PER_PIECE: usize = 16;

/// The norm's result once more, from what its forward kept.
pub(super) fn norm_again(y: &mut [f32], inv_rms: &[f32], x: &[f32], weight: &[f32]) {
    let width = weight.len();
    y.par_chunks_mut(width)
        .zip(x.par_chunks(width))
        .zip(inv_rms)
        .with_min_len(TOKENS_PER_PIECE)
        .for_each(|((y, x), &inv)| {
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inv * w;
            }
        });
}

/// Floats that one piece of an operator without rows works on.
pub(super) const FLOATS_PER_PIECE: usize = 16 * 1024;
