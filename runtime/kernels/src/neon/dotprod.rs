//! Products with activations rounded to 8 bits where the processor has `sdot`: it multiplies 16 pairs of
//! bytes with a sign and adds fours of the products to sums of 32 bits. The second operand may be one
//! four of a register for all of the first, which is how a strip's rows meet a token.

use core::arch::aarch64::*;

use super::registers::{dot_quad, dot_quads, load_signed};
use super::rounded::{
    PANEL, Panel, ROWS, add_scaled, fill, load_half, multiply_in_tiles, round, subtract, vectors,
    write,
};
use crate::product::MatMut;
use crate::rounded::{Form, GROUP, Rounded, RoundedKernels, Strip, TILE};

pub(crate) static KERNELS: RoundedKernels = RoundedKernels {
    rows: ROWS,
    words: false,
    round,
    fill: fill::<4>,
    multiply,
    thin: super::thin_rounded_dotprod,
};

/// The sum of the products of `16 * N` levels with as many activations, in four parts.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot<const N: usize>(levels: &[int8x16_t; N], x: &[[i8; 16]; N]) -> int32x4_t {
    let mut sum = vdupq_n_s32(0);
    for (levels, x) in levels.iter().zip(x) {
        sum = dot_quads(sum, *levels, load_signed(x));
    }
    sum
}

multiply_in_tiles!("neon,dotprod");

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn tile_of<const T: usize>(
    form: &Form,
    c: MatMut<'_>,
    accumulate: bool,
    panel: &Panel<'_>,
    x: &Rounded<'_>,
) {
    let sums = match (form.sub, form.min) {
        (16, true) => tile::<T, 2, 1, true>(panel, x),
        (16, false) => tile::<T, 2, 1, false>(panel, x),
        (_, true) => tile::<T, 1, 2, true>(panel, x),
        _ => tile::<T, 1, 2, false>(panel, x),
    };
    write(c, accumulate, sums);
}

/// Each group has `SUBS` scales, of `HALVES` times 16 levels each.
#[inline(never)]
#[target_feature(enable = "neon,dotprod")]
fn tile<const T: usize, const SUBS: usize, const HALVES: usize, const MIN: bool>(
    panel: &Panel<'_>,
    x: &Rounded<'_>,
) -> [[float32x4_t; 2]; T] {
    let levels = panel.levels.as_chunks().0.as_chunks::<4>().0;
    let levels = levels.as_chunks::<HALVES>().0.as_chunks::<SUBS>().0;
    let scales = panel.scales.as_chunks::<SUBS>().0;
    let mins = panel.mins.as_chunks::<SUBS>().0;
    let weights = levels.iter().zip(scales).zip(mins);
    let mut totals = [[vdupq_n_f32(0.0); 2]; T];
    for (((levels, scales), mins), tokens) in weights.zip(x.groups_of::<T>()) {
        for sub in 0..SUBS {
            let mut sums = [[vdupq_n_s32(0); 2]; T];
            for (half, quads) in levels[sub].iter().enumerate() {
                let x = load_half(tokens.levels, sub + half);
                add_quad::<0, T>(&mut sums, &quads[0], &x);
                add_quad::<1, T>(&mut sums, &quads[1], &x);
                add_quad::<2, T>(&mut sums, &quads[2], &x);
                add_quad::<3, T>(&mut sums, &quads[3], &x);
            }
            add_scaled(&mut totals, &sums, &scales[sub], tokens.units);
            if MIN {
                subtract::<T, SUBS>(&mut totals, &mins[sub], &tokens, sub);
            }
        }
    }
    totals
}

/// Adds the products of four levels of each row with quad `L` of the tokens' 16 activations.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_quad<const L: usize, const T: usize>(
    sums: &mut [[int32x4_t; 2]; T],
    levels: &[[u8; 16]; 2],
    x: &[int8x16_t; T],
) {
    let levels = vectors(levels);
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, levels) in sums.iter_mut().zip(levels) {
            *sum = dot_quad::<L>(*sum, levels, *x);
        }
    }
}
