//! Products with activations rounded to 8 bits: strips of two vectors of 8 rows.
//!
//! `vpmaddubsw` multiplies 32 levels without sign with 32 activations and adds neighbours in 16 bits;
//! levels of up to six bits leave room there for the sum of a whole sub-block. Levels of 8 bits are
//! multiplied as words.

use core::arch::x86_64::*;

use super::panel::transpose_block;
use super::prefetch::{ask_for, ask_for_bytes};
use super::quads::{eight_quads, factored_quads, four_quads, groups_of_words};
use super::registers::{
    half, largest, load, load_8_bytes, load_16, load_32, load_halves, spread_pair, spread_quad,
    store, store_32, store_halves, store_signed, sum, sums_of_pairs,
};
use crate::QuantType;
use crate::blocks::q6_k;
use crate::panel::store_cols;
use crate::product::MatMut;
use crate::rounded::{
    DEPTH, Form, GROUP, Part, Rounded, RoundedKernels, RoundedMut, Strip, TILE, Unpacked, parts,
    places,
};

/// Lanes of 32 bits in a vector, each of one row.
pub(super) const LANES: usize = 8;
/// Rows of a strip.
pub(super) const ROWS: usize = 2 * LANES;

pub(crate) static KERNELS: RoundedKernels = RoundedKernels {
    rows: ROWS,
    words: true,
    round,
    fill,
    multiply,
    thin: super::thin_rounded,
};

/// See [`crate::Kernels::round`].
#[target_feature(enable = "avx2,fma")]
pub(crate) fn round(out: &mut RoundedMut<'_>, x: &[f32], inputs: usize) {
    let places = places(x.len() / inputs, inputs);
    for (x, g) in x.as_chunks::<GROUP>().0.iter().zip(places) {
        let floats = x.as_chunks::<8>().0;
        let (inverse, unit) = unit_of(x, 127.0);
        let mut rounded = [_mm256_setzero_si256(); 4];
        for (rounded, eight) in rounded.iter_mut().zip(floats) {
            let scaled = _mm256_mul_ps(load(eight), _mm256_set1_ps(inverse));
            *rounded = _mm256_cvtps_epi32(scaled);
        }
        let [a, b, c, d] = rounded;
        // Packing works within halves: dwords 0 and 4 of the result lie together.
        let (ab, cd) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let bytes = _mm256_packs_epi16(ab, cd);
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        store_signed(&mut out.levels[g], bytes);
        if let Some(words) = out.words.get_mut(g) {
            let [low, high] = words.as_chunks_mut::<16>().0 else {
                unreachable!("twice 16 words")
            };
            store_halves(low, _mm256_permute4x64_epi64(ab, 0b11_01_10_00));
            store_halves(high, _mm256_permute4x64_epi64(cd, 0b11_01_10_00));
        }
        let [a, b] = sums_of_pairs(bytes);
        out.parts[g] = parts(a, b);
        let [low, high] = [a[0] + a[1], b[0] + b[1]];
        out.units[g] = unit;
        out.sums[g] = unit * (low + high) as f32;
        out.halves[g] = [unit * low as f32, unit * high as f32];
    }
}

/// Below this a unit would be no normal number; a group of such numbers counts as zeros.
pub(super) const TINY: f32 = 1e-30;

/// What a group's floats are multiplied by so that the largest becomes `greatest`, and what an integer is worth then: NaN
/// if one of them is not finite.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn unit_of(x: &[f32; GROUP], greatest: f32) -> (f32, f32) {
    let (mut most, mut poison) = (_mm256_setzero_ps(), _mm256_setzero_ps());
    for eight in x.as_chunks::<8>().0 {
        let eight = load(eight);
        most = _mm256_max_ps(most, _mm256_andnot_ps(_mm256_set1_ps(-0.0), eight));
        poison = _mm256_fmadd_ps(eight, _mm256_setzero_ps(), poison);
    }
    let most = largest(most);
    let (inverse, unit) = match most > TINY {
        true => (greatest / most, most / greatest),
        false => (0.0, 0.0),
    };
    (inverse, unit + sum(poison))
}

