//! Q6_K with 32-byte vectors.

use core::arch::x86_64::*;

use super::prefetch::ask_once;
use super::registers::{
    bits, half, load, load_8_bytes, load_16, load_32, load_signed, spread_eight, store, sum,
};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q6_k::{BYTES, Block, LEN};
use crate::rounded::Rounded;

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<16> {
    let block = Block::of(block);
    let d = _mm256_set1_ps(half(block.d));
    let mut scales = Scales {
        scale: [0.0; 16],
        min: [0.0; 16],
    };
    let pairs = scales
        .scale
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(block.scales.as_chunks().0);
    for (out, eight) in pairs {
        // Zero-extended bytes, moved up and down again to extend the sign.
        let signed = _mm256_srai_epi32(_mm256_slli_epi32(load_8_bytes(eight), 24), 24);
        store(out, _mm256_mul_ps(d, _mm256_cvtepi32_ps(signed)));
    }
    scales
}

#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], run: usize) -> [__m256i; 4] {
    let mut levels = raised(block, run);
    for level in &mut levels {
        *level = _mm256_sub_epi8(*level, _mm256_set1_epi8(32));
    }
    levels
}

/// Levels plus 32. One run is half a block: 128 weights that share 32 bytes of upper bits.
#[inline]
#[target_feature(enable = "avx2")]
fn raised(block: &[u8; BYTES], run: usize) -> [__m256i; 4] {
    let block = Block::of(block);
    let (a, b) = (
        load_32(field(block.ql, 64 * run)),
        load_32(field(block.ql, 64 * run + 32)),
    );
    let upper = load_32(field(block.qh, 32 * run));
    let level = |low: __m256i, high: __m256i| {
        _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(0x30)))
    };
    [
        level(bits::<0>(a, 15), _mm256_slli_epi16(upper, 4)),
        level(bits::<0>(b, 15), _mm256_slli_epi16(upper, 2)),
        level(bits::<4>(a, 15), upper),
        level(bits::<4>(b, 15), _mm256_srli_epi16(upper, 2)),
    ]
}

/// The bytes of word 0, 1, ... 7 of each half of a vector, eight times.
static WORDS: [[u8; 32]; 8] = {
    let mut words = [[0; 32]; 8];
    let mut i = 0;
    while i < 256 {
        words[i / 32][i % 32] = (i / 32 * 2 + i % 2) as u8;
        i += 1;
    }
    words
};

/// [`crate::Kernels::thin_rounded`] for one token. Scales are bytes times a float of their block, so they multiply pairs
/// of products where these are added, and a group is left with one float.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn one_token(y: &mut [f32], x: &Rounded<'_>, w: &[u8]) {
    let (inputs, units) = (x.levels.as_chunks::<8>().0, x.units.as_chunks().0);
    let halves = x.halves.as_chunks::<8>().0;
    // A compiler that knows them makes two instructions of each use.
    let words = std::hint::black_box(&WORDS);
    let rows = w.as_chunks::<BYTES>().0.chunks_exact(inputs.len());
    for (y, row) in y.iter_mut().zip(rows) {
        let mut totals = [_mm256_setzero_ps(); 4];
        let mut mins = [_mm256_setzero_ps(); 2];
        let x = inputs.iter().zip(units).zip(halves);
        for (block, ((x, units), halves)) in row.iter().zip(x) {
            ask_once(block);
            let fields = Block::of(block);
            let d = _mm256_set1_ps(half(fields.d));
            let scales = load_16(fields.scales);
            let down = _mm256_mul_ps(d, _mm256_set1_ps(-32.0));
            let eights = [scales, _mm_unpackhi_epi64(scales, scales)];
            let sums = halves.as_flattened().as_chunks().0;
            for ((min, eight), sums) in mins.iter_mut().zip(eights).zip(sums) {
                let scale = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
                *min = _mm256_fmadd_ps(_mm256_mul_ps(down, scale), load(sums), *min);
            }
            // Scales of groups' first halves in one half of the vector, of their last in the other.
            let apart = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
            let wide = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, apart));
            let worth = spread_eight(_mm256_mul_ps(d, load(units)));
            for run in 0..2 {
                let levels = raised(block, run);
                for (k, (total, levels)) in totals.iter_mut().zip(levels).enumerate() {
                    let g = 4 * run + k;
                    let scale = _mm256_shuffle_epi8(wide, load_32(&words[g]));
                    let pairs = _mm256_maddubs_epi16(levels, load_signed(&x[g]));
                    let part = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, scale));
                    *total = _mm256_fmadd_ps(worth[g], part, *total);
                }
            }
        }
        let [a, b, c, d] = totals;
        let total = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
        let [e, f] = mins;
        *y = sum(_mm256_add_ps(total, _mm256_add_ps(e, f)));
    }
}

kernels!(Q6K, run: 128);
