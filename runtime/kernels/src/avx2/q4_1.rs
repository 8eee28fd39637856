//! Q4_1 with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, nibbles};
use super::walk::{Scales, kernels};
use crate::blocks::q4_1::{BYTES, Block, LEN};

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
    [nibbles(Block::of(block).qs)]
}

kernels!(Q4_1, run: 32);