/// See [`RoundedKernels::fill`].
#[target_feature(enable = "avx2,fma,f16c")]
fn fill(ty: QuantType, strip: &mut Strip, part: &Part<'_>) {
    let form = Form::of(ty);
    if form.bits < 8 {
        fill_bytes::<ROWS>(ty, strip, part);
        if ty == QuantType::Q6K {
            return fill_factors(strip, part);
        }
        let places = strip.depth / form.sub * ROWS;
        let mins = strip.mins[..places].iter_mut().zip(&strip.scales[..]);
        match (form.bits, form.min) {
            (4, false) => mins.for_each(|(min, scale)| *min = form.bias as f32 * scale),
            (5, true) => mins.for_each(|(min, scale)| *min -= MIDDLE as f32 * scale),
            _ => {}
        }
        return;
    }
    for first in (0..ROWS).step_by(LANES) {
        unpack::<ROWS>(ty, 0, strip, part, first);
        for group in 0..strip.depth / GROUP {
            interleave_words(&mut strip.levels[..], &strip.unpacked, group, first);
        }
    }
}

/// Fills a strip of `R` rows with bytes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn fill_bytes<const R: usize>(ty: QuantType, strip: &mut Strip, part: &Part<'_>) {
    for first in (0..R).step_by(LANES) {
        unpack::<R>(ty, Form::of(ty).bias, strip, part, first);
        for group in 0..strip.depth / GROUP {
            interleave::<R>(&mut strip.levels[..], &strip.unpacked, group, first);
        }
    }
}

/// Unpacks eight rows from `first` on, and writes their scales and minimums to a strip of `R` rows.
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack<const R: usize>(
    ty: QuantType,
    bias: u8,
    strip: &mut Strip,
    part: &Part<'_>,
    first: usize,
) {
    let Unpacked {
        levels,
        scales,
        mins,
    } = &mut **strip.unpacked;
    let rows = levels.iter_mut().zip(&mut *scales).zip(&mut *mins);
    for (i, ((levels, scales), mins)) in rows.enumerate() {
        // Rows that are none have any levels: nobody reads what becomes of them.
        if let Some(bytes) = part.of(first + i) {
            // The next strip's, which is unpacked after this one was multiplied.
            ask_for_bytes(bytes, R * part.row_bytes);
            super::unpack(ty, bytes, bias, levels, scales, mins);
        }
    }
    let form = Form::of(ty);
    let subs = strip.depth / form.sub;
    interleave_floats::<R>(&mut strip.scales[..], scales, subs, first);
    if form.min {
        interleave_floats::<R>(&mut strip.mins[..], mins, subs, first);
    }
}

/// Brings `subs` floats of each of eight rows into a strip's order: one of each row, then the next.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave_floats<const R: usize>(
    out: &mut [f32],
    rows: &[[f32; DEPTH / 16]; LANES],
    subs: usize,
    first: usize,
) {
    for (eight, out) in out
        .chunks_exact_mut(8 * R)
        .take(subs.div_ceil(8))
        .enumerate()
    {
        let mut block = [_mm256_setzero_ps(); LANES];
        for (block, row) in block.iter_mut().zip(rows) {
            *block = load(&row.as_chunks().0[eight]);
        }
        for (out, column) in out.chunks_exact_mut(R).zip(transpose_block(block)) {
            let out = out[first..].first_chunk_mut().expect("in the strip");
            store(out, column);
        }
    }
}

/// Brings a group of eight rows into a strip's order: four levels of each row, then the next four.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave<const R: usize>(out: &mut [u8], rows: &Unpacked, group: usize, first: usize) {
    let mut block = [_mm256_setzero_ps(); LANES];
    for (block, levels) in block.iter_mut().zip(&rows.levels) {
        *block = _mm256_castsi256_ps(load_32(&levels[group]));
    }
    let places = out[group * GROUP * R..].chunks_exact_mut(4 * R);
    for (out, quads) in places.zip(transpose_block(block)) {
        let out = out[4 * first..].first_chunk_mut().expect("in the strip");
        store_32(out, _mm256_castps_si256(quads));
    }
}

/// The same in words: two levels of each row, then the next two.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave_words(out: &mut [u8], rows: &Unpacked, group: usize, first: usize) {
    for half in 0..2 {
        let mut block = [_mm256_setzero_ps(); LANES];
        for (block, levels) in block.iter_mut().zip(&rows.levels) {
            let bytes = levels[group].as_chunks::<16>().0[half];
            *block = _mm256_castsi256_ps(_mm256_cvtepi8_epi16(load_16(&bytes)));
        }
        let from = (2 * group + half) * 8 * 4 * ROWS;
        let places = out[from..].chunks_exact_mut(4 * ROWS);
        for (out, pairs) in places.zip(transpose_block(block)) {
            let out = out[4 * first..].first_chunk_mut().expect("in the strip");
            store_32(out, _mm256_castps_si256(pairs));
        }
    }
}

