//! Products with activations rounded to 8 bits where the processor has `smmla`: it multiplies two tokens'
//! eight activations with two rows' eight levels and adds the 32 products to four sums of 32 bits.
//!
//! A single token would leave half of that unused, so thin products are those with `sdot`.

use core::arch::aarch64::*;

use super::registers::{high, load_16, low, multiply_pairs};
use super::rounded::{
    PANEL, Panel, ROWS, add_scaled, fill, load_half, multiply_in_tiles, round, subtract, write,
};
use crate::product::MatMut;
use crate::rounded::{Form, GROUP, Rounded, RoundedKernels, Strip, TILE};

/// Pairs of rows of a panel.
const PAIRS: usize = PANEL / 2;

pub(crate) static KERNELS: RoundedKernels = RoundedKernels {
    rows: ROWS,
    words: false,
    round,
    fill: fill::<8>,
    multiply,
    thin: super::thin_rounded_dotprod,
};

multiply_in_tiles!("neon,i8mm");

#[inline]
#[target_feature(enable = "neon,i8mm")]
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
#[target_feature(enable = "neon,i8mm")]
fn tile<const T: usize, const SUBS: usize, const HALVES: usize, const MIN: bool>(
    panel: &Panel<'_>,
    x: &Rounded<'_>,
) -> [[float32x4_t; 2]; T] {
    let levels = panel.levels.as_chunks::<PAIRS>().0.as_chunks::<2>().0;
    let levels = levels.as_chunks::<HALVES>().0.as_chunks::<SUBS>().0;
    let scales = panel.scales.as_chunks::<SUBS>().0;
    let mins = panel.mins.as_chunks::<SUBS>().0;
    let weights = levels.iter().zip(scales).zip(mins);
    let mut totals = [[vdupq_n_f32(0.0); 2]; T];
    for (((levels, scales), mins), tokens) in weights.zip(x.groups_of::<T>()) {
        for sub in 0..SUBS {
            // Of each pair of tokens and of rows: both rows' of the first token, then of the next.
            let mut wide = [[vdupq_n_s32(0); PAIRS]; TILE / 2];
            for (half, levels) in levels[sub].iter().enumerate() {
                let x = load_half(tokens.levels, sub + half);
                for (pair, wide) in wide[..T.div_ceil(2)].iter_mut().enumerate() {
                    // A token without a next is multiplied twice.
                    let (a, b) = (x[2 * pair], x[(2 * pair + 1).min(T - 1)]);
                    let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
                    for (x, levels) in [low(a, b), high(a, b)].into_iter().zip(levels) {
                        let x = vreinterpretq_s8_s32(x);
                        for (wide, levels) in wide.iter_mut().zip(levels) {
                            let levels = vreinterpretq_s8_u8(load_16(levels));
                            *wide = multiply_pairs(*wide, x, levels);
                        }
                    }
                }
            }
            let mut sums = [[vdupq_n_s32(0); 2]; T];
            for (t, sums) in sums.iter_mut().enumerate() {
                let [a, b, c, d] = wide[t / 2];
                *sums = match t % 2 {
                    0 => [low(a, b), low(c, d)],
                    _ => [high(a, b), high(c, d)],
                };
            }
            add_scaled(&mut totals, &sums, &scales[sub], tokens.units);
            if MIN {
                subtract::<T, SUBS>(&mut totals, &mins[sub], &tokens, sub);
            }
        }
    }
    totals
}
