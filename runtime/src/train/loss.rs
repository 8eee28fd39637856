//! The loss of one sequence and its gradient for the last layer's rows.
//!
//! Only positions that carry a label are normed and multiplied with the output matrix, a chunk at a
//! time: the logits of a whole sequence never exist.

use graft_kernels::Kernels;

use crate::model::{Llama, LlamaShape};

/// Labelled positions whose logits exist at once.
const CHUNK: usize = 64;

/// Buffers of the loss.
#[derive(Debug)]
pub struct LossBuffers {
    rows: Vec<f32>,
    normed: Vec<f32>,
    inv_rms: Vec<f32>,
    dnormed: Vec<f32>,
    drows: Vec<f32>,
    logits: Vec<f32>,
}

impl LossBuffers {
    /// Buffers for a model of this shape.
    pub fn new(shape: &LlamaShape) -> Self {
        let rows = || vec![0.0; CHUNK * shape.width];
        Self {
            rows: rows(),
            normed: rows(),
            inv_rms: vec![0.0; CHUNK],
            dnormed: rows(),
            drows: rows(),
            logits: vec![0.0; CHUNK * shape.vocabulary],
        }
    }

    /// Bytes that [`LossBuffers::new`] allocates.
    pub fn bytes(shape: &LlamaShape) -> usize {
        CHUNK * (4 * shape.width + 1 + shape.vocabulary) * size_of::<f32>()
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
