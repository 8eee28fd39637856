//! Products with activations rounded to 8 bits: strips of twice 8 rows.
//!
//! NEON multiplies bytes with a sign, so levels keep theirs, and only types that store minimums have any.
//! `smlal` multiplies 8 pairs of bytes and adds the products to as many sums of 16 bits. Those have room for
//! 16 levels of -16 to 15 and for 8 of -32 to 31, which both make at most 32,512, as two of 8 bits do.

use core::arch::aarch64::*;

use super::panel::transpose_block;
use super::registers::{
    ask_for, high, load, load_16, load_signed, low, spread_quad, store, store_all, store_levels,
    store_signed, sums_of_pairs,
};
use crate::QuantType;
use crate::panel::store_cols;
use crate::product::MatMut;
use crate::rounded::{
    DEPTH, Form, GROUP, GroupOf, Part, Rounded, RoundedKernels, RoundedMut, Strip, TILE, parts,
    places,
};

/// Rows that are unpacked together: those of a vector of floats.
const LANES: usize = 4;
/// Rows whose sums for [`TILE`] tokens a micro-kernel keeps in registers.
pub(super) const PANEL: usize = 2 * LANES;
/// Rows of a strip: two panels, so that a tile of tokens is read from the first-level cache every other
/// time.
pub(super) const ROWS: usize = 2 * PANEL;

pub(crate) static KERNELS: RoundedKernels = RoundedKernels {
    rows: ROWS,
    words: false,
    round,
    fill: fill::<4>,
    multiply,
    thin: super::thin_rounded,
};

/// See [`crate::Kernels::round`].
#[target_feature(enable = "neon")]
pub(super) fn round(out: &mut RoundedMut<'_>, x: &[f32], inputs: usize) {
    let places = places(x.len() / inputs, inputs);
    for (x, g) in x.as_chunks::<GROUP>().0.iter().zip(places) {
        let (mut most, mut poison) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
        for four in x.as_chunks().0 {
            let four = load(four);
            most = vmaxq_f32(most, vabsq_f32(four));
            poison = vfmaq_n_f32(poison, four, 0.0);
        }
        let most = vmaxvq_f32(most);
        // Below this a unit would be no normal number; such activations count as zero.
        let inverse = if most > 1e-30 { 127.0 / most } else { 0.0 };
        let unit = if most > 1e-30 { most / 127.0 } else { 0.0 };
        let unit = unit + vaddvq_f32(poison);
        let mut sums = [[0; 2]; 2];
        let outs = out.levels[g].as_chunks_mut::<16>().0.iter_mut();
        for ((x, out), sums) in x.as_chunks::<16>().0.iter().zip(outs).zip(&mut sums) {
            let mut rounded = [vdupq_n_s32(0); 4];
            for (rounded, four) in rounded.iter_mut().zip(x.as_chunks().0) {
                *rounded = vcvtnq_s32_f32(vmulq_n_f32(load(four), inverse));
            }
            let [a, b, c, d] = rounded;
            let (ab, cd) = (
                vqmovn_high_s32(vqmovn_s32(a), b),
                vqmovn_high_s32(vqmovn_s32(c), d),
            );
            let bytes = vqmovn_high_s16(vqmovn_s16(ab), cd);
            *sums = sums_of_pairs(bytes);
            store_signed(out, bytes);
        }
        let [a, b] = sums;
        out.parts[g] = parts(a, b);
        let [first, last] = sums.map(|[a, b]| f32::from(a + b));
        out.units[g] = unit;
        out.sums[g] = unit * (first + last);
        out.halves[g] = [unit * first, unit * last];
    }
}

/// The sum of the products of `16 * N` levels of `BITS` bits, at most 32, with as many activations, in
/// four parts.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn dot<const N: usize, const BITS: u8>(
    levels: &[int8x16_t; N],
    x: &[[i8; 16]; N],
) -> int32x4_t {
    let (mut wide, mut narrow) = (vdupq_n_s32(0), vdupq_n_s16(0));
    for (levels, x) in levels.iter().zip(x) {
        let x = load_signed(x);
        narrow = vmlal_s8(narrow, vget_low_s8(*levels), vget_low_s8(x));
        narrow = vmlal_high_s8(narrow, *levels, x);
        if BITS == 8 {
            wide = vpadalq_s16(wide, narrow);
            narrow = vdupq_n_s16(0);
        }
    }
    vpadalq_s16(wide, narrow)
}

