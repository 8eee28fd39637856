//! Q5_K with 64-byte vectors: one table for each value of a weight's upper bit.

use core::arch::x86_64::*;

use super::q4_k::{scale_pairs, table_of};
use super::registers::{levels_from, load, load_32, lookup_either, widen};
use super::walk::kernels_scaling_last;
use crate::blocks::field;
use crate::blocks::q5_k::{BYTES, Block, LEN};

/// Levels without and with the upper bit.
const LOWER: [f32; 16] = levels_from(0);
const UPPER: [f32; 16] = levels_from(16);

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> [f32; 16] {
    let block = Block::of(block);
    scale_pairs(block.d, block.dmin, block.scales)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn weights(block: &[u8; BYTES], scales: &[f32; 16], run: usize) -> [[__m512; 2]; 2] {
    let j = 2 * run;
    let low = [table_of(&LOWER, scales, j), table_of(&UPPER, scales, j)];
    let high = [
        table_of(&LOWER, scales, j + 1),
        table_of(&UPPER, scales, j + 1),
    ];
    look_up(block, run, low, high)
}

/// The same run before it is scaled.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn levels(block: &[u8; BYTES], run: usize) -> [[__m512; 2]; 2] {
    let tables = [load(&LOWER), load(&UPPER)];
    look_up(block, run, tables, tables)
}

/// A run through the tables, without and with the upper bit, of its two sub-blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn look_up(
    block: &[u8; BYTES],
    run: usize,
    low: [__m512; 2],
    high: [__m512; 2],
) -> [[__m512; 2]; 2] {
    let block = Block::of(block);
    let qs: &[u8; 32] = field(block.qs, 32 * run);
    let qh = load_32(block.qh);
    let (a, b) = (widen(field(qs, 0)), widen(field(qs, 16)));
    let sub_block = |[lower, upper]: [__m512; 2], j: usize, a: __m512i, b: __m512i| {
        let fifth = _mm256_test_epi8_mask(qh, _mm256_set1_epi8((1u8 << j) as i8));
        [
            lookup_either(lower, upper, fifth as u16, a),
            lookup_either(lower, upper, (fifth >> 16) as u16, b),
        ]
    };
    let (c, d) = (_mm512_srli_epi32(a, 4), _mm512_srli_epi32(b, 4));
    [
        sub_block(low, 2 * run, a, b),
        sub_block(high, 2 * run + 1, c, d),
    ]
}

kernels_scaling_last!(run: 64, bytes: BYTES, scales: scales, levels: levels);
