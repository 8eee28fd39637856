//! Q4_K: 256 weights in 144 bytes (4.5 bits each).
//!
//! ```text
//! byte 0 1 | 2 3  | 4 .. 15                  | 16 .. 143
//!      d   | dmin | scales: 8 x (scale, min) | qs: 256 nibbles; byte 32*p + l holds
//!      f16 | f16  | 6 bits each              | weights 64*p + l (low), 64*p + 32 + l (high)
//!
//! scales: byte      0 .. 3                     4 .. 7                   8 .. 11
//!         bits 0-5  scale 0 .. 3               min 0 .. 3               bits 0-3 of scale 4 .. 7 (bits 0-3)
//!         bits 6-7  bits 4-5 of scale 4 .. 7   bits 4-5 of min 4 .. 7   bits 0-3 of min 4 .. 7   (bits 4-7)
//! ```
//! Weight `i` of sub-block `j = i / 32`: `w = d * scale[j] * q - dmin * min[j]`.
//! Source: `block_q4_K` in ggml-common.h.

use super::field;
use super::floats::half;
use super::scale_search::{inverse, nearest};
use super::two_level::fit_scales_and_mins;

/// Weights in a block.
pub const LEN: usize = 256;
/// Bytes in a block.
pub const BYTES: usize = 2 + 2 + 12 + 128;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub d: &'a [u8; 2],
    pub dmin: &'a [u8; 2],
    pub scales: &'a [u8; 12],
    pub qs: &'a [u8; 128],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            d: field(bytes, 0),
            dmin: field(bytes, 2),
            scales: field(bytes, 4),
            qs: field(bytes, 16),
        }
    }
}

/// Scale and minimum of sub-block `j` (`0..8`), each in `0..64` (Q5_K stores them alike).
pub(crate) fn scale_min(j: usize, s: &[u8; 12]) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (
            s[j + 4] & 15 | s[j - 4] >> 6 << 4,
            s[j + 4] >> 4 | s[j] >> 6 << 4,
        )
    }
}

/// [`scale_min`] of all eight sub-blocks, four bytes at a time: scales, then minimums.
pub(crate) fn scales_mins(s: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let a = u32::from_le_bytes(*field(s, 0));
    let b = u32::from_le_bytes(*field(s, 4));
    let c = u32::from_le_bytes(*field(s, 8));
    let (six, low, high) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
    let join = |first: u32, last: u32| (first as u64 | (last as u64) << 32).to_le_bytes();
    (
        join(a & six, c & low | a >> 2 & high),
        join(b & six, c >> 4 & low | b >> 2 & high),
    )
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let (d, dmin) = (half(block.d), half(block.dmin));
    for (j, run) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(j, block.scales);
        let (scale, min) = (d * scale as f32, dmin * min as f32);
        for (w, byte) in run.iter_mut().zip(&block.qs[j / 2 * 32..]) {
            let q = byte >> (j % 2 * 4) & 15;
            *w = scale * q as f32 - min;
        }
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let runs: &[[f32; 32]; 8] = weights.as_chunks().0.try_into().expect("8 sub-blocks");
    let fit = fit_scales_and_mins(runs, 15.0, 63.0);
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
        let q = nearest((w + min) * to_level, 0.0, 15.0) as u8;
        block[16 + i / 64 * 32 + i % 32] |= q << (i / 32 % 2 * 4);
    }
}

/// The reverse of [`scale_min`] for all sub-blocks.
pub(super) fn pack_scale_min(scale: &[u8; 8], min: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = scale[j] | scale[4 + j] >> 4 << 6;
        packed[4 + j] = min[j] | min[4 + j] >> 4 << 6;
        packed[8 + j] = scale[4 + j] & 15 | min[4 + j] << 4;
    }
    packed
}
