//! Products with a panel: strips of four vectors of 4 floats.

use core::arch::aarch64::*;

use super::registers::{high, load, low, store};
use crate::panel::{NARROW, ROWS, store_cols};
use crate::product::{Mat, MatMut};

const LANES: usize = 4;
const VECTORS: usize = NARROW / LANES;

/// See [`crate::panel`].
#[target_feature(enable = "neon")]
pub(crate) fn product_strip(mut c: MatMut<'_>, accumulate: bool, a: Mat<'_>, b: &[f32]) {
    for row in (0..c.rows()).step_by(ROWS) {
        let rows = ROWS.min(c.rows() - row);
        let (c, a) = (c.row_range(row, rows), a.row_range(row, rows));
        match rows {
            1 => tile::<1>(c, accumulate, a, b),
            2 => tile::<2>(c, accumulate, a, b),
            3 => tile::<3>(c, accumulate, a, b),
            4 => tile::<4>(c, accumulate, a, b),
            5 => tile::<5>(c, accumulate, a, b),
            _ => tile::<ROWS>(c, accumulate, a, b),
        }
    }
}

/// `M` rows: `M * VECTORS` sums, at most 24 of the 32 registers. The elements of `a` are multiplied from
/// where four of each row were loaded, so at most six more hold those, and the last two one vector of `b`
/// each.
#[target_feature(enable = "neon")]
fn tile<const M: usize>(mut c: MatMut<'_>, accumulate: bool, a: Mat<'_>, b: &[f32]) {
    let (depths, _) = b.as_chunks::<NARROW>();
    let mut sums = [[vdupq_n_f32(0.0); VECTORS]; M];
    let (fours, rest) = depths.as_chunks::<4>();
    let rows: [(&[[f32; 4]], &[f32]); M] =
        std::array::from_fn(|i| a.row(i)[..depths.len()].as_chunks());
    for (k, [b0, b1, b2, b3]) in fours.iter().enumerate() {
        let a = rows.map(|(fours, _)| load(&fours[k]));
        add_lane::<0, M>(&mut sums, &a, b0);
        add_lane::<1, M>(&mut sums, &a, b1);
        add_lane::<2, M>(&mut sums, &a, b2);
        add_lane::<3, M>(&mut sums, &a, b3);
    }
    for (k, b) in rest.iter().enumerate() {
        let a = rows.map(|(_, rest)| vdupq_n_f32(rest[k]));
        add_lane::<0, M>(&mut sums, &a, b);
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let c = c.row_mut(i);
        if let Some(c) = c.first_chunk_mut::<NARROW>() {
            for (sum, c) in sums.into_iter().zip(c.as_chunks_mut().0) {
                let before = if accumulate {
                    load(c)
                } else {
                    vdupq_n_f32(0.0)
                };
                store(c, vaddq_f32(before, sum));
            }
        } else {
            let mut all = [0.0; NARROW];
            for (sum, all) in sums.into_iter().zip(all.as_chunks_mut().0) {
                store(all, sum);
            }
            store_cols(c, accumulate, &all);
        }
    }
}

/// Adds the products of element `L` of the four of each row with a row of the strip.
#[inline]
#[target_feature(enable = "neon")]
fn add_lane<const L: i32, const M: usize>(
    sums: &mut [[float32x4_t; VECTORS]; M],
    a: &[float32x4_t; M],
    b: &[f32; NARROW],
) {
    for (v, b) in b.as_chunks().0.iter().enumerate() {
        let b = load(b);
        for (sums, a) in sums.iter_mut().zip(a) {
            sums[v] = vfmaq_laneq_f32::<L>(sums[v], b, *a);
        }
    }
}

/// See [`crate::panel`]: blocks of 4 x 4, the rest one by one.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn transpose(out: &mut [f32], strip: usize, b: Mat<'_>) {
    let (n, k) = (b.rows() / LANES * LANES, b.cols() / LANES * LANES);
    for row in (0..n).step_by(LANES) {
        let rows: [&[[f32; LANES]]; LANES] = std::array::from_fn(|i| b.row(row + i).as_chunks().0);
        for col in 0..k / LANES {
            let block = transpose_block(rows.map(|row| vreinterpretq_s32_f32(load(&row[col]))));
            let columns = out[LANES * col * strip..].chunks_exact_mut(strip);
            for (column, out) in block.into_iter().zip(columns) {
                let out = out[row..].first_chunk_mut().expect("in the strip");
                store(out, vreinterpretq_f32_s32(column));
            }
        }
    }
    crate::panel::transpose(out, strip, b, n, k);
}

/// Four rows of 32 bits each to four columns.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn transpose_block([a, b, c, d]: [int32x4_t; 4]) -> [int32x4_t; 4] {
    // Pairs of a and b, and of c and d: 0 0 2 2 and 1 1 3 3.
    let (ab_even, ab_odd) = (vtrn1q_s32(a, b), vtrn2q_s32(a, b));
    let (cd_even, cd_odd) = (vtrn1q_s32(c, d), vtrn2q_s32(c, d));
    [
        low(ab_even, cd_even),
        low(ab_odd, cd_odd),
        high(ab_even, cd_even),
        high(ab_odd, cd_odd),
    ]
}
