//! Q4_0 with 16-byte vectors.

use core::arch::aarch64::*;

use super::registers::{half, nibbles, signed};
use super::walk::{Scales, kernels};
use crate::blocks::q4_0::{BYTES, Block, LEN};

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
    signed(nibbles(Block::of(block).qs)).map(|level| vsubq_s8(level, vdupq_n_s8(8)))
}

kernels!(Q4_0, run: 32);
