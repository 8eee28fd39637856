//! Loads, stores, lookups and conversions between byte arrays and 64-byte registers: all of
//! the pointer work of this folder.

use core::arch::x86_64::*;

use crate::avx2::registers::sum_halves;

/// Sixty-four bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_64(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: `bytes` is 64 readable bytes and the load has no alignment need.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Four bytes, sixteen times.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn spread_quad(bytes: &[i8; 4]) -> __m512i {
    // SAFETY: `bytes` is 4 readable bytes, read without a need of alignment.
    _mm512_set1_epi32(unsafe { bytes.as_ptr().cast::<i32>().read_unaligned() })
}

/// Two words, sixteen times.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn spread_pair(words: &[i16; 2]) -> __m512i {
    // SAFETY: `words` is 4 readable bytes, read without a need of alignment.
    _mm512_set1_epi32(unsafe { words.as_ptr().cast::<i32>().read_unaligned() })
}

/// Sixteen pairs of words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_pairs(pairs: &[[i16; 2]; 16]) -> __m512i {
    // SAFETY: `pairs` is 64 readable bytes and the load has no alignment need.
    unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) }
}

/// Thirty-two bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: `bytes` is 32 readable bytes and the load has no alignment need.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Sixteen bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: `bytes` is 16 readable bytes and the load has no alignment need.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Sixteen bytes as integers, zero-extended.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn widen(bytes: &[u8; 16]) -> __m512i {
    _mm512_cvtepu8_epi32(load_16(bytes))
}

/// Sixteen signed bytes as floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn signed(bytes: &[u8; 16]) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16(bytes)))
}

/// Sixteen floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(floats: &[f32; 16]) -> __m512 {
    // SAFETY: `floats` is 64 readable bytes and the load has no alignment need.
    unsafe { _mm512_loadu_ps(floats.as_ptr()) }
}

/// Eight floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_8(floats: &[f32; 8]) -> __m256 {
    // SAFETY: `floats` is 32 readable bytes and the load has no alignment need.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

/// Writes sixteen floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(floats: &mut [f32; 16], v: __m512) {
    // SAFETY: `floats` is 64 writable bytes and the store has no alignment need.
    unsafe { _mm512_storeu_ps(floats.as_mut_ptr(), v) }
}

/// The sum of the products of 32 levels without sign with activations, in eight parts: the first four
/// belong to the first 16 levels.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512vnni")]
pub(crate) fn dot(levels: __m256i, x: __m256i) -> __m256i {
    _mm256_dpbusd_epi32(_mm256_setzero_si256(), levels, x)
}

/// The sum of each group's products, as in [`crate::avx2::registers`].
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512vnni")]
pub(crate) fn dots_of_eight(levels: [[__m256i; 2]; 4], x: [[__m256i; 2]; 4]) -> __m256i {
    let mut dots = [_mm256_setzero_si256(); 4];
    for (dots, (levels, x)) in dots.iter_mut().zip(levels.iter().zip(x)) {
        *dots = _mm256_dpbusd_epi32(dot(levels[0], x[0]), levels[1], x[1]);
    }
    sum_halves(dots)
}

/// The value of an F16 field.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
pub(super) fn half(bytes: &[u8; 2]) -> f32 {
    let bits = _mm_set1_epi16(i16::from_le_bytes(*bytes));
    _mm_cvtss_f32(_mm_cvtph_ps(bits))
}

/// `table[index % 16]` in every lane: a nibble becomes its weight in one instruction, and
/// bits above it do no harm.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn lookup(table: __m512, index: __m512i) -> __m512 {
    _mm512_permutexvar_ps(index, table)
}

/// A [`lookup`] table of sixteen values scaled alike.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn table(values: &[f32; 16], scale: f32) -> __m512 {
    _mm512_mul_ps(load(values), _mm512_set1_ps(scale))
}

/// The weights of sixteen bytes whose nibbles point into `table`: lower nibbles first.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn lookup_nibbles(table: __m512, bytes: &[u8; 16]) -> [__m512; 2] {
    let bytes = widen(bytes);
    [
        lookup(table, bytes),
        lookup(table, _mm512_srli_epi32(bytes, 4)),
    ]
}

/// `table[index % 16]`, or `other[index % 16]` in lanes whose bit of `choose` is set.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn lookup_either(
    table: __m512,
    other: __m512,
    choose: __mmask16,
    index: __m512i,
) -> __m512 {
    _mm512_mask_permutexvar_ps(lookup(table, index), choose, index, other)
}

/// Sixteen consecutive integers: the levels of a nibble.
pub(super) const fn levels_from(first: i8) -> [f32; 16] {
    levels_repeating::<16>(first, 1)
}

/// `first`, `first + step` and so on, `N` values that repeat: the levels of fewer than four
/// bits, since a lookup sees four.
pub(super) const fn levels_repeating<const N: usize>(first: i8, step: i8) -> [f32; 16] {
    let (mut levels, mut i) = ([0.0; 16], 0);
    while i < 16 {
        levels[i] = (first + step * (i % N) as i8) as f32;
        i += 1;
    }
    levels
}

/// The same bits as pairs of BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn as_halves(cells: __m512) -> __m512bh {
    // SAFETY: both are 64 bytes of which any are valid.
    unsafe { core::mem::transmute(cells) }
}

/// Rounded to BF16, the elements of `low` before those of `high`: sixteen cells.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn round_to_halves(low: __m512, high: __m512) -> __m512 {
    // SAFETY: as in `as_halves`.
    unsafe { core::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
}

/// The BF16 numbers of sixteen cells as floats, those of the first eight cells first.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn widen_halves(cells: __m512) -> [__m512; 2] {
    let cells = _mm512_castps_si512(cells);
    let widen = |halves| _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
    [
        widen(_mm512_castsi512_si256(cells)),
        widen(_mm512_extracti64x4_epi64(cells, 1)),
    ]
}
