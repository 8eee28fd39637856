//! Q5_K with 16-byte vectors.

use core::arch::aarch64::*;

use super::q4_k::scale_pairs;
use super::registers::{high_nibbles, load_32, low_nibbles, signed, where_set};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q5_k::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "neon")]
fn scales(block: &[u8; BYTES]) -> Scales<8> {
    let block = Block::of(block);
    scale_pairs(block.d, block.dmin, block.scales)
}

#[inline]
#[target_feature(enable = "neon")]
fn levels(block: &[u8; BYTES], run: usize) -> [int8x16_t; 4] {
    let block = Block::of(block);
    let [a, b] = load_32(field(block.qs, 32 * run));
    let [a_upper, b_upper] = load_32(block.qh);
    let (first, second) = (1 << (2 * run), 2 << (2 * run));
    signed([
        vorrq_u8(low_nibbles(a), where_set(a_upper, first, 16)),
        vorrq_u8(low_nibbles(b), where_set(b_upper, first, 16)),
        vorrq_u8(high_nibbles(a), where_set(a_upper, second, 16)),
        vorrq_u8(high_nibbles(b), where_set(b_upper, second, 16)),
    ])
}

kernels!(Q5K, run: 64);
