//! IQ4_NL with 16-byte vectors.

use core::arch::aarch64::*;

use super::registers::{half, load_16, nibbles, signed};
use super::walk::{Scales, kernels};
use crate::blocks::iq4_nl::{BYTES, Block, GRID, LEN};

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
    on_grid(Block::of(block).qs)
}

/// The grid values of 32 nibbles.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn on_grid(qs: &[u8; 16]) -> [int8x16_t; 2] {
    let grid = load_16(&GRID.map(|v| v as u8));
    signed(nibbles(qs).map(|nibbles| vqtbl1q_u8(grid, nibbles)))
}

kernels!(IQ4NL, run: 32);
