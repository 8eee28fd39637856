//! Q3_K with 16-byte vectors.

use core::arch::aarch64::*;

use super::registers::{half, load_32, load_words, signed, spread, store_all};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q3_k::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "neon")]
fn scales(block: &[u8; BYTES]) -> Scales<16> {
    let block = Block::of(block);
    let d = half(block.d);
    let mut scales = Scales {
        scale: [0.0; 16],
        min: [0.0; 16],
    };
    let integers = spread(integer_scales(block.scales));
    store_all(&mut scales.scale, integers.map(|s| vmulq_n_f32(s, d)));
    scales
}

/// [`crate::blocks::q3_k::scale`] of all sub-blocks.
#[inline]
#[target_feature(enable = "neon")]
fn integer_scales(packed: &[u8; 12]) -> int8x16_t {
    let low = vcreate_u8(u64::from_le_bytes(*field(packed, 0)));
    let low = vcombine_u8(vand_u8(low, vdup_n_u8(15)), vshr_n_u8::<4>(low));
    // Sub-blocks j .. j + 4 have theirs in the same four bytes, j / 4 pairs of bits up.
    let high = vdupq_n_u32(u32::from_le_bytes(*field(packed, 8)));
    let high = vreinterpretq_u8_u32(vshlq_u32(high, load_words(&[0, -2, -4, -6])));
    let high = vshlq_n_u8::<4>(vandq_u8(high, vdupq_n_u8(3)));
    let scales = vreinterpretq_s8_u8(vorrq_u8(low, high));
    vsubq_s8(scales, vdupq_n_s8(32))
}

/// One run is half a block: 128 weights in the four bit pairs of 32 bytes.
#[inline]
#[target_feature(enable = "neon")]
fn levels(block: &[u8; BYTES], run: usize) -> [int8x16_t; 8] {
    let block = Block::of(block);
    let [a, b] = load_32(field(block.qs, 32 * run));
    let [a_mask, b_mask] = load_32(block.hmask);
    // Bits 4 * run .. 4 * run + 4 of the mask belong to this half.
    let level = |low, mask, k| {
        let low = vandq_u8(low, vdupq_n_u8(3));
        let set = vtstq_u8(mask, vdupq_n_u8(1u8 << (4 * run + k)));
        // Without its upper bit a level is 4 less.
        vsubq_u8(low, vbicq_u8(vdupq_n_u8(4), set))
    };
    signed([
        level(a, a_mask, 0),
        level(b, b_mask, 0),
        level(vshrq_n_u8::<2>(a), a_mask, 1),
        level(vshrq_n_u8::<2>(b), b_mask, 1),
        level(vshrq_n_u8::<4>(a), a_mask, 2),
        level(vshrq_n_u8::<4>(b), b_mask, 2),
        level(vshrq_n_u8::<6>(a), a_mask, 3),
        level(vshrq_n_u8::<6>(b), b_mask, 3),
    ])
}

kernels!(Q3K, run: 128);