/// Levels of four rows, and of each its groups.
type Levels = [[[u8; GROUP]; DEPTH / GROUP]; LANES];

/// See [`RoundedKernels::fill`]. A strip's panels lie one after the other, `[depth / DEEP][PANEL][DEEP]`
/// levels each; `DEEP` is 4 or 8.
#[target_feature(enable = "neon")]
pub(super) fn fill<const DEEP: usize>(ty: QuantType, strip: &mut Strip, part: &Part<'_>) {
    let mut levels: Levels = [[[0; GROUP]; DEPTH / GROUP]; LANES];
    for first in (0..ROWS).step_by(LANES) {
        unpack(ty, strip, part, first, &mut levels);
        let panel = &mut strip.levels[first / PANEL * PANEL * strip.depth..];
        for group in 0..strip.depth / GROUP {
            interleave::<DEEP>(panel, &levels, group, first % PANEL);
        }
    }
}

/// Unpacks four rows from `first` on, and writes their scales and minimums, `[depth / sub][PANEL]` of a
/// panel, to a strip.
#[target_feature(enable = "neon")]
fn unpack(ty: QuantType, strip: &mut Strip, part: &Part<'_>, first: usize, levels: &mut Levels) {
    let subs = strip.depth / Form::of(ty).sub;
    for (row, levels) in (first..).zip(levels) {
        let (mut scales, mut mins) = ([0.0; DEPTH / 16], [0.0; DEPTH / 16]);
        if let Some(bytes) = part.of(row) {
            super::unpack(ty, bytes, levels, &mut scales, &mut mins);
        }
        let place = row / PANEL * PANEL * subs + row % PANEL;
        let places = strip.scales[place..].iter_mut().step_by(PANEL);
        places.zip(&scales[..subs]).for_each(|(out, &s)| *out = s);
        let places = strip.mins[place..].iter_mut().step_by(PANEL);
        places.zip(&mins[..subs]).for_each(|(out, &m)| *out = m);
    }
}

/// Brings a group of four rows into a panel's order: `DEEP` levels of each row, then the next.
#[inline]
#[target_feature(enable = "neon")]
fn interleave<const DEEP: usize>(panel: &mut [u8], levels: &Levels, group: usize, first: usize) {
    for half in 0..2 {
        let mut block = [vdupq_n_s32(0); LANES];
        for (block, levels) in block.iter_mut().zip(levels) {
            *block = vreinterpretq_s32_u8(load_16(&levels[group].as_chunks().0[half]));
        }
        let [a, b, c, d] = block;
        let block = match DEEP {
            8 => [low(a, b), low(c, d), high(a, b), high(c, d)],
            _ => transpose_block(block),
        };
        let from = (2 * group + half) * 16 * PANEL;
        let places = panel[from..].chunks_exact_mut(DEEP * PANEL);
        for (out, vectors) in places.zip(block.chunks_exact(DEEP / LANES)) {
            let out = out[DEEP * first..].as_chunks_mut().0;
            for (out, v) in out.iter_mut().zip(vectors) {
                store_levels(out, vreinterpretq_s8_s32(*v));
            }
        }
    }
}

/// A panel of a strip, as micro-kernels take it.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// Vectors of levels.
    pub levels: &'a [[u8; 16]],
    pub scales: &'a [[f32; PANEL]],
    /// Only in types that have some.
    pub mins: &'a [[f32; PANEL]],
}

