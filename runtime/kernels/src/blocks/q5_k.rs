//! Q5_K: 256 weights in 176 bytes (5.5 bits each).
//!
//! ```text
//! byte 0 1 | 2 3  | 4 .. 15                  | 16 .. 47                  | 48 .. 175
//!      d   | dmin | scales: 8 x (scale, min) | qh: byte l, bit k is      | qs: lower nibbles,
//!      f16 | f16  | 6 bits each, as in Q4_K  | bit 4 of weight 32*k + l  | as in Q4_K
//! ```
//! Weight `i` of sub-block `j = i / 32`: `w = d * scale[j] * q - dmin * min[j]`, `q` in `0..32`.
//! Source: `block_q5_K` in ggml-common.h.

use super::field;
use super::floats::half;
use super::q4_k::{pack_scale_min, scale_min};
use super::scale_search::{inverse, nearest};
use super::two_level::fit_scales_and_mins;

/// Weights in a block.
pub const LEN: usize = 256;
/// Bytes in a block.
pub const BYTES: usize = 2 + 2 + 12 + 32 + 128;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub d: &'a [u8; 2],
    pub dmin: &'a [u8; 2],
    pub scales: &'a [u8; 12],
    pub qh: &'a [u8; 32],
    pub qs: &'a [u8; 128],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            d: field(bytes, 0),
            dmin: field(bytes, 2),
            scales: field(bytes, 4),
            qh: field(bytes, 16),
            qs: field(bytes, 48),
        }
    }
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let (d, dmin) = (half(block.d), half(block.dmin));
    for (j, run) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(j, block.scales);
        let (scale, min) = (d * scale as f32, dmin * min as f32);
        for (l, w) in run.iter_mut().enumerate() {
            let low = block.qs[j / 2 * 32 + l] >> (j % 2 * 4) & 15;
            let high = block.qh[l] >> j & 1;
            *w = scale * (low | high << 4) as f32 - min;
        }
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let runs: &[[f32; 32]; 8] = weights.as_chunks().0.try_into().expect("8 sub-blocks");
    let fit = fit_scales_and_mins(runs, 31.0, 63.0);
    block[..2].copy_from_slice(&fit.d);
    block[2..4].copy_from_slice(&fit.dmin);
    block[4..16].copy_from_slice(&pack_scale_min(&fit.scale, &fit.min));
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scales that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let fields = Block::of(block);
    let (d, dmin, scales) = (half(fields.d), half(fields.dmin), *fields.scales);
    block[16..].fill(0);
    for (i, w) in weights.iter().enumerate() {
        let (scale, min) = scale_min(i / 32, &scales);
        let (to_level, min) = (inverse(d * scale as f32), dmin * min as f32);
        let q = nearest((w + min) * to_level, 0.0, 31.0) as u8;
        block[16 + i % 32] |= (q >> 4) << (i / 32);
        block[48 + i / 64 * 32 + i % 32] |= (q & 15) << (i / 32 % 2 * 4);
    }
}
