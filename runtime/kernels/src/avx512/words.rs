//! Tiles of six tokens and up to two strips, a vector of sixteen columns each, in words: see [`crate::words`].
//!
//! `vpdpwssd` multiplies 32 words and adds them where a multiplication of floats takes 16, so that a tile's sums and totals
//! stay in registers. The bits are those of AVX2, whose functions round and pack.

use core::arch::x86_64::*;

use super::registers::{load, load_pairs, spread_pair, store};
use crate::avx2::prefetch::ask_for_rows;
use crate::avx2::rounded::prefetch;
use crate::avx2::words::{pack_columns, pack_rows, round};
use crate::panel::store_cols;
use crate::product::{Mat, MatMut};
use crate::words::{GROUP, PanelGroup, STRIP, TILE, TileGroup, WordKernels};

/// Strips of a tile.
const STRIPS: usize = 2;

pub(crate) static KERNELS: WordKernels = WordKernels {
    strips: STRIPS,
    round,
    pack_rows,
    pack_columns,
    multiply,
};

/// See [`WordKernels::multiply`].
#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply(
    mut c: MatMut<'_>,
    accumulate: bool,
    tile: &[TileGroup],
    strips: &[PanelGroup],
    next: Mat<'_>,
) {
    prefetch(&mut c);
    ask_for_rows(next);
    match c.cols() > STRIP {
        true => write(c, accumulate, sums::<STRIPS>(tile, strips)),
        false => write(c, accumulate, sums::<1>(tile, strips)),
    }
}

/// What every token of a tile and every column of `S` strips give over all groups.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn sums<const S: usize>(tile: &[TileGroup], strips: &[PanelGroup]) -> [[__m512; S]; TILE] {
    assert_eq!(strips.len(), S * tile.len(), "as many groups");
    let mut totals = [[_mm512_setzero_ps(); S]; TILE];
    for (g, group) in tile.iter().enumerate() {
        let mut columns = [&strips[g]; S];
        for (s, columns) in columns.iter_mut().enumerate() {
            *columns = &strips[s * tile.len() + g];
        }
        let mut wide = [[_mm512_setzero_si512(); S]; TILE];
        for pair in 0..GROUP / 2 {
            let mut w = [_mm512_setzero_si512(); S];
            for (w, columns) in w.iter_mut().zip(columns) {
                *w = load_pairs(&columns.words[pair]);
            }
            for (wide, x) in wide.iter_mut().zip(&group.words) {
                let x = spread_pair(&x.as_chunks().0[pair]);
                for (wide, w) in wide.iter_mut().zip(w) {
                    *wide = _mm512_dpwssd_epi32(*wide, w, x);
                }
            }
        }
        for (t, (totals, wide)) in totals.iter_mut().zip(wide).enumerate() {
            let unit = _mm512_set1_ps(group.units[t]);
            for ((total, wide), columns) in totals.iter_mut().zip(wide).zip(columns) {
                let scale = _mm512_mul_ps(load(&columns.scales), unit);
                *total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(wide), scale, *total);
            }
        }
    }
    totals
}

/// Writes or adds the sums of as many tokens and columns as `c` has.
#[inline]
#[target_feature(enable = "avx512f")]
fn write<const S: usize>(mut c: MatMut<'_>, accumulate: bool, sums: [[__m512; S]; TILE]) {
    for (t, sums) in (0..c.rows()).zip(sums) {
        for (c, sum) in c.row_mut(t).chunks_mut(STRIP).zip(sums) {
            if let Some(c) = c.first_chunk_mut::<STRIP>() {
                let before = match accumulate {
                    true => load(c),
                    false => _mm512_setzero_ps(),
                };
                store(c, _mm512_add_ps(before, sum));
            } else {
                let mut all = [0.0; STRIP];
                store(&mut all, sum);
                store_cols(c, accumulate, &all);
            }
        }
    }
}
