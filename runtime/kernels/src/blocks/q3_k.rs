//! Q3_K: 256 weights in 110 bytes (3.4375 bits each).
//!
//! ```text
//! byte 0 .. 31                | 32 .. 95          | 96 .. 107         | 108 109
//!      hmask: byte l, bit k   | qs: lower 2 bits, | scales: 16 x      | d
//!      is bit 2 of the weight | as in Q2_K        | 6 bits            | f16
//!      32*k + l (k = 0..8)    |                   |                   |
//!
//! scales: byte      0 .. 7                             8 .. 11
//!         holds     bits 0..3 of scale j (low nibble)  bits 4..5 of scales j, j+4, j+8, j+12,
//!                   and of scale 8 + j (high nibble)   two bits each, lowest first
//! ```
//! Weight `i` of sub-block `j = i / 16`: `w = d * (scale[j] - 32) * (q - 4)`.
//! Source: `block_q3_K` in ggml-common.h.

use super::field;
use super::floats::half;
use super::q2_k::two_bits;
use super::scale_search::{inverse, nearest};
use super::two_level::fit_scales;

/// Weights in a block.
pub const LEN: usize = 256;
/// Bytes in a block.
pub const BYTES: usize = 32 + 64 + 12 + 2;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub hmask: &'a [u8; 32],
    pub qs: &'a [u8; 64],
    pub scales: &'a [u8; 12],
    pub d: &'a [u8; 2],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            hmask: field(bytes, 0),
            qs: field(bytes, 32),
            scales: field(bytes, 96),
            d: field(bytes, 108),
        }
    }
}

/// Scale of sub-block `j` (`0..16`), in `-32..32`.
pub(crate) fn scale(j: usize, scales: &[u8; 12]) -> i8 {
    let low = scales[j % 8] >> (j / 8 * 4) & 15;
    let high = scales[8 + j % 4] >> (j / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let d = half(block.d);
    for (j, run) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * scale(j, block.scales) as f32;
        for (l, w) in run.iter_mut().enumerate() {
            let i = 16 * j + l;
            let high = block.hmask[i % 32] >> (i / 32) & 1;
            let q = two_bits(block.qs, i) | high << 2;
            *w = scale * (q as i8 - 4) as f32;
        }
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let runs: &[[f32; 16]; 16] = weights.as_chunks().0.try_into().expect("16 sub-blocks");
    let fit = fit_scales(runs, 4.0, 32.0);
    block[96..108].fill(0);
    for j in 0..16 {
        let scale = (fit.scale[j] + 32) as u8;
        block[96 + j % 8] |= (scale & 15) << (j / 8 * 4);
        block[104 + j % 4] |= (scale >> 4) << (j / 4 * 2);
    }
    block[108..].copy_from_slice(&fit.d);
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scales that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let fields = Block::of(block);
    let (d, scales) = (half(fields.d), *fields.scales);
    block[..96].fill(0);
    for (i, w) in weights.iter().enumerate() {
        let to_level = inverse(d * scale(i / 16, &scales) as f32);
        let q = (nearest(w * to_level, -4.0, 3.0) + 4.0) as u8;
        block[i % 32] |= (q >> 2) << (i / 32);
        block[32 + i / 128 * 32 + i % 32] |= (q & 3) << (i / 32 % 4 * 2);
    }
}
