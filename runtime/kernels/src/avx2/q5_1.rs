//! Q5_1 with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{bit_mask, half, nibbles};
use super::walk::{Scales, kernels};
use crate::blocks::q5_1::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<1> {
    let block = Block::of(block);
    Scales {
        scale: [half(block.d)],
        min: [-half(block.m)],
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], _run: usize) -> [__m256i; 1] {
    let block = Block::of(block);
    let upper = _mm256_and_si256(bit_mask(block.qh), _mm256_set1_epi8(16));
    [_mm256_or_si256(nibbles(block.qs), upper)]
}

kernels!(Q5_1, run: 32);
