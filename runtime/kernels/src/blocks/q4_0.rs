//! Q4_0: 32 weights in 18 bytes (4.5 bits each).
//!
//! ```text
//! byte 0 1 | 2 .. 17
//!      d   | qs: 32 nibbles; byte l holds weight l (low) and weight 16 + l (high)
//!      f16 |
//! ```
//! `w = d * (q - 8)`, `q` in `0..16`. Source: `block_q4_0` in ggml-common.h.

use super::field;
use super::floats::{half, to_half};
use super::scale_search::{evenly, fit_scale, inverse, nearest};

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes in a block.
pub const BYTES: usize = 2 + 16;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub d: &'a [u8; 2],
    pub qs: &'a [u8; 16],
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
    for (l, byte) in block.qs.iter().enumerate() {
        out[l] = d * ((byte & 15) as i8 - 8) as f32;
        out[16 + l] = d * ((byte >> 4) as i8 - 8) as f32;
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let tops = evenly(-9.5, -6.0, 15).chain(evenly(6.0, 9.0, 13));
    block[..2].copy_from_slice(&to_half(fit_scale(weights, tops, level)));
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scale that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let to_level = inverse(half(Block::of(block).d));
    let q = |i: usize| (level(weights[i] * to_level) + 8.0) as u8;
    for (l, byte) in block[2..].iter_mut().enumerate() {
        *byte = q(l) | q(16 + l) << 4;
    }
}

fn level(v: f32) -> f32 {
    nearest(v, -8.0, 7.0)
}
