//! Products with activations rounded to 8 bits where the processor has AVX-512 VNNI: strips of
//! four vectors of 16 rows.

use core::arch::x86_64::*;

use super::registers::{load, load_64, spread_pair, spread_quad, store};
use crate::QuantType;
use crate::avx2::rounded::{fill_bytes, prefetch, round};
use crate::avx2::thin_rounded_avx512_vnni;
use crate::panel::store_cols;
use crate::product::MatMut;
use crate::rounded::{Form, GROUP, Part, Rounded, RoundedKernels, Strip, TILE};

/// Vectors of a strip: of 16 rows each.
const VECTORS: usize = 4;
/// Rows of a strip.
const ROWS: usize = 16 * VECTORS;

pub(crate) static KERNELS: RoundedKernels = RoundedKernels {
    rows: ROWS,
    words: false,
    round,
    fill,
    multiply,
    thin: thin_rounded_avx512_vnni,
};

/// See [`RoundedKernels::fill`].
#[target_feature(enable = "avx2,fma,f16c")]
fn fill(ty: QuantType, strip: &mut Strip, part: &Part<'_>) {
    fill_bytes::<ROWS>(ty, strip, part);
}

/// See [`RoundedKernels::multiply`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn multiply(form: &Form, mut c: MatMut<'_>, strip: &Strip, x: &Rounded<'_>, from: usize) {
    for first in (0..c.rows()).step_by(TILE) {
        let tokens = TILE.min(c.rows() - first);
        let x = x.tile(first, tokens, from, strip.depth / GROUP);
        let mut c = c.row_range(first, tokens);
        prefetch(&mut c);
        match tokens {
            1 => tile_of::<1>(form, c, from > 0, strip, &x),
            2 => tile_of::<2>(form, c, from > 0, strip, &x),
            3 => tile_of::<3>(form, c, from > 0, strip, &x),
            _ => tile_of::<TILE>(form, c, from > 0, strip, &x),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile_of<const T: usize>(
    form: &Form,
    c: MatMut<'_>,
    accumulate: bool,
    strip: &Strip,
    x: &Rounded<'_>,
) {
    match (form.sub, form.min) {
        (16, true) => tile::<T, 2, 4, true>(form, c, accumulate, strip, x),
        (16, false) => tile::<T, 2, 4, false>(form, c, accumulate, strip, x),
        (_, true) => tile::<T, 1, 8, true>(form, c, accumulate, strip, x),
        (_, false) => tile::<T, 1, 8, false>(form, c, accumulate, strip, x),
    }
}

/// Each group has `SUBS` scales, of `QUADS` times four levels each; the levels are counted from the form's
/// bias on.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile<const T: usize, const SUBS: usize, const QUADS: usize, const MIN: bool>(
    form: &Form,
    mut c: MatMut<'_>,
    accumulate: bool,
    strip: &Strip,
    x: &Rounded<'_>,
) {
    let levels = strip.levels.as_chunks::<64>().0.as_chunks::<VECTORS>().0;
    let levels = levels.as_chunks::<QUADS>().0.as_chunks::<SUBS>().0;
    let scales = strip.scales.as_chunks::<16>().0.as_chunks::<VECTORS>().0;
    let mins = strip.mins.as_chunks::<16>().0.as_chunks::<VECTORS>().0;
    let scales = scales
        .as_chunks::<SUBS>()
        .0
        .iter()
        .zip(mins.as_chunks::<SUBS>().0);
    let zero = _mm512_set1_epi16(-i16::from(form.bias));
    let mut totals = [[_mm512_setzero_ps(); VECTORS]; T];
    let weights = levels.iter().zip(scales);
    for ((levels, (scales, mins)), tokens) in weights.zip(x.groups_of::<T>()) {
        for sub in 0..SUBS {
            let mut wide = [[_mm512_setzero_si512(); VECTORS]; T];
            if !MIN {
                for (t, wide) in wide.iter_mut().enumerate() {
                    let parts = spread_pair(&tokens.parts[t][if SUBS == 1 { 2 } else { sub }]);
                    *wide = [_mm512_madd_epi16(parts, zero); VECTORS];
                }
            }
            for (quad, levels) in levels[sub].iter().enumerate() {
                let mut w = [_mm512_setzero_si512(); VECTORS];
                for (w, levels) in w.iter_mut().zip(levels) {
                    *w = load_64(levels);
                }
                for (wide, x) in wide.iter_mut().zip(tokens.levels) {
                    let x = spread_quad(&x.as_chunks().0[sub * QUADS + quad]);
                    for (wide, w) in wide.iter_mut().zip(w) {
                        *wide = _mm512_dpbusd_epi32(*wide, w, x);
                    }
                }
            }
            for (t, (totals, wide)) in totals.iter_mut().zip(&wide).enumerate() {
                let unit = _mm512_set1_ps(tokens.units[t]);
                let sum = _mm512_set1_ps(tokens.sum_of::<SUBS>(t, sub));
                for (v, (total, wide)) in totals.iter_mut().zip(wide).enumerate() {
                    let part = _mm512_mul_ps(_mm512_cvtepi32_ps(*wide), unit);
                    *total = _mm512_fmadd_ps(load(&scales[sub][v]), part, *total);
                    if MIN {
                        *total = _mm512_fnmadd_ps(load(&mins[sub][v]), sum, *total);
                    }
                }
            }
        }
    }
    for (t, totals) in totals.into_iter().enumerate() {
        let c = c.row_mut(t);
        if let Some(c) = c.first_chunk_mut::<ROWS>() {
            for (c, total) in c.as_chunks_mut().0.iter_mut().zip(totals) {
                let before = match accumulate {
                    true => load(c),
                    false => _mm512_setzero_ps(),
                };
                store(c, _mm512_add_ps(before, total));
            }
        } else {
            let mut all = [0.0; ROWS];
            for (all, total) in all.as_chunks_mut().0.iter_mut().zip(totals) {
                store(all, total);
            }
            store_cols(c, accumulate, &all);
        }
    }
}
