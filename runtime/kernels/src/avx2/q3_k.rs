//! Q3_K with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{bits, half, load_32};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q3_k::{BYTES, Block, LEN, scale};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<16> {
    let block = Block::of(block);
    let d = half(block.d);
    let mut scales = Scales {
        scale: [0.0; 16],
        min: [0.0; 16],
    };
    for (j, out) in scales.scale.iter_mut().enumerate() {
        *out = d * scale(j, block.scales) as f32;
    }
    scales
}

/// One run is half a block: 128 weights in the four bit pairs of 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], run: usize) -> [__m256i; 4] {
    let block = Block::of(block);
    let pairs = load_32(field(block.qs, 32 * run));
    // Bits 4 * run .. 4 * run + 4 of the mask belong to this half: bring them to bits 0 .. 4.
    let mask = _mm256_srl_epi16(load_32(block.hmask), _mm_cvtsi32_si128(4 * run as i32));
    let level = |low: __m256i, third: __m256i| {
        let third = _mm256_and_si256(third, _mm256_set1_epi8(4));
        _mm256_sub_epi8(_mm256_or_si256(low, third), _mm256_set1_epi8(4))
    };
    [
        level(bits::<0>(pairs, 3), _mm256_slli_epi16(mask, 2)),
        level(bits::<2>(pairs, 3), _mm256_slli_epi16(mask, 1)),
        level(bits::<4>(pairs, 3), mask),
        level(bits::<6>(pairs, 3), _mm256_srli_epi16(mask, 1)),
    ]
}

kernels!(Q3K, run: 128);
