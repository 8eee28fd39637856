//! Attention of a few tokens, eight rows of keys or values at a time: see [`crate::few_queries`].

use core::arch::x86_64::*;

use super::prefetch::{AHEAD, ask_for};
use super::registers::{load, spread_eight, store, sum_each};
use crate::ops::attention::AttentionShape;
use crate::product::Mat;

/// Rows that are read together.
const ROWS: usize = 8;

/// One head's columns of each of them, as vectors.
type Rows<'a> = [&'a [[f32; 8]]; ROWS];

/// See [`crate::Kernels::query_scores`]; heads are whole vectors.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn scores(
    scores: &mut [f32],
    stride: usize,
    q: &[f32],
    k: Mat<'_>,
    shape: &AttentionShape,
) {
    let (d, group) = (shape.head_width, shape.heads / shape.kv_heads);
    let scale = _mm256_set1_ps(shape.scale);
    let ahead = rows_ahead(k.cols());
    for first in (0..k.rows()).step_by(ROWS) {
        let count = ROWS.min(k.rows() - first);
        for kv_head in 0..shape.kv_heads {
            let rows = rows(k, first, kv_head * d, d);
            for i in 0..group {
                let h = kv_head * group + i;
                ask_for_some(k, first + ahead, kv_head * d, d, (i, group));
                let dots = _mm256_mul_ps(scale, dots(&q[h * d..][..d], &rows));
                let scores = &mut scores[h * stride + first..][..count];
                match scores.first_chunk_mut() {
                    Some(scores) => store(scores, dots),
                    None => {
                        let mut all = [0.0; ROWS];
                        store(&mut all, dots);
                        scores.copy_from_slice(&all[..count]);
                    }
                }
            }
        }
    }
}

/// See [`crate::Kernels::add_values`]; heads are whole vectors.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn add_values(
    out: &mut [f32],
    p: &[f32],
    stride: usize,
    v: Mat<'_>,
    shape: &AttentionShape,
) {
    let (d, group) = (shape.head_width, shape.heads / shape.kv_heads);
    let ahead = rows_ahead(v.cols());
    for first in (0..v.rows()).step_by(ROWS) {
        let count = ROWS.min(v.rows() - first);
        for kv_head in 0..shape.kv_heads {
            let rows = rows(v, first, kv_head * d, d);
            for i in 0..group {
                let h = kv_head * group + i;
                ask_for_some(v, first + ahead, kv_head * d, d, (i, group));
                let mut all = [0.0; ROWS];
                all[..count].copy_from_slice(&p[h * stride + first..][..count]);
                add_rows(&mut out[h * d..][..d], load(&all), &rows);
            }
        }
    }
}

/// The product of `q` with each row.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn dots(q: &[f32], rows: &Rows<'_>) -> __m256 {
    let q = q.as_chunks().0;
    let [a, b, c, d, e, f, g, h] = of_length(rows, q.len());
    let mut sums = [_mm256_setzero_ps(); ROWS];
    for (i, q) in q.iter().enumerate() {
        let q = load(q);
        sums[0] = _mm256_fmadd_ps(q, load(&a[i]), sums[0]);
        sums[1] = _mm256_fmadd_ps(q, load(&b[i]), sums[1]);
        sums[2] = _mm256_fmadd_ps(q, load(&c[i]), sums[2]);
        sums[3] = _mm256_fmadd_ps(q, load(&d[i]), sums[3]);
        sums[4] = _mm256_fmadd_ps(q, load(&e[i]), sums[4]);
        sums[5] = _mm256_fmadd_ps(q, load(&f[i]), sums[5]);
        sums[6] = _mm256_fmadd_ps(q, load(&g[i]), sums[6]);
        sums[7] = _mm256_fmadd_ps(q, load(&h[i]), sums[7]);
    }
    sum_each(sums)
}

/// Adds each row times its lane of `p`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_rows(out: &mut [f32], p: __m256, rows: &Rows<'_>) {
    let (out, p) = (out.as_chunks_mut().0, spread_eight(p));
    let [a, b, c, d, e, f, g, h] = of_length(rows, out.len());
    for (i, out) in out.iter_mut().enumerate() {
        // Two sums, so that fewer steps wait for each other.
        let sum = _mm256_fmadd_ps(p[0], load(&a[i]), load(out));
        let more = _mm256_mul_ps(p[1], load(&b[i]));
        let sum = _mm256_fmadd_ps(p[2], load(&c[i]), sum);
        let more = _mm256_fmadd_ps(p[3], load(&d[i]), more);
        let sum = _mm256_fmadd_ps(p[4], load(&e[i]), sum);
        let more = _mm256_fmadd_ps(p[5], load(&f[i]), more);
        let sum = _mm256_fmadd_ps(p[6], load(&g[i]), sum);
        let more = _mm256_fmadd_ps(p[7], load(&h[i]), more);
        store(out, _mm256_add_ps(sum, more));
    }
}

/// Columns of the rows from `first` on; the last row stands for those that are missing.
#[inline]
#[target_feature(enable = "avx2")]
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
#[target_feature(enable = "avx2")]
fn of_length<'a>(rows: &Rows<'a>, length: usize) -> Rows<'a> {
    let [a, b, c, d, e, f, g, h] = rows;
    let (a, b, c, d) = (&a[..length], &b[..length], &c[..length], &d[..length]);
    let (e, f, g, h) = (&e[..length], &f[..length], &g[..length], &h[..length]);
    [a, b, c, d, e, f, g, h]
}

/// How many rows behind those that are read the next ones are asked for.
fn rows_ahead(cols: usize) -> usize {
    (AHEAD / size_of::<f32>() / cols)
        .max(1)
        .next_multiple_of(ROWS)
}

/// Brings columns of every `group`th of eight rows closer, from row `share` of them on. The heads of a group share the
/// asking, since a burst of it takes longer.
#[inline]
#[target_feature(enable = "avx2")]
fn ask_for_some(m: Mat<'_>, first: usize, column: usize, d: usize, (share, group): (usize, usize)) {
    let end = m.rows().min(first + ROWS);
    let mut s = first + share;
    while s < end {
        for line in m.row(s)[column..][..d].chunks(16) {
            ask_for(line);
        }
        s += group;
    }
}
