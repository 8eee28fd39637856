//! Q4_K with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, load_8_bytes, store};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q4_k::{BYTES, Block, LEN, scales_mins};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<8> {
    let block = Block::of(block);
    scale_pairs(block.d, block.dmin, block.scales)
}

/// Scales and minimums of Q4_K and Q5_K.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn scale_pairs(d: &[u8; 2], dmin: &[u8; 2], packed: &[u8; 12]) -> Scales<8> {
    let (scale, min) = scales_mins(packed);
    let float = |bytes| _mm256_cvtepi32_ps(load_8_bytes(bytes));
    let mut scales = Scales {
        scale: [0.0; 8],
        min: [0.0; 8],
    };
    let (d, dmin) = (_mm256_set1_ps(half(d)), _mm256_set1_ps(half(dmin)));
    store(&mut scales.scale, _mm256_mul_ps(d, float(&scale)));
    store(&mut scales.min, _mm256_mul_ps(dmin, float(&min)));
    scales
}

/// Eight bytes at a time are widened straight from memory: cheaper than taking a register of
/// 32 nibbles apart.
#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], run: usize) -> [[__m256; 4]; 2] {
    let bytes: &[u8; 32] = field(Block::of(block).qs, 32 * run);
    let mut levels = [[_mm256_setzero_ps(); 4]; 2];
    for (k, eight) in bytes.as_chunks().0.iter().enumerate() {
        let eight = load_8_bytes(eight);
        levels[0][k] = _mm256_cvtepi32_ps(_mm256_and_si256(eight, _mm256_set1_epi32(15)));
        levels[1][k] = _mm256_cvtepi32_ps(_mm256_srli_epi32(eight, 4));
    }
    levels
}

kernels!(run: 64, sub: 32, min: true);
