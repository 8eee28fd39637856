//! Loads, stores and conversions between byte arrays and 32-byte registers: all of the
//! pointer work of this folder.

use core::arch::x86_64::*;

/// Sixteen bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: `bytes` is 16 readable bytes and the load has no alignment need.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Thirty-two bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: `bytes` is 32 readable bytes and the load has no alignment need.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Writes thirty-two bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_32(bytes: &mut [u8; 32], v: __m256i) {
    // SAFETY: `bytes` is 32 writable bytes and the store has no alignment need.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), v) }
}

/// Thirty-two bytes with a sign.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_signed(bytes: &[i8; 32]) -> __m256i {
    // SAFETY: `bytes` is 32 readable bytes and the load has no alignment need.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Writes thirty-two bytes with a sign.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_signed(bytes: &mut [i8; 32], v: __m256i) {
    // SAFETY: `bytes` is 32 writable bytes and the store has no alignment need.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), v) }
}

/// Four bytes, eight times.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn spread_quad(bytes: &[i8; 4]) -> __m256i {
    // SAFETY: `bytes` is 4 readable bytes, read without a need of alignment.
    _mm256_set1_epi32(unsafe { bytes.as_ptr().cast::<i32>().read_unaligned() })
}

/// Two words, eight times.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn spread_pair(words: &[i16; 2]) -> __m256i {
    // SAFETY: `words` is 4 readable bytes, read without a need of alignment.
    _mm256_set1_epi32(unsafe { words.as_ptr().cast::<i32>().read_unaligned() })
}

/// Eight bytes as integers, zero-extended.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_8_bytes(bytes: &[u8; 8]) -> __m256i {
    _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*bytes)))
}

/// Sixteen integers of 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_halves(halves: &[i16; 16]) -> __m256i {
    // SAFETY: `halves` is 32 readable bytes, read without a need of alignment.
    unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) }
}

/// Writes sixteen integers of 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_halves(values: &mut [i16; 16], v: __m256i) {
    // SAFETY: `values` is 32 writable bytes and the store has no alignment need.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), v) }
}

/// Eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(floats: &[f32; 8]) -> __m256 {
    // SAFETY: `floats` is 32 readable bytes and the load has no alignment need.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

/// Four floats, twice.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_twice(floats: &[f32; 4]) -> __m256 {
    // SAFETY: `floats` is 16 readable bytes and the load has no alignment need.
    let four = unsafe { _mm_loadu_ps(floats.as_ptr()) };
    _mm256_set_m128(four, four)
}

/// Writes eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(floats: &mut [f32; 8], v: __m256) {
    // SAFETY: `floats` is 32 writable bytes and the store has no alignment need.
    unsafe { _mm256_storeu_ps(floats.as_mut_ptr(), v) }
}

/// The value of an F16 field.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn half(bytes: &[u8; 2]) -> f32 {
    let bits = _mm_cvtsi32_si128(u16::from_le_bytes(*bytes) as i32);
    _mm_cvtss_f32(_mm_cvtph_ps(bits))
}

/// The values of two F16 fields, each eight times.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn two_halves(bytes: &[u8; 4]) -> [__m256; 2] {
    let both = _mm256_cvtph_ps(_mm_set1_epi32(i32::from_le_bytes(*bytes)));
    [_mm256_moveldup_ps(both), _mm256_movehdup_ps(both)]
}

/// The values of the F16 fields at `AT` of eight blocks. They are put together as numbers, for which there are
/// registers and units that the rest of a product leaves alone.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn halves<const AT: usize, const BYTES: usize>(blocks: &[[u8; BYTES]; 8]) -> __m256 {
    let mut quads = [0_u64; 2];
    for (i, block) in blocks.iter().enumerate() {
        let half = u16::from_le_bytes([block[AT], block[AT + 1]]);
        quads[i / 4] |= u64::from(half) << (16 * (i % 4));
    }
    _mm256_cvtph_ps(_mm_set_epi64x(quads[1] as i64, quads[0] as i64))
}

