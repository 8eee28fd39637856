//! Products with a panel: strips of two vectors of 8 floats.

use core::arch::x86_64::*;

use super::prefetch::ask_for;
use super::registers::{load, store};
use crate::panel::{NARROW, ROWS, store_cols, tiles};
use crate::product::{Mat, MatMut};

/// Depths between two looks at how long the rows are.
const STEP: usize = 4;
const LANES: usize = 8;
const VECTORS: usize = NARROW / LANES;

/// See [`crate::panel`].
#[target_feature(enable = "avx2,fma")]
pub(crate) fn product_strip(mut c: MatMut<'_>, accumulate: bool, a: Mat<'_>, b: &[f32]) {
    for rows in tiles(c.rows()) {
        let (row, rows) = (rows.start, rows.len());
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

/// `M` rows: `M * VECTORS` sums in registers.
#[target_feature(enable = "avx2,fma")]
fn tile<const M: usize>(mut c: MatMut<'_>, accumulate: bool, a: Mat<'_>, b: &[f32]) {
    for i in 0..M {
        // The results lie far apart, and the tile takes longer than memory.
        for line in c.row_mut(i).chunks(16) {
            ask_for(line);
        }
    }
    let (depths, _) = b.as_chunks::<NARROW>();
    let (whole, rest) = depths.as_chunks::<STEP>();
    let mut rows: [(&[[f32; STEP]], &[f32]); M] = [(&[], &[]); M];
    for (i, row) in rows.iter_mut().enumerate() {
        *row = a.row(i)[..depths.len()].as_chunks();
    }
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; M];
    for (k, b) in whole.iter().enumerate() {
        let mut a = [&[0.0; STEP]; M];
        for (a, row) in a.iter_mut().zip(&rows) {
            *a = &row.0[k];
        }
        for (k, b) in b.iter().enumerate() {
            let b = [load(part(b, 0)), load(part(b, LANES))];
            for (sums, a) in sums.iter_mut().zip(a) {
                let a = _mm256_set1_ps(a[k]);
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = _mm256_fmadd_ps(a, b, *sum);
                }
            }
        }
    }
    for (k, b) in rest.iter().enumerate() {
        let b = [load(part(b, 0)), load(part(b, LANES))];
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let a = _mm256_set1_ps(row.1[k]);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = _mm256_fmadd_ps(a, b, *sum);
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let c = c.row_mut(i);
        if let Some(c) = c.first_chunk_mut::<NARROW>() {
            for (sum, c) in sums.into_iter().zip(c.as_chunks_mut::<LANES>().0) {
                let before = if accumulate {
                    load(c)
                } else {
                    _mm256_setzero_ps()
                };
                store(c, _mm256_add_ps(before, sum));
            }
        } else {
            let mut all = [0.0; NARROW];
            for (sum, all) in sums.into_iter().zip(all.as_chunks_mut::<LANES>().0) {
                store(all, sum);
            }
            store_cols(c, accumulate, &all);
        }
    }
}

/// See [`crate::panel`]: blocks of 8 x 8, the rest one by one.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn transpose(out: &mut [f32], strip: usize, b: Mat<'_>) {
    let (n, k) = (b.rows() / LANES * LANES, b.cols() / LANES * LANES);
    for row in (0..n).step_by(LANES) {
        let rows: [&[f32]; LANES] = std::array::from_fn(|i| b.row(row + i));
        for col in (0..k).step_by(LANES) {
            let mut block = [_mm256_setzero_ps(); LANES];
            for (block, row) in block.iter_mut().zip(rows) {
                *block = load(part(row, col));
            }
            let columns = out[col * strip..].chunks_exact_mut(strip);
            for (column, out) in transpose_block(block).into_iter().zip(columns) {
                let out = out[row..].first_chunk_mut().expect("in the strip");
                store(out, column);
            }
        }
    }
    crate::panel::transpose(out, strip, b, n, k);
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose_block(r: [__m256; 8]) -> [__m256; 8] {
    let [a, b, c, d] = transpose_four([r[0], r[1], r[2], r[3]]);
    let [e, f, g, h] = transpose_four([r[4], r[5], r[6], r[7]]);
    [
        _mm256_permute2f128_ps(a, e, 0x20),
        _mm256_permute2f128_ps(b, f, 0x20),
        _mm256_permute2f128_ps(c, g, 0x20),
        _mm256_permute2f128_ps(d, h, 0x20),
        _mm256_permute2f128_ps(a, e, 0x31),
        _mm256_permute2f128_ps(b, f, 0x31),
        _mm256_permute2f128_ps(c, g, 0x31),
        _mm256_permute2f128_ps(d, h, 0x31),
    ]
}

/// Transposes the lower and the upper halves of four rows.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_four(r: [__m256; 4]) -> [__m256; 4] {
    let (a, b) = (
        _mm256_unpacklo_ps(r[0], r[1]),
        _mm256_unpackhi_ps(r[0], r[1]),
    );
    let (c, d) = (
        _mm256_unpacklo_ps(r[2], r[3]),
        _mm256_unpackhi_ps(r[2], r[3]),
    );
    [
        _mm256_shuffle_ps(a, c, 0b01_00_01_00),
        _mm256_shuffle_ps(a, c, 0b11_10_11_10),
        _mm256_shuffle_ps(b, d, 0b01_00_01_00),
        _mm256_shuffle_ps(b, d, 0b11_10_11_10),
    ]
}

/// The vector of floats that starts at `at`.
fn part(floats: &[f32], at: usize) -> &[f32; LANES] {
    floats[at..].first_chunk().expect("a whole vector")
}
