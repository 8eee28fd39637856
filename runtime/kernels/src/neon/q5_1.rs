//! Q5_1 with 16-byte vectors.

use core::arch::aarch64::*;

use super::registers::{bit_masks, half, nibbles, signed};
use super::walk::{Scales, kernels};
use crate::blocks::q5_1::{BYTES, Block, LEN};

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
    let block = Block::of(block);
    let ([a, b], [a_set, b_set]) = (nibbles(block.qs), bit_masks(block.qh));
    let upper = vdupq_n_u8(16);
    signed([
        vorrq_u8(a, vandq_u8(upper, a_set)),
        vorrq_u8(b, vandq_u8(upper, b_set)),
    ])
}

kernels!(Q5_1, run: 32);