/// Thirty-two signed bytes as floats, in order.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn spread(levels: __m256i) -> [__m256; 4] {
    let float = |eight: __m128i| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
    let (low, high) = (
        _mm256_castsi256_si128(levels),
        _mm256_extracti128_si256(levels, 1),
    );
    [
        float(low),
        float(_mm_unpackhi_epi64(low, low)),
        float(high),
        float(_mm_unpackhi_epi64(high, high)),
    ]
}

/// The 32 nibbles of 16 bytes: lower ones first.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn nibbles(bytes: &[u8; 16]) -> __m256i {
    let twice = _mm256_broadcastsi128_si256(load_16(bytes));
    let both = _mm256_srlv_epi32(twice, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// The nibbles of the last 16 bytes of two blocks, all lower ones and all upper ones: half a vector is a block's.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn nibbles_of_two<const BYTES: usize>(
    one: &[u8; BYTES],
    other: &[u8; BYTES],
) -> [__m256i; 2] {
    let [one, other] = [one, other].map(|block| block.last_chunk().expect("longer than nibbles"));
    let both = side_by_side(one, other);
    [bits::<0>(both, 15), bits::<4>(both, 15)]
}

/// Of 128 bytes that hold eight groups of nibbles, groups `i` and `i + 4`: the first halves of both and the last. Each 32
/// bytes are a group of lower nibbles and one of upper nibbles.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn nibbles_of_runs(bytes: &[u8; 128], i: usize) -> [__m256i; 2] {
    let halves = bytes.as_chunks::<16>().0;
    let run = i / 2 * 2;
    let both = [
        side_by_side(&halves[run], &halves[run + 4]),
        side_by_side(&halves[run + 1], &halves[run + 5]),
    ];
    match i % 2 {
        0 => [bits::<0>(both[0], 15), bits::<0>(both[1], 15)],
        _ => [bits::<4>(both[0], 15), bits::<4>(both[1], 15)],
    }
}

/// Sixteen bytes and sixteen others.
#[inline]
#[target_feature(enable = "avx2")]
fn side_by_side(one: &[u8; 16], other: &[u8; 16]) -> __m256i {
    _mm256_set_m128i(load_16(other), load_16(one))
}

/// Groups 0 and 4, 1 and 5, 2 and 6, 3 and 7: the lower halves of both, and the upper halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn in_halves(out: &mut [[[i8; 32]; 2]; 4], groups: &[[i8; 32]; 8]) {
    let (ones, others) = groups.split_at(4);
    for ((out, one), other) in out.iter_mut().zip(ones).zip(others) {
        let (one, other) = (load_signed(one), load_signed(other));
        store_signed(&mut out[0], _mm256_permute2x128_si256(one, other, 0x20));
        store_signed(&mut out[1], _mm256_permute2x128_si256(one, other, 0x31));
    }
}

/// Each byte of `bytes` moved right by `SHIFT` bits and cut to `mask`; the mask must leave no
/// more than the byte's own `8 - SHIFT` bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn bits<const SHIFT: i32>(bytes: __m256i, mask: i8) -> __m256i {
    _mm256_and_si256(_mm256_srli_epi16(bytes, SHIFT), _mm256_set1_epi8(mask))
}

/// One value in all lanes, or two in four lanes each.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn one_or_two(values: &[f32]) -> __m256 {
    let (first, last) = (values[0], values[values.len() - 1]);
    _mm256_set_m128(_mm_set1_ps(last), _mm_set1_ps(first))
}

/// Lanes 0 and 4, four times each, 1 and 5, 2 and 6, 3 and 7.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn spread_in_halves(values: __m256) -> [__m256; 4] {
    [
        _mm256_permute_ps(values, 0b00_00_00_00),
        _mm256_permute_ps(values, 0b01_01_01_01),
        _mm256_permute_ps(values, 0b10_10_10_10),
        _mm256_permute_ps(values, 0b11_11_11_11),
    ]
}

