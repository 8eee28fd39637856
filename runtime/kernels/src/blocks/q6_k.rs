//! Q6_K: 256 weights in 210 bytes (6.5625 bits each).
//!
//! ```text
//! byte 0 .. 127          | 128 .. 191            | 192 .. 207        | 208 209
//!      ql: lower 4 bits  | qh: upper 2 bits      | scales: 16 x i8   | d
//!                        |                       |                   | f16
//!
//! The 128 weights 128*h + 32*k + l (h = 0..2, k = 0..4, l = 0..32) of one half:
//! ql: byte 64*h + 32*(k % 2) + l, low nibble for k < 2, high nibble for k >= 2
//! qh: byte 32*h + l, bits 2*k and 2*k + 1
//! ```
//! Weight `i` of sub-block `j = i / 16`: `w = d * scale[j] * (q - 32)`, `q` in `0..64`.
//! Source: `block_q6_K` in ggml-common.h.

use super::field;
use super::floats::half;
use super::scale_search::{inverse, nearest};
use super::two_level::fit_scales;

/// Weights in a block.
pub const LEN: usize = 256;
/// Bytes in a block.
pub const BYTES: usize = 128 + 64 + 16 + 2;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub ql: &'a [u8; 128],
    pub qh: &'a [u8; 64],
    pub scales: &'a [u8; 16],
    pub d: &'a [u8; 2],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            ql: field(bytes, 0),
            qh: field(bytes, 128),
            scales: field(bytes, 192),
            d: field(bytes, 208),
        }
    }
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let d = half(block.d);
    for (j, run) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * (block.scales[j] as i8) as f32;
        let (h, k) = (j / 8, j / 2 % 4);
        for (l, w) in (j % 2 * 16..).zip(run) {
            let low = block.ql[64 * h + k % 2 * 32 + l] >> (k / 2 * 4) & 15;
            let high = block.qh[32 * h + l] >> (2 * k) & 3;
            *w = scale * ((low | high << 4) as i8 - 32) as f32;
        }
    }
}

/// Encodes one block.
pub fn encode(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let runs: &[[f32; 16]; 16] = weights.as_chunks().0.try_into().expect("16 sub-blocks");
    let fit = fit_scales(runs, 32.0, 128.0);
    for j in 0..16 {
        block[192 + j] = fit.scale[j] as u8;
    }
    block[208..].copy_from_slice(&fit.d);
    set_levels(weights, block);
}

/// Gives every weight the level nearest to it at the scales that the block has.
pub fn set_levels(weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let fields = Block::of(block);
    let (d, scales) = (half(fields.d), *fields.scales);
    block[..192].fill(0);
    for (i, w) in weights.iter().enumerate() {
        let to_level = inverse(d * (scales[i / 16] as i8) as f32);
        let q = (nearest(w * to_level, -32.0, 31.0) + 32.0) as u8;
        let (h, k, l) = (i / 128, i / 32 % 4, i % 32);
        block[64 * h + k % 2 * 32 + l] |= (q & 15) << (k / 2 * 4);
        block[128 + 32 * h + l] |= (q >> 4) << (2 * k);
    }
}
