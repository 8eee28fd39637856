//! Q5_1 with 64-byte vectors: one table for each value of a weight's upper bit.

use core::arch::x86_64::*;

use super::q5_0::five_bits;
use super::registers::{half, levels_from, table};
use super::walk::kernels;
use crate::blocks::q5_1::{BYTES, Block, LEN};

/// Levels without and with the upper bit.
const LOWER: [f32; 16] = levels_from(0);
const UPPER: [f32; 16] = levels_from(16);

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> [__m512; 2] {
    let block = Block::of(block);
    let (d, m) = (half(block.d), _mm512_set1_ps(half(block.m)));
    [
        _mm512_add_ps(table(&LOWER, d), m),
        _mm512_add_ps(table(&UPPER, d), m),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], tables: &[__m512; 2], _run: usize) -> [[__m512; 2]; 1] {
    let block = Block::of(block);
    [five_bits(tables, block.qh, block.qs)]
}

kernels!(run: 32);