/// See [`RoundedKernels::multiply`].
#[target_feature(enable = "avx2,fma")]
pub(super) fn multiply(
    form: &Form,
    mut c: MatMut<'_>,
    strip: &Strip,
    x: &Rounded<'_>,
    from: usize,
) {
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
#[target_feature(enable = "avx2,fma")]
fn tile_of<const T: usize>(
    form: &Form,
    c: MatMut<'_>,
    accumulate: bool,
    strip: &Strip,
    x: &Rounded<'_>,
) {
    let sums = match (form.bits, form.min) {
        (2, _) => tile::<T, 2, 4, 0, true>(strip, x),
        (3, _) => tile::<T, 2, 4, 4, false>(strip, x),
        (4, _) => tile::<T, 1, 8, 0, true>(strip, x),
        (5, true) => tile::<T, 1, 8, MIDDLE, true>(strip, x),
        (5, false) => tile::<T, 1, 8, MIDDLE, false>(strip, x),
        (6, _) => factors_tile::<T>(strip, x),
        _ => words_tile::<T>(strip, x),
    };
    write(c, accumulate, sums);
}

/// What levels of five bits are counted from.
const MIDDLE: i16 = 16;

/// Each group has `SUBS` scales, of `QUADS` times four levels each. Levels are counted from `ZERO` on,
/// which keeps the sum of a sub-block's products within 16 bits: 32 * 127 * 2 * 4 at most.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn tile<const T: usize, const SUBS: usize, const QUADS: usize, const ZERO: i16, const MIN: bool>(
    strip: &Strip,
    x: &Rounded<'_>,
) -> [[__m256; 2]; T] {
    let levels = strip.levels.as_chunks::<{ 4 * ROWS }>().0;
    let levels = levels.as_chunks::<QUADS>().0.as_chunks::<SUBS>().0;
    let scales = strip.scales.as_chunks().0.as_chunks::<SUBS>().0;
    let mins = strip.mins.as_chunks().0.as_chunks::<SUBS>().0;
    let weights = levels.iter().zip(scales).zip(mins);
    let mut totals = [[_mm256_setzero_ps(); 2]; T];
    for (((levels, scales), mins), tokens) in weights.zip(x.groups_of::<T>()) {
        for sub in 0..SUBS {
            let narrow = sums_of(&levels[sub], tokens.levels, sub);
            let (scales, mins) = (halves_of(&scales[sub]), halves_of(&mins[sub]));
            for (t, (totals, [mut a, mut b])) in totals.iter_mut().zip(narrow).enumerate() {
                if ZERO != 0 {
                    let parts = spread_pair(&tokens.parts[t][if SUBS == 1 { 2 } else { sub }]);
                    let zero = _mm256_mullo_epi16(parts, _mm256_set1_epi16(ZERO));
                    (a, b) = (_mm256_sub_epi16(a, zero), _mm256_sub_epi16(b, zero));
                }
                let ones = _mm256_set1_epi16(1);
                let wide = [_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones)];
                add_scaled(totals, &wide, scales, tokens.units[t]);
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

/// The sums over some quads of levels times the activations from `16 * part` on, in 16 bits.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums_of<const T: usize, const QUADS: usize>(
    levels: &[[u8; 4 * ROWS]; QUADS],
    tokens: &[[i8; GROUP]; T],
    part: usize,
) -> [[__m256i; 2]; T] {
    let mut narrow = [[_mm256_setzero_si256(); 2]; T];
    if let Some(tokens) = tokens.first_chunk::<TILE>() {
        let sums = match levels.first_chunk::<8>() {
            Some(levels) => eight_quads(levels, tokens),
            None => four_quads(levels.first_chunk().expect("four quads"), tokens, part),
        };
        narrow.copy_from_slice(&sums);
        return narrow;
    }
    for (quad, levels) in levels.iter().enumerate() {
        let w = vectors(levels);
        for (narrow, x) in narrow.iter_mut().zip(tokens) {
            let x = spread_quad(&x.as_chunks().0[4 * part + quad]);
            for (narrow, w) in narrow.iter_mut().zip(w) {
                *narrow = _mm256_add_epi16(*narrow, _mm256_maddubs_epi16(w, x));
            }
        }
    }
    narrow
}

/// Writes the factors of Q6_K, whose scales are bytes times a float of the block.
#[target_feature(enable = "avx2,fma,f16c")]
fn fill_factors(strip: &mut Strip, part: &Part<'_>) {
    for first in (0..ROWS).step_by(LANES) {
        let rows: [&[_]; LANES] =
            std::array::from_fn(|i| part.of(first + i).unwrap_or_default().as_chunks().0);
        for block in 0..strip.depth / q6_k::LEN {
            for (i, row) in rows.iter().enumerate() {
                let d = row.get(block).map_or(0.0, |b| half(q6_k::Block::of(b).d));
                strip.blocks[block * ROWS + first + i] = d;
            }
            for eight in 0..2 {
                let mut factors = [_mm256_setzero_ps(); LANES];
                for (factors, row) in factors.iter_mut().zip(rows) {
                    if let Some(block) = row.get(block) {
                        let scales = q6_k::Block::of(block).scales.as_chunks().0;
                        *factors = _mm256_castsi256_ps(signed_twice(&scales[eight]));
                    }
                }
                let sub = 16 * block + 8 * eight;
                let places = strip.factors[sub * ROWS..].chunks_exact_mut(ROWS);
                for (out, column) in places.zip(transpose_block(factors)) {
                    let out = out[first..][..LANES].as_flattened_mut();
                    let out = out.first_chunk_mut().expect("two for each row");
                    store_halves(out, _mm256_castps_si256(column));
                }
            }
        }
    }
}

/// Bytes with a sign as words, each twice.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_twice(bytes: &[u8; 8]) -> __m256i {
    let high = _mm256_slli_epi32(load_8_bytes(bytes), 24);
    let low = _mm256_srli_epi32(_mm256_srai_epi32(high, 8), 16);
    _mm256_or_si256(_mm256_slli_epi32(_mm256_srai_epi32(high, 24), 16), low)
}

/// Levels of Q6_K, 16 of which share a factor. Multiplying integers by it spares each sub-block a float
/// multiplication; the sum of four products of at most 32512 * 127 is exact in 32 bits and as a float.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn factors_tile<const T: usize>(strip: &Strip, x: &Rounded<'_>) -> [[__m256; 2]; T] {
    const GROUPS: usize = q6_k::LEN / GROUP;
    let quads = strip.levels.as_chunks::<{ 4 * ROWS }>().0;
    let levels = quads.as_chunks::<4>().0.as_chunks::<2>().0;
    let factors = strip.factors.as_chunks::<ROWS>().0.as_chunks::<2>().0;
    let weights = levels.iter().zip(factors);
    let mut groups = weights.zip(x.groups_of::<T>());
    let blocks = strip.blocks.as_chunks().0;
    let mut totals = [[_mm256_setzero_ps(); 2]; T];
    for units in &blocks[..strip.depth / q6_k::LEN] {
        let mut partial = [[_mm256_setzero_ps(); 2]; T];
        for ((levels, factors), tokens) in groups.by_ref().take(GROUPS) {
            let mut wide = [[_mm256_setzero_si256(); 2]; T];
            let four = tokens.levels.first_chunk().zip(tokens.parts.first_chunk());
            if let Some((x, parts)) = four {
                let levels = levels.as_flattened().first_chunk().expect("eight quads");
                wide.copy_from_slice(&factored_quads(levels, factors, x, parts));
            } else {
                for (sub, (levels, factors)) in levels.iter().zip(factors).enumerate() {
                    let narrow = sums_of(levels, tokens.levels, sub);
                    let [low, high] = factors.as_flattened().as_chunks().0 else {
                        unreachable!("two vectors")
                    };
                    let factors = [load_halves(low), load_halves(high)];
                    for (t, (wide, narrow)) in wide.iter_mut().zip(narrow).enumerate() {
                        let zero = spread_pair(&tokens.parts[t][3 + sub]);
                        for ((wide, narrow), factor) in wide.iter_mut().zip(narrow).zip(factors) {
                            let part = _mm256_madd_epi16(_mm256_sub_epi16(narrow, zero), factor);
                            *wide = _mm256_add_epi32(*wide, part);
                        }
                    }
                }
            }
            for (t, (partial, wide)) in partial.iter_mut().zip(wide).enumerate() {
                let unit = _mm256_set1_ps(tokens.units[t]);
                for (partial, wide) in partial.iter_mut().zip(wide) {
                    *partial = _mm256_fmadd_ps(_mm256_cvtepi32_ps(wide), unit, *partial);
                }
            }
        }
        let units = halves_of(units);
        for (totals, partial) in totals.iter_mut().zip(partial) {
            for ((total, partial), unit) in totals.iter_mut().zip(partial).zip(units) {
                *total = _mm256_fmadd_ps(partial, unit, *total);
            }
        }
    }
    totals
}

