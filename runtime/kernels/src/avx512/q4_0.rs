//! Q4_0 with 64-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, levels_from, load, load_16, lookup_nibbles, store, table};
use super::walk::kernels_scaling_last;
use crate::blocks::q4_0::{BYTES, Block, LEN};

const LEVELS: [f32; 16] = levels_from(-8);

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> __m512 {
    table(&LEVELS, half(Block::of(block).d))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], table: &__m512, _run: usize) -> [[__m512; 2]; 1] {
    [lookup_nibbles(*table, Block::of(block).qs)]
}

/// Blocks that hold 256 weights.
const EIGHT: usize = 8 * BYTES;

/// The scales of eight blocks, and no minimums.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn eight_scales(blocks: &[u8; EIGHT]) -> [f32; 16] {
    let mut halves = [0_u8; 16];
    for (half, block) in halves
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(blocks.as_chunks().0)
    {
        *half = *Block::of(block).d;
    }
    let mut scales = [0.0; 16];
    let eight = _mm512_zextps256_ps512(_mm256_cvtph_ps(load_16(&halves)));
    store(&mut scales, eight);
    scales
}

/// The levels of two of eight blocks.
#[inline]
#[target_feature(enable = "avx512f")]
fn levels(blocks: &[u8; EIGHT], run: usize) -> [[__m512; 2]; 2] {
    let (blocks, table) = (blocks.as_chunks().0, load(&LEVELS));
    [
        lookup_nibbles(table, Block::of(&blocks[2 * run]).qs),
        lookup_nibbles(table, Block::of(&blocks[2 * run + 1]).qs),
    ]
}

kernels_scaling_last!(run: 32, bytes: EIGHT, scales: eight_scales, levels: levels);
