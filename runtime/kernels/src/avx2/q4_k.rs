//! Q4_K with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{bits, load_8_bytes, load_32, store, two_halves};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q4_k::{BYTES, Block, LEN, scales_mins};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<8> {
    scale_pairs(field(block, 0))
}

/// Scales and minimums of the first bytes of Q4_K and Q5_K.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn scale_pairs(head: &[u8; 16]) -> Scales<8> {
    let packed = field(head, 4);
    let (scale, min) = scales_mins(packed);
    let float = |bytes| _mm256_cvtepi32_ps(load_8_bytes(bytes));
    let mut scales = Scales {
        scale: [0.0; 8],
        min: [0.0; 8],
    };
    let [d, dmin] = two_halves(field(head, 0));
    store(&mut scales.scale, _mm256_mul_ps(d, float(&scale)));
    store(&mut scales.min, _mm256_mul_ps(dmin, float(&min)));
    scales
}

#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], run: usize) -> [__m256i; 2] {
    let bytes = load_32(field(Block::of(block).qs, 32 * run));
    [bits::<0>(bytes, 15), bits::<4>(bytes, 15)]
}

kernels!(Q4K, run: 64);