/// Bytes with a sign, and words, which lie in the strip as words and have no minimums.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn words_tile<const T: usize>(strip: &Strip, x: &Rounded<'_>) -> [[__m256; 2]; T] {
    let levels = strip.levels.as_chunks::<{ 4 * ROWS }>().0;
    let (levels, scales) = (levels.as_chunks::<16>().0, strip.scales.as_chunks().0);
    let mut totals = [[_mm256_setzero_ps(); 2]; T];
    if T == TILE {
        let (tokens, units) = (x.words.as_chunks().0, x.units.as_chunks().0);
        totals.copy_from_slice(&groups_of_words(levels, scales, tokens, units));
        return totals;
    }
    let weights = levels.iter().zip(scales);
    let tokens = x.words.as_chunks::<T>().0.iter();
    let tokens = tokens.zip(x.units.as_chunks::<T>().0);
    for ((levels, scales), (x, units)) in weights.zip(tokens) {
        let mut wide = [[_mm256_setzero_si256(); 2]; T];
        for (pair, levels) in levels.iter().enumerate() {
            let w = vectors(levels);
            for (wide, x) in wide.iter_mut().zip(x) {
                let x = spread_pair(&x.as_chunks().0[pair]);
                for (wide, w) in wide.iter_mut().zip(w) {
                    *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(w, x));
                }
            }
        }
        let scales = halves_of(scales);
        for (t, (totals, wide)) in totals.iter_mut().zip(&wide).enumerate() {
            add_scaled(totals, wide, scales, units[t]);
        }
    }
    totals
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn add_scaled(
    totals: &mut [__m256; 2],
    wide: &[__m256i; 2],
    scales: [__m256; 2],
    unit: f32,
) {
    for ((total, wide), scale) in totals.iter_mut().zip(wide).zip(scales) {
        let part = _mm256_mul_ps(_mm256_cvtepi32_ps(*wide), _mm256_set1_ps(unit));
        *total = _mm256_fmadd_ps(scale, part, *total);
    }
}

