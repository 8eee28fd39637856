//! Q4_1 with 64-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, levels_from, lookup_nibbles, table};
use super::walk::kernels;
use crate::blocks::q4_1::{BYTES, Block, LEN};

const LEVELS: [f32; 16] = levels_from(0);

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> __m512 {
    let block = Block::of(block);
    _mm512_add_ps(table(&LEVELS, half(block.d)), _mm512_set1_ps(half(block.m)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], table: &__m512, _run: usize) -> [[__m512; 2]; 1] {
    [lookup_nibbles(*table, Block::of(block).qs)]
}

kernels!(run: 32);