impl<'a> Panel<'a> {
    /// Panel `i` of a strip.
    pub fn of(strip: &'a Strip, form: &Form, i: usize) -> Self {
        let (vectors, subs) = (PANEL * strip.depth / 16, strip.depth / form.sub);
        Self {
            levels: &strip.levels.as_chunks().0[i * vectors..][..vectors],
            scales: &strip.scales.as_chunks().0[i * subs..][..subs],
            mins: &strip.mins.as_chunks().0[i * subs..][..subs],
        }
    }
}

/// The entry [`RoundedKernels::multiply`] with tiles of `tile_of`, a function beside it.
macro_rules! multiply_in_tiles {
    ($features:literal) => {
        /// See [`RoundedKernels::multiply`].
        #[target_feature(enable = $features)]
        fn multiply(form: &Form, mut c: MatMut<'_>, strip: &Strip, x: &Rounded<'_>, from: usize) {
            for first in (0..c.rows()).step_by(TILE) {
                let tokens = TILE.min(c.rows() - first);
                let x = x.tile(first, tokens, from, strip.depth / GROUP);
                let mut c = c.row_range(first, tokens);
                $crate::neon::rounded::prefetch(&mut c);
                for row in (0..c.cols()).step_by(PANEL) {
                    let panel = Panel::of(strip, form, row / PANEL);
                    let rows = PANEL.min(c.cols() - row);
                    let c = c.col_range(row, rows);
                    match tokens {
                        1 => tile_of::<1>(form, c, from > 0, &panel, &x),
                        2 => tile_of::<2>(form, c, from > 0, &panel, &x),
                        3 => tile_of::<3>(form, c, from > 0, &panel, &x),
                        _ => tile_of::<TILE>(form, c, from > 0, &panel, &x),
                    }
                }
            }
        }
    };
}
pub(super) use multiply_in_tiles;

multiply_in_tiles!("neon");

#[inline]
#[target_feature(enable = "neon")]
fn tile_of<const T: usize>(
    form: &Form,
    c: MatMut<'_>,
    accumulate: bool,
    panel: &Panel<'_>,
    x: &Rounded<'_>,
) {
    let sums = match (form.bits, form.sub, form.min) {
        (8, _, _) => bytes_tile::<T>(panel, x),
        (_, 16, true) => tile::<T, 2, 4, false, true>(panel, x),
        (_, 16, false) => tile::<T, 2, 4, false, false>(panel, x),
        (5, _, true) => tile::<T, 1, 8, true, true>(panel, x),
        (_, _, true) => tile::<T, 1, 8, false, true>(panel, x),
        _ => tile::<T, 1, 8, false, false>(panel, x),
    };
    write(c, accumulate, sums);
}

/// Each group has `SUBS` scales, of `QUADS` times four levels each. `LARGE` levels leave sums of 16 bits
/// no room for one another.
#[inline(never)]
#[target_feature(enable = "neon")]
fn tile<
    const T: usize,
    const SUBS: usize,
    const QUADS: usize,
    const LARGE: bool,
    const MIN: bool,
>(
    panel: &Panel<'_>,
    x: &Rounded<'_>,
) -> [[float32x4_t; 2]; T] {
    let levels = panel.levels.as_chunks().0;
    let levels = levels.as_chunks::<QUADS>().0.as_chunks::<SUBS>().0;
    let scales = panel.scales.as_chunks::<SUBS>().0;
    let mins = panel.mins.as_chunks::<SUBS>().0;
    let weights = levels.iter().zip(scales).zip(mins);
    let mut totals = [[vdupq_n_f32(0.0); 2]; T];
    for (((levels, scales), mins), tokens) in weights.zip(x.groups_of::<T>()) {
        for sub in 0..SUBS {
            // Of each token and each two rows the products of four levels: four sums for a row.
            let mut narrow = [[vdupq_n_s16(0); 4]; T];
            let quads = &levels[sub];
            let x = load_half(tokens.levels, sub);
            add_quad::<0, T>(&mut narrow, &quads[0], &x);
            add_quad::<1, T>(&mut narrow, &quads[1], &x);
            add_quad::<2, T>(&mut narrow, &quads[2], &x);
            add_quad::<3, T>(&mut narrow, &quads[3], &x);
            if QUADS == 8 {
                let x = load_half(tokens.levels, 1);
                add_quad::<0, T>(&mut narrow, &quads[4], &x);
                add_quad::<1, T>(&mut narrow, &quads[5], &x);
                add_quad::<2, T>(&mut narrow, &quads[6], &x);
                add_quad::<3, T>(&mut narrow, &quads[7], &x);
            }
            let mut sums = [[vdupq_n_s32(0); 2]; T];
            for (sums, narrow) in sums.iter_mut().zip(&narrow) {
                for (sum, [a, b]) in sums.iter_mut().zip(narrow.as_chunks().0) {
                    *sum = match LARGE {
                        true => vpaddq_s32(vpaddlq_s16(*a), vpaddlq_s16(*b)),
                        false => vpaddlq_s16(vpaddq_s16(*a, *b)),
                    };
                }
            }
            add_scaled(&mut totals, &sums, &scales[sub], tokens.units);
            if MIN {
                subtract::<T, SUBS>(&mut totals, &mins[sub], &tokens, sub);
            }
        }
    }
    totals
}

