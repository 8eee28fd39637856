//! Q3_K with 64-byte vectors: one table for each value of a weight's upper bit.

use core::arch::x86_64::*;

use super::registers::{half, levels_repeating, load, load_32, lookup_either, widen};
use super::walk::kernels;
use crate::blocks::field;
use crate::blocks::q3_k::{BYTES, Block, LEN, scale};

/// Levels without and with the upper bit.
const LOWER: [f32; 16] = levels_repeating::<4>(-4, 1);
const UPPER: [f32; 16] = levels_repeating::<4>(0, 1);

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> [f32; 16] {
    let block = Block::of(block);
    let d = half(block.d);
    let mut scales = [0.0; 16];
    for (j, out) in scales.iter_mut().enumerate() {
        *out = d * scale(j, block.scales) as f32;
    }
    scales
}

/// One run is half a block: 128 weights in the four bit pairs of 32 bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn weights(block: &[u8; BYTES], scales: &[f32; 16], run: usize) -> [[__m512; 2]; 4] {
    let block = Block::of(block);
    let hmask = load_32(block.hmask);
    let (a, b) = (
        widen(field(block.qs, 32 * run)),
        widen(field(block.qs, 32 * run + 16)),
    );
    let (lower, upper) = (load(&LOWER), load(&UPPER));
    let quarter = |k: usize, a: __m512i, b: __m512i| {
        let bit = (1u8 << (4 * run + k)) as i8;
        let third = _mm256_test_epi8_mask(hmask, _mm256_set1_epi8(bit));
        let scale = |j: usize| _mm512_set1_ps(scales[8 * run + j]);
        [
            _mm512_mul_ps(lookup_either(lower, upper, third as u16, a), scale(2 * k)),
            _mm512_mul_ps(
                lookup_either(lower, upper, (third >> 16) as u16, b),
                scale(2 * k + 1),
            ),
        ]
    };
    [
        quarter(0, a, b),
        quarter(1, _mm512_srli_epi32(a, 2), _mm512_srli_epi32(b, 2)),
        quarter(2, _mm512_srli_epi32(a, 4), _mm512_srli_epi32(b, 4)),
        quarter(3, _mm512_srli_epi32(a, 6), _mm512_srli_epi32(b, 6)),
    ]
}

kernels!(run: 128);
