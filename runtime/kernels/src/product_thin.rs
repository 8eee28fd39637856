//! The product of a stored matrix with a few tokens: `y[t, r] = sum_i w[r, i] * x[t, i]`.
//!
//! With few tokens the time goes into reading `w`, so each of its bytes is read once and
//! its weights are used as soon as they are decoded. This is the portable reference.

use crate::{QuantType, blocks};

/// The table entry: `(y, y_stride, x, inputs, ty, w)`, lengths already checked.
pub(crate) type ProductThin = unsafe fn(&mut [f32], usize, &[f32], usize, QuantType, &[u8]);

/// Weights decoded at once: the longest block.
const RUN: usize = 256;

/// See [`crate::Kernels::product_thin`].
pub(crate) fn product_thin(
    y: &mut [f32],
    y_stride: usize,
    x: &[f32],
    inputs: usize,
    ty: QuantType,
    w: &[u8],
) {
    let (row_bytes, run_bytes) = (
        ty.row_bytes(inputs).expect("rows are whole blocks"),
        ty.row_bytes(RUN).expect("every block length divides RUN"),
    );
    let mut run = [0.0; RUN];
    for (r, row) in w.chunks_exact(row_bytes).enumerate() {
        for (i, bytes) in row.chunks(run_bytes).enumerate() {
            let run = &mut run[..RUN.min(inputs - i * RUN)];
            blocks::decode(ty, bytes, run);
            for (t, x) in x.chunks_exact(inputs).enumerate() {
                let sum = &mut y[t * y_stride + r];
                *sum = dot(run, &x[i * RUN..][..run.len()]) + if i == 0 { 0.0 } else { *sum };
            }
        }
    }
}

/// Eight running sums, so that the reference is not much less exact than vector code.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}
