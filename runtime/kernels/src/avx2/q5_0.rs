//! Q5_0 with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{bit_mask, half, nibbles};
use super::walk::{Scales, kernels};
use crate::blocks::q5_0::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<1> {
    Scales {
        scale: [half(Block::of(block).d)],
        min: [0.0],
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], _run: usize) -> [__m256i; 1] {
    let block = Block::of(block);
    // Without its upper bit a level is 16 less: -16 .. -1 instead of 0 .. 15.
    let lower = _mm256_andnot_si256(bit_mask(block.qh), _mm256_set1_epi8(-16));
    [_mm256_or_si256(nibbles(block.qs), lower)]
}

kernels!(Q5_0, run: 32);
