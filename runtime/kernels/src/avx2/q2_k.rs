//! Q2_K with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{bits, half, load_8_bytes, load_32, store};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q2_k::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<16> {
    let block = Block::of(block);
    let (d, dmin) = (
        _mm256_set1_ps(half(block.d)),
        _mm256_set1_ps(half(block.dmin)),
    );
    let mut scales = Scales {
        scale: [0.0; 16],
        min: [0.0; 16],
    };
    let outs = scales
        .scale
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(scales.min.as_chunks_mut().0);
    for ((scale, min), pairs) in outs.zip(block.scales.as_chunks().0) {
        let pairs = load_8_bytes(pairs);
        let low = _mm256_and_si256(pairs, _mm256_set1_epi32(15));
        store(scale, _mm256_mul_ps(d, _mm256_cvtepi32_ps(low)));
        let high = _mm256_srli_epi32(pairs, 4);
        store(min, _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(high)));
    }
    scales
}

/// One run is half a block: 128 weights in the four bit pairs of 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], run: usize) -> [__m256i; 4] {
    let pairs = load_32(field(Block::of(block).qs, 32 * run));
    [
        bits::<0>(pairs, 3),
        bits::<2>(pairs, 3),
        bits::<4>(pairs, 3),
        bits::<6>(pairs, 3),
    ]
}

kernels!(Q2K, run: 128);