/// Levels of 8 bits, two tokens at a time: their sums of 32 bits leave no registers for more.
#[inline]
#[target_feature(enable = "neon")]
fn bytes_tile<const T: usize>(panel: &Panel<'_>, x: &Rounded<'_>) -> [[float32x4_t; 2]; T] {
    let mut totals = [[vdupq_n_f32(0.0); 2]; T];
    for (pair, totals) in totals.chunks_mut(2).enumerate() {
        match totals {
            [a, b] => [*a, *b] = bytes_of::<T, 2>(panel, x, 2 * pair),
            _ => [totals[0]] = bytes_of::<T, 1>(panel, x, 2 * pair),
        }
    }
    totals
}

/// The same for `N` of the `T` tokens, from `first` on.
#[inline(never)]
#[target_feature(enable = "neon")]
fn bytes_of<const T: usize, const N: usize>(
    panel: &Panel<'_>,
    x: &Rounded<'_>,
    first: usize,
) -> [[float32x4_t; 2]; N] {
    let weights = panel.levels.as_chunks().0.as_chunks::<8>().0;
    let weights = weights.iter().zip(panel.scales);
    let mut totals = [[vdupq_n_f32(0.0); 2]; N];
    for ((quads, scales), tokens) in weights.zip(x.groups_of::<T>()) {
        let x = tokens.levels[first..].first_chunk().expect("N tokens");
        let units = tokens.units[first..].first_chunk().expect("N tokens");
        let mut wide = [[vdupq_n_s32(0); 4]; N];
        for (half, quads) in quads.as_chunks::<4>().0.iter().enumerate() {
            let x = load_half(x, half);
            let mut narrow = [[vdupq_n_s16(0); 4]; N];
            add_quad::<0, N>(&mut narrow, &quads[0], &x);
            add_quad::<1, N>(&mut narrow, &quads[1], &x);
            widen(&mut wide, &narrow);
            let mut narrow = [[vdupq_n_s16(0); 4]; N];
            add_quad::<2, N>(&mut narrow, &quads[2], &x);
            add_quad::<3, N>(&mut narrow, &quads[3], &x);
            widen(&mut wide, &narrow);
        }
        let mut sums = [[vdupq_n_s32(0); 2]; N];
        for (sums, [a, b, c, d]) in sums.iter_mut().zip(wide) {
            *sums = [vpaddq_s32(a, b), vpaddq_s32(c, d)];
        }
        add_scaled(&mut totals, &sums, scales, units);
    }
    totals
}

/// Adds neighbouring sums of 16 bits to those of 32.
#[inline]
#[target_feature(enable = "neon")]
fn widen<const T: usize>(wide: &mut [[int32x4_t; 4]; T], narrow: &[[int16x8_t; 4]; T]) {
    let narrow = narrow.as_flattened();
    for (wide, narrow) in wide.as_flattened_mut().iter_mut().zip(narrow) {
        *wide = vpadalq_s16(*wide, *narrow);
    }
}

