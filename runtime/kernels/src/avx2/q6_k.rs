//! Q6_K with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{bits, half, load_8_bytes, load_32, store};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q6_k::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<16> {
    let block = Block::of(block);
    let d = _mm256_set1_ps(half(block.d));
    let mut scales = Scales {
        scale: [0.0; 16],
        min: [0.0; 16],
    };
    let pairs = scales
        .scale
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(block.scales.as_chunks().0);
    for (out, eight) in pairs {
        // Zero-extended bytes, moved up and down again to extend the sign.
        let signed = _mm256_srai_epi32(_mm256_slli_epi32(load_8_bytes(eight), 24), 24);
        store(out, _mm256_mul_ps(d, _mm256_cvtepi32_ps(signed)));
    }
    scales
}

/// One run is half a block: 128 weights that share 32 bytes of upper bits.
#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], run: usize) -> [__m256i; 4] {
    let block = Block::of(block);
    let (a, b) = (
        load_32(field(block.ql, 64 * run)),
        load_32(field(block.ql, 64 * run + 32)),
    );
    let upper = load_32(field(block.qh, 32 * run));
    let level = |low: __m256i, high: __m256i| {
        let level = _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
        _mm256_sub_epi8(level, _mm256_set1_epi8(32))
    };
    [
        level(bits::<0>(a, 15), _mm256_slli_epi16(upper, 4)),
        level(bits::<0>(b, 15), _mm256_slli_epi16(upper, 2)),
        level(bits::<4>(a, 15), upper),
        level(bits::<4>(b, 15), _mm256_srli_epi16(upper, 2)),
    ]
}

kernels!(Q6K, run: 128);
