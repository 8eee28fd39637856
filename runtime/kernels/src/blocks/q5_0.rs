//! Q5_0: 32 weights in 22 bytes (5.5 bits each).
//!
//! ```text
//! byte 0 1 | 2 .. 5                    | 6 .. 21
//!      d   | qh: bit i of this u32     | qs: the lower nibbles; byte l holds weight l (low)
//!      f16 | is bit 4 of weight i      |     and weight 16 + l (high)
//! ```
//! `w = d * (q - 16)`, `q` in `0..32`. Source: `block_q5_0` in ggml-common.h.

use super::field;
use super::floats::{half, to_half};
use super::scale_search::{evenly, fit_scale, inverse, nearest};

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes in a block.
pub const BYTES: usize = 2 + 4 + 16;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub d: &'a [u8; 2],
    pub qh: u32,
    pub qs: &'a [u8; 16],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            d: field(bytes, 0),
            qh: u32::from_le_bytes(*field(bytes, 2)),
            qs: field(bytes, 6),
        }
    }

    /// The five bits of weight `i`.
    pub fn quant(&self, i: usize) -> u8 {
        five_bits(self.qh, self.qs, i)
    }
}

/// The five bits of weight `i` of a 32-weight block (Q5_0 and Q5_1 store them alike).
pub(super) fn five_bits(qh: u32, qs: &[u8; 16], i: usize) -> u8 {
    let nibble = qs[i % 16] >> (i / 16 * 4) & 15;
    nibble | ((qh >> i & 1) as u8) << 4
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let d = half(block.d);
    for (i, w) in out.iter_mut().enumerate() {
        *w = d * (block.quant(i) as i8 - 16) as f32;
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let tops = evenly(-17.5, -14.0, 15).chain(evenly(14.0, 17.0, 13));
    block[..2].copy_from_slice(&to_half(fit_scale(weights, tops, level)));
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scale that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let to_level = inverse(half(Block::of(block).d));
    let q = weights.map(|w| (level(w * to_level) + 16.0) as u8);
    pack_five_bits(&q, &mut block[2..]);
}

fn level(v: f32) -> f32 {
    nearest(v, -16.0, 15.0)
}

/// Writes 32 five-bit quants: their upper bits as a u32, then their nibbles.
pub(super) fn pack_five_bits(q: &[u8; 32], out: &mut [u8]) {
    let high = (0..32).fold(0u32, |bits, i| bits | (q[i] as u32 >> 4) << i);
    out[..4].copy_from_slice(&high.to_le_bytes());
    for (l, byte) in out[4..].iter_mut().enumerate() {
        *byte = q[l] & 15 | q[16 + l] << 4;
    }
}
