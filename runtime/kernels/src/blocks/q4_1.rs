//! Q4_1: 32 weights in 20 bytes (5 bits each).
//!
//! ```text
//! byte 0 1 | 2 3 | 4 .. 19
//!      d   | m   | qs: 32 nibbles; byte l holds weight l (low) and weight 16 + l (high)
//!      f16 | f16 |
//! ```
//! `w = d * q + m`, `q` in `0..16`. Source: `block_q4_1` in ggml-common.h.

use super::field;
use super::floats::{half, to_half};
use super::scale_search::{fit_scale_min, inverse, nearest};

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes in a block.
pub const BYTES: usize = 2 + 2 + 16;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub d: &'a [u8; 2],
    pub m: &'a [u8; 2],
    pub qs: &'a [u8; 16],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            d: field(bytes, 0),
            m: field(bytes, 2),
            qs: field(bytes, 4),
        }
    }
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let (d, m) = (half(block.d), half(block.m));
    for (l, byte) in block.qs.iter().enumerate() {
        out[l] = d * (byte & 15) as f32 + m;
        out[16 + l] = d * (byte >> 4) as f32 + m;
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let (d, m) = fit_scale_min(weights, 15.0, false);
    block[..2].copy_from_slice(&to_half(d));
    block[2..4].copy_from_slice(&to_half(m));
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scale and minimum that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let fields = Block::of(block);
    let (to_level, min) = (inverse(half(fields.d)), half(fields.m));
    let q = |i: usize| nearest((weights[i] - min) * to_level, 0.0, 15.0) as u8;
    for (l, byte) in block[4..].iter_mut().enumerate() {
        *byte = q(l) | q(16 + l) << 4;
    }
}
