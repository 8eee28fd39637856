//! Q4_K with 16-byte vectors.

use core::arch::aarch64::*;

use super::registers::{
    half, high_nibbles, load_32, low_nibbles, signed, spread_halves, store_all,
};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q4_k::{BYTES, Block, LEN, scales_mins};

#[inline]
#[target_feature(enable = "neon")]
fn scales(block: &[u8; BYTES]) -> Scales<8> {
    let block = Block::of(block);
    scale_pairs(block.d, block.dmin, block.scales)
}

/// Scales and minimums of Q4_K and Q5_K.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn scale_pairs(d: &[u8; 2], dmin: &[u8; 2], packed: &[u8; 12]) -> Scales<8> {
    let mut scales = Scales {
        scale: [0.0; 8],
        min: [0.0; 8],
    };
    let (scale, min) = scales_mins(packed);
    store_all(&mut scales.scale, scaled(&scale, half(d)));
    store_all(&mut scales.min, scaled(&min, half(dmin)));
    scales
}

/// Eight bytes as floats times `factor`.
#[inline]
#[target_feature(enable = "neon")]
fn scaled(bytes: &[u8; 8], factor: f32) -> [float32x4_t; 2] {
    let wide = vmovl_u8(vcreate_u8(u64::from_le_bytes(*bytes)));
    spread_halves(vreinterpretq_s16_u16(wide)).map(|s| vmulq_n_f32(s, factor))
}

#[inline]
#[target_feature(enable = "neon")]
fn levels(block: &[u8; BYTES], run: usize) -> [int8x16_t; 4] {
    let [a, b] = load_32(field(Block::of(block).qs, 32 * run));
    signed([
        low_nibbles(a),
        low_nibbles(b),
        high_nibbles(a),
        high_nibbles(b),
    ])
}

kernels!(Q4K, run: 64);
