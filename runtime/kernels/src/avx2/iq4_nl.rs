//! IQ4_NL with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, load_16, nibbles};
use super::walk::{Scales, kernels};
use crate::blocks::iq4_nl::{BYTES, Block, GRID, LEN};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<1> {
    Scales {
        scale: [half(Block::of(block).d)],
        min: [0.0],
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], _run: usize) -> [__m256i; 1] {
    [on_grid(Block::of(block).qs)]
}

/// The grid values of 32 nibbles.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn on_grid(qs: &[u8; 16]) -> __m256i {
    let grid = _mm256_broadcastsi128_si256(load_16(&GRID.map(|v| v as u8)));
    _mm256_shuffle_epi8(grid, nibbles(qs))
}

kernels!(IQ4NL, run: 32);
