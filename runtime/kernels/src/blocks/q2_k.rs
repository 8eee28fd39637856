//! Q2_K: 256 weights in 84 bytes (2.625 bits each).
//!
//! ```text
//! byte 0 .. 15                  | 16 .. 79       | 80 81 | 82 83
//!      scales: 16 x (scale low  | qs: 256 x      | d     | dmin
//!      nibble, min high nibble) | 2 bits         | f16   | f16
//!
//! qs: byte 32*h + l holds weights 128*h + 32*k + l in its bits 2*k and 2*k + 1 (k = 0..4)
//! ```
//! Weight `i` of sub-block `j = i / 16`: `w = d * scale[j] * q - dmin * min[j]`.
//! Source: `block_q2_K` in ggml-common.h.

use super::field;
use super::floats::half;
use super::scale_search::{inverse, nearest};
use super::two_level::fit_scales_and_mins;

/// Weights in a block.
pub const LEN: usize = 256;
/// Bytes in a block.
pub const BYTES: usize = 16 + 64 + 2 + 2;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub scales: &'a [u8; 16],
    pub qs: &'a [u8; 64],
    pub d: &'a [u8; 2],
    pub dmin: &'a [u8; 2],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            scales: field(bytes, 0),
            qs: field(bytes, 16),
            d: field(bytes, 80),
            dmin: field(bytes, 82),
        }
    }
}

/// The two bits of weight `i` (Q3_K stores its lower two alike).
pub(super) fn two_bits(qs: &[u8; 64], i: usize) -> u8 {
    qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let (d, dmin) = (half(block.d), half(block.dmin));
    for (j, run) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * (block.scales[j] & 15) as f32;
        let min = dmin * (block.scales[j] >> 4) as f32;
        for (l, w) in run.iter_mut().enumerate() {
            *w = scale * two_bits(block.qs, 16 * j + l) as f32 - min;
        }
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let runs: &[[f32; 16]; 16] = weights.as_chunks().0.try_into().expect("16 sub-blocks");
    let fit = fit_scales_and_mins(runs, 3.0, 15.0);
    for ((byte, scale), min) in block.iter_mut().zip(&fit.scale).zip(&fit.min) {
        *byte = scale | min << 4;
    }
    block[80..82].copy_from_slice(&fit.d);
    block[82..].copy_from_slice(&fit.dmin);
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scales that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let fields = Block::of(block);
    let (d, dmin, scales) = (half(fields.d), half(fields.dmin), *fields.scales);
    block[16..80].fill(0);
    for (i, w) in weights.iter().enumerate() {
        let (scale, min) = ((scales[i / 16] & 15) as f32, (scales[i / 16] >> 4) as f32);
        let (to_level, min) = (inverse(d * scale), dmin * min);
        let q = nearest((w + min) * to_level, 0.0, 3.0) as u8;
        block[16 + i / 128 * 32 + i % 32] |= q << (i / 32 % 4 * 2);
    }
}
