//! Products with activations rounded to 8 bits where the processor has AVX-VNNI: `vpdpbusd` multiplies
//! 32 levels without sign with 32 activations and adds fours of the products to sums of 32 bits.

use core::arch::x86_64::*;

use super::registers::{spread_pair, spread_quad, sum_halves};
use super::rounded::{ROWS, add_scaled, fill_bytes, halves_of, prefetch, round, vectors, write};
use crate::product::MatMut;
use crate::rounded::{Form, GROUP, Rounded, RoundedKernels, Strip, TILE};

pub(crate) static KERNELS: RoundedKernels = RoundedKernels {
    rows: ROWS,
    words: false,
    round,
    fill: fill_bytes::<ROWS>,
    multiply,
    thin: super::thin_rounded_vnni,
};

/// The sum of the products of 32 levels without sign with activations, in eight parts: the first four
/// belong to the first 16 levels.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
pub(super) fn dot(levels: __m256i, x: __m256i) -> __m256i {
    _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), levels, x)
}

/// The sum of each group's products, as in [`crate::avx2::registers`].
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
pub(super) fn dots_of_eight(levels: [[__m256i; 2]; 4], x: [[__m256i; 2]; 4]) -> __m256i {
    let mut dots = [_mm256_setzero_si256(); 4];
    for (dots, (levels, x)) in dots.iter_mut().zip(levels.iter().zip(x)) {
        *dots = _mm256_dpbusd_avx_epi32(dot(levels[0], x[0]), levels[1], x[1]);
    }
    sum_halves(dots)
}

/// See [`RoundedKernels::multiply`].
#[target_feature(enable = "avx2,fma,avxvnni")]
fn multiply(form: &Form, mut c: MatMut<'_>, strip: &Strip, x: &Rounded<'_>, from: usize) {
    for first in (0..c.rows()).step_by(TILE) {
        let tokens = TILE.min(c.rows() - first);
        let x = x.tile(first, tokens, from, strip.depth / GROUP);
        let mut c = c.row_range(first, tokens);
        prefetch(&mut c);
        match tokens {
            1 => write(c, from > 0, tile_of::<1>(form, strip, &x)),
            2 => write(c, from > 0, tile_of::<2>(form, strip, &x)),
            3 => write(c, from > 0, tile_of::<3>(form, strip, &x)),
            _ => write(c, from > 0, tile_of::<TILE>(form, strip, &x)),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,avxvnni")]
fn tile_of<const T: usize>(form: &Form, strip: &Strip, x: &Rounded<'_>) -> [[__m256; 2]; T] {
    match (form.sub, form.min) {
        (16, true) => tile::<T, 2, 4, true>(form, strip, x),
        (16, false) => tile::<T, 2, 4, false>(form, strip, x),
        (_, true) => tile::<T, 1, 8, true>(form, strip, x),
        (_, false) => tile::<T, 1, 8, false>(form, strip, x),
    }
}

/// Each group has `SUBS` scales, of `QUADS` times four levels each; the levels are counted from the form's
/// bias on.
#[inline(never)]
#[target_feature(enable = "avx2,fma,avxvnni")]
fn tile<const T: usize, const SUBS: usize, const QUADS: usize, const MIN: bool>(
    form: &Form,
    strip: &Strip,
    x: &Rounded<'_>,
) -> [[__m256; 2]; T] {
    let levels = strip.levels.as_chunks::<{ 4 * ROWS }>().0;
    let levels = levels.as_chunks::<QUADS>().0.as_chunks::<SUBS>().0;
    let scales = strip.scales.as_chunks().0.as_chunks::<SUBS>().0;
    let mins = strip.mins.as_chunks().0.as_chunks::<SUBS>().0;
    let weights = levels.iter().zip(scales).zip(mins);
    let zero = _mm256_set1_epi16(-i16::from(form.bias));
    let mut totals = [[_mm256_setzero_ps(); 2]; T];
    for (((levels, scales), mins), tokens) in weights.zip(x.groups_of::<T>()) {
        for sub in 0..SUBS {
            let mut wide = [[_mm256_setzero_si256(); 2]; T];
            if !MIN {
                for (t, wide) in wide.iter_mut().enumerate() {
                    let parts = spread_pair(&tokens.parts[t][if SUBS == 1 { 2 } else { sub }]);
                    *wide = [_mm256_madd_epi16(parts, zero); 2];
                }
            }
            for (quad, levels) in levels[sub].iter().enumerate() {
                let w = vectors(levels);
                for (wide, x) in wide.iter_mut().zip(tokens.levels) {
                    let x = spread_quad(&x.as_chunks().0[sub * QUADS + quad]);
                    for (wide, w) in wide.iter_mut().zip(w) {
                        *wide = _mm256_dpbusd_avx_epi32(*wide, w, x);
                    }
                }
            }
            let (scales, mins) = (halves_of(&scales[sub]), halves_of(&mins[sub]));
            for (t, (totals, wide)) in totals.iter_mut().zip(&wide).enumerate() {
                add_scaled(totals, wide, scales, tokens.units[t]);
                if MIN {
                    let sum = tokens.sum_of::<SUBS>(t, sub);
                    for (total, min) in totals.iter_mut().zip(mins) {
                        *total = _mm256_fnmadd_ps(min, _mm256_set1_ps(sum), *total);
                    }
                }
            }
        }
    }
    totals
}
