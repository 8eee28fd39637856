//! IQ4_XS: 256 weights in 136 bytes (4.25 bits each), on the grid of IQ4_NL. Decoded only.
//!
//! ```text
//! byte 0 1 | 2 3                      | 4 .. 7                      | 8 .. 135
//!      d   | scales_h: u16, bits 2*j  | scales_l: nibble j (low     | qs: nibbles of sub-block j
//!      f16 | and 2*j + 1 are bits 4-5 | first) is bits 0-3 of       | in bytes 16*j .. 16*j + 15,
//!          | of scale j               | scale j                     | placed as in IQ4_NL
//! ```
//! Weight `i` of sub-block `j = i / 32`: `w = d * (scale[j] - 32) * GRID[q]`.
//! Source: `block_iq4_xs` in ggml-common.h.

use super::field;
use super::floats::half;
use super::iq4_nl::decode_run;

/// Weights in a block.
pub const LEN: usize = 256;
/// Bytes in a block.
pub const BYTES: usize = 2 + 2 + 4 + 128;

/// The fields of one block.
pub(crate) struct Block<'a> {
    pub d: &'a [u8; 2],
    pub scales_h: u16,
    pub scales_l: &'a [u8; 4],
    pub qs: &'a [u8; 128],
}

impl<'a> Block<'a> {
    pub fn of(bytes: &'a [u8; BYTES]) -> Self {
        Self {
            d: field(bytes, 0),
            scales_h: u16::from_le_bytes(*field(bytes, 2)),
            scales_l: field(bytes, 4),
            qs: field(bytes, 8),
        }
    }

    /// Scale of sub-block `j` (`0..8`), in `-32..32`.
    pub fn scale(&self, j: usize) -> i8 {
        let low = self.scales_l[j / 2] >> (j % 2 * 4) & 15;
        let high = (self.scales_h >> (2 * j) & 3) as u8;
        (low | high << 4) as i8 - 32
    }
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let block = Block::of(block);
    let d = half(block.d);
    for (j, run) in out.as_chunks_mut().0.iter_mut().enumerate() {
        decode_run(d * block.scale(j) as f32, field(block.qs, 16 * j), run);
    }
}
