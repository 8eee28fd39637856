//! Q2_K with 64-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, levels_repeating, load, lookup, store, widen};
use super::walk::kernels;
use crate::blocks::field;
use crate::blocks::q2_k::{BYTES, Block, LEN};

const LEVELS: [f32; 16] = levels_repeating::<4>(0, 1);

/// Scales, and minimums.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> [[f32; 16]; 2] {
    let block = Block::of(block);
    let pairs = widen(block.scales);
    let low = _mm512_and_si512(pairs, _mm512_set1_epi32(15));
    let scaled =
        |d: &[u8; 2], v: __m512i| _mm512_mul_ps(_mm512_set1_ps(half(d)), _mm512_cvtepi32_ps(v));
    let mut scales = [[0.0; 16]; 2];
    store(&mut scales[0], scaled(block.d, low));
    store(
        &mut scales[1],
        scaled(block.dmin, _mm512_srli_epi32(pairs, 4)),
    );
    scales
}

/// One run is half a block: 128 weights in the four bit pairs of 32 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], [scale, min]: &[[f32; 16]; 2], run: usize) -> [[__m512; 2]; 4] {
    let block = Block::of(block);
    let levels = load(&LEVELS);
    let (a, b) = (
        widen(field(block.qs, 32 * run)),
        widen(field(block.qs, 32 * run + 16)),
    );
    let weight = |k: usize, pairs: __m512i| {
        let scaled = _mm512_mul_ps(lookup(levels, pairs), _mm512_set1_ps(scale[8 * run + k]));
        _mm512_sub_ps(scaled, _mm512_set1_ps(min[8 * run + k]))
    };
    [
        [weight(0, a), weight(1, b)],
        [
            weight(2, _mm512_srli_epi32(a, 2)),
            weight(3, _mm512_srli_epi32(b, 2)),
        ],
        [
            weight(4, _mm512_srli_epi32(a, 4)),
            weight(5, _mm512_srli_epi32(b, 4)),
        ],
        [
            weight(6, _mm512_srli_epi32(a, 6)),
            weight(7, _mm512_srli_epi32(b, 6)),
        ],
    ]
}

kernels!(run: 128);
