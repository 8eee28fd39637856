//! The loss of one sequence and its gradient for the last layer's rows.
//!
//! Only positions that carry a label are normed and multiplied with the output matrix, a chunk at a
//! time: the logits of a whole sequence never exist.

use graft_kernels::Kernels;

use crate::memory::{Arena, ArenaError, Floats, MemoryPlan, Part};
use crate::model::{Llama, LlamaShape};

/// Labelled positions whose logits exist at once.
pub const CHUNK: usize = 64;

/// Buffers of the loss.
#[derive(Debug)]
pub struct LossBuffers {
    rows: Floats,
    normed: Floats,
    inv_rms: Floats,
    dnormed: Floats,
    drows: Floats,
    logits: Floats,
}

impl LossBuffers {
    /// Buffers for a model of this shape.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(shape: &LlamaShape, arena: &Arena) -> Result<Self, ArenaError> {
        let [rows, normed, inv_rms, dnormed, drows, logits] =
            arena.arrays(Part::Loss, Self::floats(shape))?;
        Ok(Self {
            rows,
            normed,
            inv_rms,
            dnormed,
            drows,
            logits,
        })
    }

    /// Adds what [`LossBuffers::new`] takes from its arena.
    pub fn add_to(memory: &mut MemoryPlan, shape: &LlamaShape) {
        let floats: usize = Self::floats(shape).iter().sum();
        memory.add(Part::Loss, floats * size_of::<f32>());
    }

    fn floats(shape: &LlamaShape) -> [usize; 6] {
        let (w, v) = (shape.width, shape.vocabulary);
        [w, w, 1, w, w, v].map(|floats| CHUNK * floats)
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
    let mut sum = 0.0;
    for chunk in targets.chunks(CHUNK) {
        let n = chunk.len();
        let rows = &mut buffers.rows[..n * width];
        for (row, &(position, _)) in rows.chunks_exact_mut(width).zip(chunk) {
            row.copy_from_slice(&hidden[position * width..][..width]);
        }
        let normed = &mut buffers.normed[..n * width];
        let inv_rms = &mut buffers.inv_rms[..n];
        llama.final_norm(normed, inv_rms, rows);
        let logits = &mut buffers.logits[..n * shape.vocabulary];
        llama.logits(logits, normed);
        let mut labels = [0; CHUNK];
        labels
            .iter_mut()
            .zip(chunk)
            .for_each(|(l, &(_, label))| *l = label);
        sum +=
            Kernels::detect().softmax_cross_entropy(logits, &labels[..n], shape.vocabulary, scale);
        let Some(dhidden) = &mut dhidden else {
            continue;
        };
        let dnormed = &mut buffers.dnormed[..n * width];
        dnormed.fill(0.0);
        llama
            .pool()
            .run(|| llama.output().backward(dnormed, logits));
        let drows = &mut buffers.drows[..n * width];
        drows.fill(0.0);
        llama.final_norm_backward(drows, dnormed, rows, inv_rms);
        for (row, &(position, _)) in drows.chunks_exact(width).zip(chunk) {
            Kernels::detect().add(&mut dhidden[position * width..][..width], row);
        }
    }
    sum
}
