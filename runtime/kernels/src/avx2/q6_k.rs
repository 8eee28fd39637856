//! Q6_K with 32-byte vectors.

use core::arch::x86_64::*;

use super::prefetch::ask_once;
use super::registers::{
    bits, half, load, load_8_bytes, load_16, load_32, load_signed, load_twice, store, sum,
};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q6_k::{BYTES, Block, LEN};
use crate::rounded::{GROUP, Rounded};

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

/// Sums of the products of a run's four groups: of their first halves in order, then of their last. Of the products of
/// six-bit levels four fit in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_run(levels: [__m256i; 4], x: &[[i8; GROUP]; 4]) -> __m256i {
    let mut narrow = [_mm256_setzero_si256(); 4];
    for (narrow, (levels, x)) in narrow.iter_mut().zip(levels.into_iter().zip(x)) {
        *narrow = _mm256_maddubs_epi16(levels, load_signed(x));
    }
    let [a, b, c, d] = narrow;
    let two = |a, b| {
        let sums = _mm256_add_epi16(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
    };
    let (ab, cd) = (two(a, b), two(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// Of four pairs the first floats, then the last.
#[inline]
#[target_feature(enable = "avx2")]
fn apart(pairs: &[[f32; 2]; 4]) -> __m256 {
    let pairs = load(pairs.as_flattened().first_chunk().expect("eight floats"));
    _mm256_permutevar8x32_ps(pairs, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7))
}

/// [`crate::Kernels::thin_rounded`] for one token. The sums of sixteen levels' products, which share a scale, are brought
/// into the lanes of a vector before they are scaled.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn one_token(y: &mut [f32], x: &Rounded<'_>, w: &[u8]) {
    let runs = x.levels.as_chunks::<4>().0.as_chunks::<2>().0;
    let units = x.units.as_chunks::<4>().0.as_chunks::<2>().0;
    let halves = x.halves.as_chunks::<4>().0.as_chunks::<2>().0;
    let order = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    let rows = w.as_chunks::<BYTES>().0.chunks_exact(runs.len());
    for (y, row) in y.iter_mut().zip(rows) {
        let mut total = _mm256_setzero_ps();
        let x = runs.iter().zip(units).zip(halves);
        for (block, ((x, units), halves)) in row.iter().zip(x) {
            ask_once(block);
            let fields = Block::of(block);
            let scales = _mm_shuffle_epi8(load_16(fields.scales), order);
            let scales = [scales, _mm_unpackhi_epi64(scales, scales)];
            let mut part = _mm256_setzero_ps();
            for (run, eight) in scales.into_iter().enumerate() {
                let scale = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
                let sums = _mm256_cvtepi32_ps(sums_of_run(raised(block, run), &x[run]));
                let raise = _mm256_mul_ps(_mm256_set1_ps(-32.0), apart(&halves[run]));
                let own = _mm256_fmadd_ps(sums, load_twice(&units[run]), raise);
                part = _mm256_fmadd_ps(scale, own, part);
            }
            total = _mm256_fmadd_ps(_mm256_set1_ps(half(fields.d)), part, total);
        }
        *y = sum(total);
    }
}

kernels!(Q6K, run: 128);
