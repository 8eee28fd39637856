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
            let mut write = |h: usize, dots| {
                let scores = &mut scores[h * stride + first..][..count];
                let dots = _mm256_mul_ps(scale, dots);
                match scores.first_chunk_mut() {
                    Some(scores) => store(scores, dots),
                    None => {
                        let mut all = [0.0; ROWS];
                        store(&mut all, dots);
                        scores.copy_from_slice(&all[..count]);
                    }
                }
            };
            for i in (0..group).step_by(2) {
                let h = kv_head * group + i;
                ask_for_some(k, first + ahead, kv_head * d, d, (i, group));
                let one = &q[h * d..][..d];
                if i + 1 == group {
                    write(h, dots(one, &rows));
                    break;
                }
                ask_for_some(k, first + ahead, kv_head * d, d, (i + 1, group));
                let [one, other] = dots_of_two([one, &q[(h + 1) * d..][..d]], &rows);
                write(h, one);
                write(h + 1, other);
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
            let weights = |h: usize| {
                let mut all = [0.0; ROWS];
                all[..count].copy_from_slice(&p[h * stride + first..][..count]);
                all
            };
            for i in (0..group).step_by(2) {
                let h = kv_head * group + i;
                ask_for_some(v, first + ahead, kv_head * d, d, (i, group));
                if i + 1 == group {
                    add_rows(&mut out[h * d..][..d], &weights(h), &rows);
                    break;
                }
                ask_for_some(v, first + ahead, kv_head * d, d, (i + 1, group));
                let both = out[h * d..][..2 * d].split_at_mut(d);
                add_rows_to_two(both.into(), [&weights(h), &weights(h + 1)], &rows);
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

/// [`dots`] of two queries, which share what is loaded.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn dots_of_two([one, other]: [&[f32]; 2], rows: &Rows<'_>) -> [__m256; 2] {
    let (one, other) = (one.as_chunks().0, other.as_chunks().0);
    let [a, b, c, d, e, f, g, h] = of_length(rows, one.len());
    let mut both = [_mm256_setzero_ps(); 2];
    for (both, [a, b, c, d]) in both.iter_mut().zip([[a, b, c, d], [e, f, g, h]]) {
        let mut sums = [_mm256_setzero_ps(); 8];
        for (i, (one, other)) in one.iter().zip(other).enumerate() {
            let (one, other) = (load(one), load(other));
            let rows = [load(&a[i]), load(&b[i]), load(&c[i]), load(&d[i])];
            for k in 0..4 {
                sums[k] = _mm256_fmadd_ps(one, rows[k], sums[k]);
                sums[4 + k] = _mm256_fmadd_ps(other, rows[k], sums[4 + k]);
            }
        }
        *both = sum_each(sums);
    }
    let [first, last] = both;
    [
        _mm256_permute2f128_ps::<0x20>(first, last),
        _mm256_permute2f128_ps::<0x31>(first, last),
    ]
}

/// Adds each row times its number in `p`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_rows(out: &mut [f32], p: &[f32; ROWS], rows: &Rows<'_>) {
    let (out, p) = (out.as_chunks_mut().0, spread_eight(load(p)));
    let [first, last] = p.as_chunks().0 else {
        unreachable!("twice four rows")
    };
    let [a, b, c, d, e, f, g, h] = of_length(rows, out.len());
    for (i, out) in out.iter_mut().enumerate() {
        let four = [load(&a[i]), load(&b[i]), load(&c[i]), load(&d[i])];
        let sum = add_four(load(out), first, &four);
        let four = [load(&e[i]), load(&f[i]), load(&g[i]), load(&h[i])];
        store(out, add_four(sum, last, &four));
    }
}

/// [`add_rows`] for two queries, which share what is loaded.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_rows_to_two([one, other]: [&mut [f32]; 2], p: [&[f32; ROWS]; 2], rows: &Rows<'_>) {
    let (one, other) = (one.as_chunks_mut().0, other.as_chunks_mut().0);
    let [a, b, c, d, e, f, g, h] = of_length(rows, one.len());
    for (half, [a, b, c, d]) in [[a, b, c, d], [e, f, g, h]].into_iter().enumerate() {
        let [p, q] = p.map(|p| p.as_chunks::<4>().0[half]);
        let (p, q) = (each(&p), each(&q));
        for (i, (one, other)) in one.iter_mut().zip(&mut *other).enumerate() {
            let four = [load(&a[i]), load(&b[i]), load(&c[i]), load(&d[i])];
            store(one, add_four(load(one), &p, &four));
            store(other, add_four(load(other), &q, &four));
        }
    }
}

/// Four numbers, each eight times.
#[inline]
#[target_feature(enable = "avx2")]
fn each(numbers: &[f32; 4]) -> [__m256; 4] {
    let [a, b, c, d] = *numbers;
    [
        _mm256_set1_ps(a),
        _mm256_set1_ps(b),
        _mm256_set1_ps(c),
        _mm256_set1_ps(d),
    ]
}

/// Adds four vectors times four others, in two sums, so that fewer steps wait for each other.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_four(sum: __m256, p: &[__m256; 4], four: &[__m256; 4]) -> __m256 {
    let sum = _mm256_fmadd_ps(p[0], four[0], sum);
    let more = _mm256_mul_ps(p[1], four[1]);
    let sum = _mm256_fmadd_ps(p[2], four[2], sum);
    let more = _mm256_fmadd_ps(p[3], four[3], more);
    _mm256_add_ps(sum, more)
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
