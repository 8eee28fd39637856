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
