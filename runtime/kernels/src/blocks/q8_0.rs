//! Q8_0: 32 weights in 34 bytes (8.5 bits each).
//!
//! ```text
//! byte 0 1 | 2 .. 33
//!      d   | qs: 32 signed bytes, in order
//!      f16 |
//! ```
//! `w = d * q`. Source: `block_q8_0` in ggml-common.h.

use super::field;
use super::floats::{half, to_half};
use super::scale_search::{evenly, fit_scale, inverse, nearest};

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes in a block.
pub const BYTES: usize = 2 + 32;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub d: &'a [u8; 2],
    pub qs: &'a [u8; 32],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            d: field(bytes, 0),
            qs: field(bytes, 2),
        }
    }
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let d = half(block.d);
    for (w, &q) in out.iter_mut().zip(block.qs) {
        *w = d * (q as i8) as f32;
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let d = fit_scale(weights, evenly(125.5, 127.5, 9), level);
    block[..2].copy_from_slice(&to_half(d));
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scale that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let to_level = inverse(half(Block::of(block).d));
    for (byte, w) in block[2..].iter_mut().zip(weights) {
        *byte = level(w * to_level) as i8 as u8;
    }
}

fn level(v: f32) -> f32 {
    nearest(v, -127.0, 127.0)
}
