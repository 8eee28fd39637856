//! Attention of a few tokens, four rows of keys or values at a time: see [`crate::few_queries`].

use core::arch::aarch64::*;

use super::registers::{load, store};
use crate::ops::attention::AttentionShape;
use crate::product::Mat;

/// Rows that are read together.
const ROWS: usize = 4;

/// One head's columns of each of them, as vectors.
type Rows<'a> = [&'a [[f32; 4]]; ROWS];

/// See [`crate::Kernels::query_scores`]; heads are whole vectors.
#[target_feature(enable = "neon")]
pub(crate) fn scores(
    scores: &mut [f32],
    stride: usize,
    q: &[f32],
    k: Mat<'_>,
    shape: &AttentionShape,
) {
    let (d, group) = (shape.head_width, shape.heads / shape.kv_heads);
    for first in (0..k.rows()).step_by(ROWS) {
        let count = ROWS.min(k.rows() - first);
        for kv_head in 0..shape.kv_heads {
            let rows = rows(k, first, kv_head * d, d);
            for h in kv_head * group..(kv_head + 1) * group {
                let dots = dots(&q[h * d..][..d], &rows);
                let mut all = [0.0; ROWS];
                store(&mut all, vmulq_n_f32(dots, shape.scale));
                scores[h * stride + first..][..count].copy_from_slice(&all[..count]);
            }
        }
    }
}

/// See [`crate::Kernels::add_values`]; heads are whole vectors.
#[target_feature(enable = "neon")]
pub(crate) fn add_values(
    out: &mut [f32],
    p: &[f32],
    stride: usize,
    v: Mat<'_>,
    shape: &AttentionShape,
) {
    let (d, group) = (shape.head_width, shape.heads / shape.kv_heads);
    for first in (0..v.rows()).step_by(ROWS) {
        let count = ROWS.min(v.rows() - first);
        for kv_head in 0..shape.kv_heads {
            let rows = rows(v, first, kv_head * d, d);
            for h in kv_head * group..(kv_head + 1) * group {
                let mut all = [0.0; ROWS];
                all[..count].copy_from_slice(&p[h * stride + first..][..count]);
                add_rows(&mut out[h * d..][..d], load(&all), &rows);
            }
        }
    }
}

/// The product of `q` with each row.
#[inline]
#[target_feature(enable = "neon")]
fn dots(q: &[f32], rows: &Rows<'_>) -> float32x4_t {
    let q = q.as_chunks().0;
    let [a, b, c, d] = of_length(rows, q.len());
    let mut sums = [vdupq_n_f32(0.0); ROWS];
    for (i, q) in q.iter().enumerate() {
        let q = load(q);
        sums[0] = vfmaq_f32(sums[0], q, load(&a[i]));
        sums[1] = vfmaq_f32(sums[1], q, load(&b[i]));
        sums[2] = vfmaq_f32(sums[2], q, load(&c[i]));
        sums[3] = vfmaq_f32(sums[3], q, load(&d[i]));
    }
    let [a, b, c, d] = sums;
    vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d))
}

/// Adds each row times its lane of `p`.
#[inline]
#[target_feature(enable = "neon")]
fn add_rows(out: &mut [f32], p: float32x4_t, rows: &Rows<'_>) {
    let out = out.as_chunks_mut().0;
    let [a, b, c, d] = of_length(rows, out.len());
    for (i, out) in out.iter_mut().enumerate() {
        let sum = vfmaq_laneq_f32::<0>(load(out), load(&a[i]), p);
        let sum = vfmaq_laneq_f32::<1>(sum, load(&b[i]), p);
        let sum = vfmaq_laneq_f32::<2>(sum, load(&c[i]), p);
        store(out, vfmaq_laneq_f32::<3>(sum, load(&d[i]), p));
    }
}

/// Columns of the rows from `first` on; the last row stands for those that are missing.
#[inline]
#[target_feature(enable = "neon")]
fn rows(m: Mat<'_>, first: usize, column: usize, d: usize) -> Rows<'_> {
    let mut rows: Rows<'_> = [&[]; ROWS];
    for (i, row) in rows.iter_mut().enumerate() {
        let s = (first + i).min(m.rows() - 1);
        *row = m.row(s)[column..][..d].as_chunks().0;
    }
    rows
}

/// Says to the compiler that all rows have this length, before a loop rather than in it.
#[inline]
#[target_feature(enable = "neon")]
fn of_length<'a>([a, b, c, d]: &Rows<'a>, length: usize) -> Rows<'a> {
    [&a[..length], &b[..length], &c[..length], &d[..length]]
}
