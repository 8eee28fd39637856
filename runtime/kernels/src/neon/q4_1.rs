//! Q4_1 with 16-byte vectors.

use core::arch::aarch64::*;

use super::registers::{half, nibbles, signed};
use super::walk::{Scales, kernels};
use crate::blocks::q4_1::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "neon")]
fn scales(block: &[u8; BYTES]) -> Scales<1> {
    let block = Block::of(block);
    Scales {
        scale: [half(block.d)],
        min: [-half(block.m)],
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn levels(block: &[u8; BYTES], _run: usize) -> [int8x16_t; 2] {
    signed(nibbles(Block::of(block).qs))
}

kernels!(Q4_1, run: 32);
