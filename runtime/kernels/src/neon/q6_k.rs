//! Q6_K with 16-byte vectors.

use core::arch::aarch64::*;

use super::registers::{
    half, high_nibbles, load_16, load_32, low_nibbles, signed, spread, store_all,
};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q6_k::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "neon")]
fn scales(block: &[u8; BYTES]) -> Scales<16> {
    let block = Block::of(block);
    let d = half(block.d);
    let mut scales = Scales {
        scale: [0.0; 16],
        min: [0.0; 16],
    };
    let integers = spread(vreinterpretq_s8_u8(load_16(block.scales)));
    store_all(&mut scales.scale, integers.map(|s| vmulq_n_f32(s, d)));
    scales
}

/// One run is half a block: 128 weights that share 32 bytes of upper bits.
#[inline]
#[target_feature(enable = "neon")]
fn levels(block: &[u8; BYTES], run: usize) -> [int8x16_t; 8] {
    let block = Block::of(block);
    let [a, b] = load_32(field(block.ql, 64 * run));
    let [c, d] = load_32(field(block.ql, 64 * run + 32));
    let [even, odd] = load_32(field(block.qh, 32 * run));
    let level = |low, high| {
        let level = vorrq_u8(low, vandq_u8(high, vdupq_n_u8(0x30)));
        vsubq_u8(level, vdupq_n_u8(32))
    };
    signed([
        level(low_nibbles(a), vshlq_n_u8::<4>(even)),
        level(low_nibbles(b), vshlq_n_u8::<4>(odd)),
        level(low_nibbles(c), vshlq_n_u8::<2>(even)),
        level(low_nibbles(d), vshlq_n_u8::<2>(odd)),
        level(high_nibbles(a), even),
        level(high_nibbles(b), odd),
        level(high_nibbles(c), vshrq_n_u8::<2>(even)),
        level(high_nibbles(d), vshrq_n_u8::<2>(odd)),
    ])
}

kernels!(Q6K, run: 128);
