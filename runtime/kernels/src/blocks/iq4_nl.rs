//! IQ4_NL: 32 weights in 18 bytes (4.5 bits each), on a grid that is finer near zero.
//!
//! ```text
//! byte 0 1 | 2 .. 17
//!      d   | qs: 32 nibbles; byte l holds weight l (low) and weight 16 + l (high)
//!      f16 |
//! ```
//! `w = d * GRID[q]`. Source: `block_iq4_nl` and `kvalues_iq4nl` in ggml-common.h.

use super::field;
use super::floats::half;

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes in a block.
pub const BYTES: usize = 2 + 16;

/// The sixteen values a nibble stands for (IQ4_XS has the same).
pub const GRID: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

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
    decode_run(half(block.d), block.qs, out);
}

/// Decodes 32 weights with one scale.
pub(super) fn decode_run(scale: f32, qs: &[u8; 16], out: &mut [f32; 32]) {
    for (l, byte) in qs.iter().enumerate() {
        out[l] = scale * GRID[(byte & 15) as usize] as f32;
        out[16 + l] = scale * GRID[(byte >> 4) as usize] as f32;
    }
}
