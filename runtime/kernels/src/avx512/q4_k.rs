//! Q4_K with 64-byte vectors: the sixteen weights a sub-block can hold are a table, and a
//! nibble becomes its weight in one lookup.

use core::arch::x86_64::*;

use super::registers::{half, levels_from, load, lookup, store, table, widen};
use super::walk::kernels_scaling_last;
use crate::blocks::field;
use crate::blocks::q4_k::{BYTES, Block, LEN, scales_mins};

const LEVELS: [f32; 16] = levels_from(0);

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> [f32; 16] {
    let block = Block::of(block);
    scale_pairs(block.d, block.dmin, block.scales)
}

/// Eight scales, then eight minimums, of Q4_K and Q5_K.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
pub(super) fn scale_pairs(d: &[u8; 2], dmin: &[u8; 2], packed: &[u8; 12]) -> [f32; 16] {
    let (scale, min) = scales_mins(packed);
    let (scale, min) = (i64::from_le_bytes(scale), i64::from_le_bytes(min));
    let integers = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_set_epi64x(min, scale)));
    let halves = _mm512_mask_blend_ps(0xFF00, _mm512_set1_ps(half(d)), _mm512_set1_ps(half(dmin)));
    let mut scales = [0.0; 16];
    store(&mut scales, _mm512_mul_ps(halves, integers));
    scales
}

/// `scale[j] * level - min[j]` for the levels of a table.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn table_of(levels: &[f32; 16], scales: &[f32; 16], j: usize) -> __m512 {
    _mm512_sub_ps(table(levels, scales[j]), _mm512_set1_ps(scales[8 + j]))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], scales: &[f32; 16], run: usize) -> [[__m512; 2]; 2] {
    let qs: &[u8; 32] = field(Block::of(block).qs, 32 * run);
    let low = table_of(&LEVELS, scales, 2 * run);
    let high = table_of(&LEVELS, scales, 2 * run + 1);
    let (a, b) = (widen(field(qs, 0)), widen(field(qs, 16)));
    let (c, d) = (_mm512_srli_epi32(a, 4), _mm512_srli_epi32(b, 4));
    [
        [lookup(low, a), lookup(low, b)],
        [lookup(high, c), lookup(high, d)],
    ]
}

/// The same run before it is scaled.
#[inline]
#[target_feature(enable = "avx512f")]
fn levels(block: &[u8; BYTES], run: usize) -> [[__m512; 2]; 2] {
    let qs: &[u8; 32] = field(Block::of(block).qs, 32 * run);
    let levels = load(&LEVELS);
    let (a, b) = (widen(field(qs, 0)), widen(field(qs, 16)));
    let (c, d) = (_mm512_srli_epi32(a, 4), _mm512_srli_epi32(b, 4));
    [
        [lookup(levels, a), lookup(levels, b)],
        [lookup(levels, c), lookup(levels, d)],
    ]
}

kernels_scaling_last!(run: 64, bytes: BYTES, scales: scales, levels: levels);