/// Each lane, eight times.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn spread_eight(values: __m256) -> [__m256; 8] {
    let [a, b, c, d] = spread_in_halves(_mm256_permute2f128_ps(values, values, 0x00));
    let [e, f, g, h] = spread_in_halves(_mm256_permute2f128_ps(values, values, 0x11));
    [a, b, c, d, e, f, g, h]
}

/// The sum of the eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    let v = _mm_add_ss(v, _mm_shuffle_ps(v, v, 1));
    _mm_cvtss_f32(v)
}

/// Lane `i` is the sum of vector `i`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_each([a, b, c, d, e, f, g, h]: [__m256; 8]) -> __m256 {
    // Halves of two vectors side by side, then quarters of four, then eighths of all.
    let two = |a, b| _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let four = |a, b, c, d| {
        let (ab, cd) = (_mm256_castps_pd(two(a, b)), _mm256_castps_pd(two(c, d)));
        let (low, high) = (_mm256_unpacklo_pd(ab, cd), _mm256_unpackhi_pd(ab, cd));
        _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high))
    };
    let (low, high) = (four(a, b, c, d), four(e, f, g, h));
    _mm256_add_ps(
        _mm256_permute2f128_ps::<0x20>(low, high),
        _mm256_permute2f128_ps::<0x31>(low, high),
    )
}

/// Lane `i` is the sum of the first half of vector `i`, and lane `i + 4` that of its last half.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn sum_halves([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let two = |a, b| _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (ab, cd) = (two(a, b), two(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// The largest of eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn largest(v: __m256) -> f32 {
    let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)))
}

/// Of each 16 bytes, the sum of the first two of each four, and of the last two.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sums_of_pairs(bytes: __m256i) -> [[i16; 2]; 2] {
    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    let pairs = _mm256_add_epi16(pairs, _mm256_unpackhi_epi64(pairs, pairs));
    let pairs = _mm256_add_epi16(pairs, _mm256_srli_epi64(pairs, 32));
    let low = _mm_cvtsi128_si32(_mm256_castsi256_si128(pairs));
    let high = _mm_cvtsi128_si32(_mm256_extracti128_si256(pairs, 1));
    [
        [low as i16, (low >> 16) as i16],
        [high as i16, (high >> 16) as i16],
    ]
}

/// The sum of the products of 32 levels without sign, of at most 7 bits, with activations, in eight
/// parts: the first four belong to the first 16 levels.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dot(levels: __m256i, x: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_maddubs_epi16(levels, x), _mm256_set1_epi16(1))
}

/// Of the vectors of [`nibbles_of_runs`] and [`in_halves`] the sum of each group's products, in order. Sixteen products of
/// nibbles fit in 16 bits, so they are added before they are widened.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dots_of_eight(levels: [[__m256i; 2]; 4], x: [[__m256i; 2]; 4]) -> __m256i {
    let mut narrow = [_mm256_setzero_si256(); 4];
    for (narrow, (levels, x)) in narrow.iter_mut().zip(levels.iter().zip(x)) {
        let lower = _mm256_maddubs_epi16(levels[0], x[0]);
        let upper = _mm256_maddubs_epi16(levels[1], x[1]);
        *narrow = _mm256_add_epi16(lower, upper);
    }
    let [a, b, c, d] = narrow;
    let two = |a, b| _mm256_add_epi16(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (ab, cd) = (two(a, b), two(c, d));
    let (low, high) = (_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    _mm256_madd_epi16(_mm256_add_epi16(low, high), _mm256_set1_epi16(1))
}

/// A byte of ones for each set bit of `bits`, in order.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn bit_mask(bits: u32) -> __m256i {
    // Byte i of the result looks at byte i / 8 of `bits` (within each 16-byte half).
    let copies = _mm256_shuffle_epi8(
        _mm256_set1_epi32(bits as i32),
        _mm256_set_epi64x(
            0x0303_0303_0303_0303,
            0x0202_0202_0202_0202,
            0x0101_0101_0101_0101,
            0,
        ),
    );
    let own = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
    _mm256_cmpeq_epi8(_mm256_and_si256(copies, own), own)
}
