//! IQ4_NL with 64-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, lookup_nibbles, table};
use super::walk::kernels;
use crate::blocks::iq4_nl::{BYTES, Block, GRID_F32, LEN};

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> __m512 {
    table(&GRID_F32, half(Block::of(block).d))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], table: &__m512, _run: usize) -> [[__m512; 2]; 1] {
    [lookup_nibbles(*table, Block::of(block).qs)]
}

kernels!(run: 32);
