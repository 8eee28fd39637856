//! Q6_K with 64-byte vectors: a level is the sum of two lookups, its lower nibble's and its
//! upper two bits'.

use core::arch::x86_64::*;

use super::registers::{half, levels_from, levels_repeating, load, lookup, signed, store, widen};
use super::walk::kernels;
use crate::blocks::field;
use crate::blocks::q6_k::{BYTES, Block, LEN};

/// What the upper two bits stand for, less the 32 that every level is lowered by.
const UPPER: [f32; 16] = levels_repeating::<4>(-32, 16);
const LOWER: [f32; 16] = levels_from(0);

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> [f32; 16] {
    let block = Block::of(block);
    let mut scales = [0.0; 16];
    let d = _mm512_set1_ps(half(block.d));
    store(&mut scales, _mm512_mul_ps(d, signed(block.scales)));
    scales
}

/// One run is half a block: 128 weights that share 32 bytes of upper bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], scales: &[f32; 16], run: usize) -> [[__m512; 2]; 4] {
    let block = Block::of(block);
    let (lower, upper) = (load(&LOWER), load(&UPPER));
    let ql = |at: usize| widen(field(block.ql, 64 * run + at));
    let qh = |at: usize| widen(field(block.qh, 32 * run + at));
    let (a, b, c, d, p, q) = (ql(0), ql(16), ql(32), ql(48), qh(0), qh(16));
    let weight = |k: usize, low: __m512i, high: __m512i| {
        let level = _mm512_add_ps(lookup(lower, low), lookup(upper, high));
        _mm512_mul_ps(level, _mm512_set1_ps(scales[8 * run + k]))
    };
    [
        [weight(0, a, p), weight(1, b, q)],
        [
            weight(2, c, _mm512_srli_epi32(p, 2)),
            weight(3, d, _mm512_srli_epi32(q, 2)),
        ],
        [
            weight(4, _mm512_srli_epi32(a, 4), _mm512_srli_epi32(p, 4)),
            weight(5, _mm512_srli_epi32(b, 4), _mm512_srli_epi32(q, 4)),
        ],
        [
            weight(6, _mm512_srli_epi32(c, 4), _mm512_srli_epi32(p, 6)),
            weight(7, _mm512_srli_epi32(d, 4), _mm512_srli_epi32(q, 6)),
        ],
    ]
}

kernels!(run: 128);
