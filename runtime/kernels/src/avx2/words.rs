//! Weights in F16 and BF16, and activations, as words of 14 bits: see [`crate::rounded::Grain::Words`].
//!
//! `vpmaddwd` multiplies 16 pairs where a multiplication of floats takes 8, and the sum of a group's products
//! is exact in 32 bits.

use core::arch::x86_64::*;

use super::floats::{bf16, f16};
use super::panel::transpose_block;
use super::prefetch::ask_for_bytes;
use super::registers::{load, store, store_32, store_halves};
use super::rounded::{LANES, ROWS, TINY, unit_of};
use crate::QuantType;
use crate::rounded::{GROUP, LARGEST_WORD, Part, Strip, places};

/// Bytes of a group of weights.
const GROUP_BYTES: usize = 2 * GROUP;
/// The pairs of words that packing two vectors of integers leaves in each place.
const PACKED: [usize; 8] = [0, 1, 4, 5, 2, 3, 6, 7];

/// See [`crate::Kernels::round_finely`].
#[target_feature(enable = "avx2,fma")]
pub(crate) fn round_finely(
    words: &mut [[i16; GROUP]],
    units: &mut [f32],
    x: &[f32],
    inputs: usize,
) {
    let places = places(x.len() / inputs, inputs);
    for (x, g) in x.as_chunks::<GROUP>().0.iter().zip(places) {
        let floats = x.as_chunks::<8>().0;
        let (inverse, unit) = unit_of(x, LARGEST_WORD);
        units[g] = unit;
        let inverse = _mm256_set1_ps(inverse);
        let outs = words[g].as_chunks_mut::<16>().0;
        for (out, [a, b]) in outs.iter_mut().zip(floats.as_chunks::<2>().0) {
            let integers = |eight| _mm256_cvtps_epi32(_mm256_mul_ps(load(eight), inverse));
            let packed = _mm256_packs_epi32(integers(a), integers(b));
            store_halves(out, _mm256_permute4x64_epi64(packed, 0b11_01_10_00));
        }
    }
}

/// Fills a strip, whose depth is set, with weights of one of the two types.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn fill(ty: QuantType, strip: &mut Strip, part: &Part<'_>) {
    match ty {
        QuantType::BF16 => fill_with::<true>(strip, part),
        _ => fill_with::<false>(strip, part),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn fill_with<const BF16: bool>(strip: &mut Strip, part: &Part<'_>) {
    for first in (0..ROWS).step_by(LANES) {
        let mut rows: [&[[u8; GROUP_BYTES]]; LANES] = [&[]; LANES];
        for (i, row) in rows.iter_mut().enumerate() {
            if let Some(bytes) = part.of(first + i) {
                // The next strip's, which is filled after this one was multiplied.
                ask_for_bytes(bytes, ROWS * part.row_bytes);
                *row = bytes.as_chunks().0;
            }
        }
        for group in 0..strip.depth / GROUP {
            // Rows that are none: nobody reads what becomes of them.
            let mut groups = [&[0; GROUP_BYTES]; LANES];
            for (place, row) in groups.iter_mut().zip(rows) {
                if let Some(group) = row.get(group) {
                    *place = group;
                }
            }
            let (scales, inverses) = scales::<BF16>(&groups);
            let out = strip.scales[group * ROWS + first..].first_chunk_mut();
            store(out.expect("in the strip"), scales);
            for half in 0..2 {
                let mut block = [_mm256_setzero_ps(); LANES];
                for ((block, group), inverse) in block.iter_mut().zip(groups).zip(inverses) {
                    let [a, b] = group.as_chunks::<16>().0.as_chunks().0[half];
                    let inverse = _mm256_set1_ps(inverse);
                    let a = _mm256_cvtps_epi32(_mm256_mul_ps(widen::<BF16>(&a), inverse));
                    let b = _mm256_cvtps_epi32(_mm256_mul_ps(widen::<BF16>(&b), inverse));
                    *block = _mm256_castsi256_ps(_mm256_packs_epi32(a, b));
                }
                let from = (2 * group + half) * 8 * 4 * ROWS;
                for (place, pairs) in PACKED.into_iter().zip(transpose_block(block)) {
                    let out = strip.levels[from + place * 4 * ROWS + 4 * first..].first_chunk_mut();
                    store_32(out.expect("in the strip"), _mm256_castps_si256(pairs));
                }
            }
        }
    }
}

/// What a level of each row's group is worth, and one over it.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scales<const BF16: bool>(groups: &[&[u8; GROUP_BYTES]; LANES]) -> (__m256, [f32; LANES]) {
    let mut most = [_mm256_setzero_ps(); LANES];
    for (most, group) in most.iter_mut().zip(groups) {
        let mut bits = _mm256_setzero_si256();
        for eight in group.as_chunks::<16>().0 {
            let size = _mm256_andnot_ps(_mm256_set1_ps(-0.0), widen::<BF16>(eight));
            // As integers, so that what is no number is the largest.
            bits = _mm256_max_epi32(bits, _mm256_castps_si256(size));
        }
        *most = _mm256_castsi256_ps(bits);
    }
    let mut bits = _mm256_setzero_si256();
    for lanes in transpose_block(most) {
        bits = _mm256_max_epi32(bits, _mm256_castps_si256(lanes));
    }
    let most = _mm256_castsi256_ps(bits);
    let counts = _mm256_cmp_ps::<_CMP_NLE_UQ>(most, _mm256_set1_ps(TINY));
    let scales = _mm256_mul_ps(most, _mm256_set1_ps(1.0 / LARGEST_WORD));
    let inverses = _mm256_div_ps(_mm256_set1_ps(LARGEST_WORD), most);
    let mut out = [0.0; LANES];
    store(&mut out, _mm256_and_ps(inverses, counts));
    (_mm256_and_ps(scales, counts), out)
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen<const BF16: bool>(bytes: &[u8; 16]) -> __m256 {
    match BF16 {
        true => bf16::widen(bytes),
        false => f16::widen(bytes),
    }
}
