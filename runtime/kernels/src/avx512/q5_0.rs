//! Q5_0 with 64-byte vectors: one table for each value of a weight's upper bit.

use core::arch::x86_64::*;

use super::registers::{half, levels_from, lookup_either, table, widen};
use super::walk::kernels;
use crate::blocks::q5_0::{BYTES, Block, LEN};

/// Levels without and with the upper bit.
const LOWER: [f32; 16] = levels_from(-16);
const UPPER: [f32; 16] = levels_from(0);

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> [__m512; 2] {
    let d = half(Block::of(block).d);
    [table(&LOWER, d), table(&UPPER, d)]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], tables: &[__m512; 2], _run: usize) -> [[__m512; 2]; 1] {
    let block = Block::of(block);
    [five_bits(tables, block.qh, block.qs)]
}

/// The 32 weights of a block whose fifth bits are `qh`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn five_bits([lower, upper]: &[__m512; 2], qh: u32, qs: &[u8; 16]) -> [__m512; 2] {
    let bytes = widen(qs);
    [
        lookup_either(*lower, *upper, qh as u16, bytes),
        lookup_either(
            *lower,
            *upper,
            (qh >> 16) as u16,
            _mm512_srli_epi32(bytes, 4),
        ),
    ]
}

kernels!(run: 32);
