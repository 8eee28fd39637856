//! Q2_K with 16-byte vectors.

use core::arch::aarch64::*;

use super::registers::{
    half, high_nibbles, load_16, load_32, low_nibbles, signed, spread, store_all,
};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q2_k::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "neon")]
fn scales(block: &[u8; BYTES]) -> Scales<16> {
    let block = Block::of(block);
    let (d, dmin) = (half(block.d), half(block.dmin));
    let mut scales = Scales {
        scale: [0.0; 16],
        min: [0.0; 16],
    };
    let pairs = load_16(block.scales);
    let [scale, min] = signed([low_nibbles(pairs), high_nibbles(pairs)]);
    store_all(&mut scales.scale, spread(scale).map(|s| vmulq_n_f32(s, d)));
    store_all(&mut scales.min, spread(min).map(|m| vmulq_n_f32(m, dmin)));
    scales
}

/// One run is half a block: 128 weights in the four bit pairs of 32 bytes.
#[inline]
#[target_feature(enable = "neon")]
fn levels(block: &[u8; BYTES], run: usize) -> [int8x16_t; 8] {
    let [a, b] = load_32(field(Block::of(block).qs, 32 * run));
    let pair = |bits| vandq_u8(bits, vdupq_n_u8(3));
    signed([
        pair(a),
        pair(b),
        pair(vshrq_n_u8::<2>(a)),
        pair(vshrq_n_u8::<2>(b)),
        pair(vshrq_n_u8::<4>(a)),
        pair(vshrq_n_u8::<4>(b)),
        vshrq_n_u8::<6>(a),
        vshrq_n_u8::<6>(b),
    ])
}

kernels!(Q2K, run: 128);
