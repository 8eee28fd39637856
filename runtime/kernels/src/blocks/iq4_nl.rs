//! IQ4_NL: 32 weights in 18 bytes (4.5 bits each), on a grid that is finer near zero.
//!
//! ```text
//! byte 0 1 | 2 .. 17
//!      d   | qs: 32 nibbles; byte l holds weight l (low) and weight 16 + l (high)
//!      f16 |
//! ```
//! `w = d * GRID[q]`. Source: `block_iq4_nl` and `kvalues_iq4nl` in ggml-common.h.

use super::field;
use super::floats::{half, to_half};
use super::scale_search::{evenly, fit_scale, inverse};

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes in a block.
pub const BYTES: usize = 2 + 16;

/// The sixteen values a nibble stands for (IQ4_XS has the same).
pub const GRID: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// [`GRID`] as floats, for registers that hold all sixteen.
#[cfg(target_arch = "x86_64")]
pub(crate) const GRID_F32: [f32; 16] = {
    let (mut floats, mut i) = ([0.0; 16], 0);
    while i < 16 {
        floats[i] = GRID[i] as f32;
        i += 1;
    }
    floats
};

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

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let level = |v| GRID[nearest_on_grid(v)] as f32;
    let tops = evenly(-135.0, -95.0, 17).chain(evenly(95.0, 122.0, 13));
    block[..2].copy_from_slice(&to_half(fit_scale(weights, tops, level)));
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scale that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let to_level = inverse(half(Block::of(block).d));
    let q = |i: usize| nearest_on_grid(weights[i] * to_level) as u8;
    for (l, byte) in block[2..].iter_mut().enumerate() {
        *byte = q(l) | q(16 + l) << 4;
    }
}

/// The place in [`GRID`] of the value nearest to `v`: how many midpoints lie below `v`.
fn nearest_on_grid(v: f32) -> usize {
    let midpoint = |k: usize| (GRID[k] as f32 + GRID[k + 1] as f32) / 2.0;
    (0..15).filter(|&k| v > midpoint(k)).count()
}
