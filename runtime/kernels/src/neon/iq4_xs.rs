//! IQ4_XS with 16-byte vectors.

use core::arch::aarch64::*;

use super::iq4_nl::on_grid;
use super::registers::{half, load_halves, spread_halves, store_all};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::iq4_xs::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "neon")]
fn scales(block: &[u8; BYTES]) -> Scales<8> {
    let block = Block::of(block);
    let d = half(block.d);
    let mut scales = Scales {
        scale: [0.0; 8],
        min: [0.0; 8],
    };
    // Nibble j, and bits 2 * j and 2 * j + 1, come down to bits 0 .. in lane j.
    let pairs = u32::from_le_bytes(*block.scales_l);
    let pairs = vcombine_u16(vdup_n_u16(pairs as u16), vdup_n_u16((pairs >> 16) as u16));
    let low = vshlq_u16(pairs, load_halves(&[0, -4, -8, -12, 0, -4, -8, -12]));
    let high = vdupq_n_u16(block.scales_h);
    let high = vshlq_u16(high, load_halves(&[0, -2, -4, -6, -8, -10, -12, -14]));
    let low = vandq_u16(low, vdupq_n_u16(15));
    let high = vshlq_n_u16::<4>(vandq_u16(high, vdupq_n_u16(3)));
    let integers = vreinterpretq_s16_u16(vorrq_u16(low, high));
    let integers = spread_halves(vsubq_s16(integers, vdupq_n_s16(32)));
    store_all(&mut scales.scale, integers.map(|s| vmulq_n_f32(s, d)));
    scales
}

#[inline]
#[target_feature(enable = "neon")]
fn levels(block: &[u8; BYTES], run: usize) -> [int8x16_t; 2] {
    on_grid(field(Block::of(block).qs, 16 * run))
}

kernels!(IQ4XS, run: 32);