/// A float of each row.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn halves_of(floats: &[f32; ROWS]) -> [__m256; 2] {
    let [low, high] = floats.as_chunks().0 else {
        unreachable!("two vectors")
    };
    [load(low), load(high)]
}

/// Four bytes, or two words, of each row.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn vectors(levels: &[u8; 4 * ROWS]) -> [__m256i; 2] {
    let [low, high] = levels.as_chunks().0 else {
        unreachable!("two vectors")
    };
    [load_32(low), load_32(high)]
}

/// Asks for the places that a tile's results will go to: they lie far apart, and the tile takes longer
/// than memory.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn prefetch(c: &mut MatMut<'_>) {
    for t in 0..c.rows() {
        for line in c.row_mut(t).chunks(16) {
            ask_for(line);
        }
    }
}

/// Writes or adds the sums of as many tokens as `c` has.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn write<const T: usize>(mut c: MatMut<'_>, accumulate: bool, sums: [[__m256; 2]; T]) {
    for (t, sums) in (0..c.rows()).zip(sums) {
        let c = c.row_mut(t);
        if let Some(c) = c.first_chunk_mut::<ROWS>() {
            for (c, sum) in c.as_chunks_mut().0.iter_mut().zip(sums) {
                let before = match accumulate {
                    true => load(c),
                    false => _mm256_setzero_ps(),
                };
                store(c, _mm256_add_ps(before, sum));
            }
        } else {
            let mut all = [0.0; ROWS];
            for (all, sum) in all.as_chunks_mut().0.iter_mut().zip(sums) {
                store(all, sum);
            }
            store_cols(c, accumulate, &all);
        }
    }
}