/// The first or the last 16 activations of each token's group.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_half<const T: usize>(levels: &[[i8; GROUP]; T], half: usize) -> [int8x16_t; T] {
    let mut x = [vdupq_n_s8(0); T];
    for (x, levels) in x.iter_mut().zip(levels) {
        *x = load_signed(&levels.as_chunks().0[half]);
    }
    x
}

/// Adds the products of four levels of each row with quad `L` of the tokens' 16 activations.
#[inline]
#[target_feature(enable = "neon")]
fn add_quad<const L: i32, const T: usize>(
    narrow: &mut [[int16x8_t; 4]; T],
    levels: &[[u8; 16]; 2],
    x: &[int8x16_t; T],
) {
    let [a, b] = vectors(levels);
    for (narrow, x) in narrow.iter_mut().zip(x) {
        let x = spread_quad::<L>(*x);
        narrow[0] = vmlal_s8(narrow[0], vget_low_s8(a), vget_low_s8(x));
        narrow[1] = vmlal_high_s8(narrow[1], a, x);
        narrow[2] = vmlal_s8(narrow[2], vget_low_s8(b), vget_low_s8(x));
        narrow[3] = vmlal_high_s8(narrow[3], b, x);
    }
}

/// Four levels of each row of a panel.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn vectors(levels: &[[u8; 16]; 2]) -> [int8x16_t; 2] {
    let [a, b] = levels;
    [
        vreinterpretq_s8_u8(load_16(a)),
        vreinterpretq_s8_u8(load_16(b)),
    ]
}

/// Adds what the integer sums are worth.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_scaled<const T: usize>(
    totals: &mut [[float32x4_t; 2]; T],
    sums: &[[int32x4_t; 2]; T],
    scales: &[f32; PANEL],
    units: &[f32; T],
) {
    let scales = halves_of(scales);
    for (t, totals) in totals.iter_mut().enumerate() {
        for ((total, sum), scale) in totals.iter_mut().zip(sums[t]).zip(scales) {
            let part = vmulq_n_f32(vcvtq_f32_s32(sum), units[t]);
            *total = vfmaq_f32(*total, scale, part);
        }
    }
}

/// Subtracts the minimums of part `sub` of `SUBS` times the sums of the activations.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn subtract<const T: usize, const SUBS: usize>(
    totals: &mut [[float32x4_t; 2]; T],
    mins: &[f32; PANEL],
    tokens: &GroupOf<'_, T>,
    sub: usize,
) {
    let mins = halves_of(mins);
    for (t, totals) in totals.iter_mut().enumerate() {
        let sum = tokens.sum_of::<SUBS>(t, sub);
        for (total, min) in totals.iter_mut().zip(mins) {
            *total = vfmsq_n_f32(*total, min, sum);
        }
    }
}

/// A float of each row.
#[inline]
#[target_feature(enable = "neon")]
fn halves_of(floats: &[f32; PANEL]) -> [float32x4_t; 2] {
    let [a, b] = floats.as_chunks().0 else {
        unreachable!("two vectors")
    };
    [load(a), load(b)]
}

/// Asks for the places that a tile's results will go to: they lie far apart, and the tile takes longer
/// than memory.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn prefetch(c: &mut MatMut<'_>) {
    for t in 0..c.rows() {
        for line in c.row_mut(t).chunks(16) {
            ask_for(line);
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn write<const T: usize>(
    mut c: MatMut<'_>,
    accumulate: bool,
    sums: [[float32x4_t; 2]; T],
) {
    for (t, sums) in sums.into_iter().enumerate() {
        let c = c.row_mut(t);
        if let Some(c) = c.first_chunk_mut::<PANEL>() {
            for (c, sum) in c.as_chunks_mut().0.iter_mut().zip(sums) {
                let before = match accumulate {
                    true => load(c),
                    false => vdupq_n_f32(0.0),
                };
                store(c, vaddq_f32(before, sum));
            }
        } else {
            let mut all = [0.0; PANEL];
            store_all(&mut all, sums);
            store_cols(c, accumulate, &all);
        }
    }
}
