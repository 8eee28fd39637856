//! Q5_1: 32 weights in 24 bytes (6 bits each).
//!
//! ```text
//! byte 0 1 | 2 3 | 4 .. 7                 | 8 .. 23
//!      d   | m   | qh: bit i of this u32  | qs: the lower nibbles; byte l holds weight l (low)
//!      f16 | f16 | is bit 4 of weight i   |     and weight 16 + l (high)
//! ```
//! `w = d * q + m`, `q` in `0..32`. Source: `block_q5_1` in ggml-common.h.

use super::field;
use super::floats::{half, to_half};
use super::q5_0::{five_bits, pack_five_bits};
use super::scale_search::{fit_scale_min, inverse, nearest};

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes in a block.
pub const BYTES: usize = 2 + 2 + 4 + 16;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub d: &'a [u8; 2],
    pub m: &'a [u8; 2],
    pub qh: u32,
    pub qs: &'a [u8; 16],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            d: field(bytes, 0),
            m: field(bytes, 2),
            qh: u32::from_le_bytes(*field(bytes, 4)),
            qs: field(bytes, 8),
        }
    }

    /// The five bits of weight `i`.
    pub fn quant(&self, i: usize) -> u8 {
        five_bits(self.qh, self.qs, i)
    }
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let (d, m) = (half(block.d), half(block.m));
    for (i, w) in out.iter_mut().enumerate() {
        *w = d * block.quant(i) as f32 + m;
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let (d, m) = fit_scale_min(weights, 31.0, false);
    block[..2].copy_from_slice(&to_half(d));
    block[2..4].copy_from_slice(&to_half(m));
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scale and minimum that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let fields = Block::of(block);
    let (to_level, min) = (inverse(half(fields.d)), half(fields.m));
    let q = weights.map(|w| nearest((w - min) * to_level, 0.0, 31.0) as u8);
    pack_five_bits(&q, &mut block[4..]);
}
