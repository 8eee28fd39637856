//! Q5_0 with 16-byte vectors.

use core::arch::aarch64::*;

use super::registers::{bit_masks, half, nibbles, signed};
use super::walk::{Scales, kernels};
use crate::blocks::q5_0::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "neon")]
fn scales(block: &[u8; BYTES]) -> Scales<1> {
    Scales {
        scale: [half(Block::of(block).d)],
        min: [0.0],
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn levels(block: &[u8; BYTES], _run: usize) -> [int8x16_t; 2] {
    let block = Block::of(block);
    let ([a, b], [a_set, b_set]) = (nibbles(block.qs), bit_masks(block.qh));
    // Without its upper bit a level is 16 less: -16 .. -1 instead of 0 .. 15.
    let lower = vdupq_n_u8(0xF0);
    signed([
        vorrq_u8(a, vbicq_u8(lower, a_set)),
        vorrq_u8(b, vbicq_u8(lower, b_set)),
    ])
}

kernels!(Q5_0, run: 32);
