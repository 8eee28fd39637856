//! Loads, stores and conversions between byte arrays and 16-byte registers: all of the
//! pointer work of this folder, and the instructions that Rust has no stable functions for.

use core::arch::aarch64::*;
use core::arch::asm;

/// Sixteen bytes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_16(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: `bytes` is 16 readable bytes and the load has no alignment need.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// Thirty-two bytes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_32(bytes: &[u8; 32]) -> [uint8x16_t; 2] {
    let (low, high) = bytes.split_at(16);
    let half = |bytes: &[u8]| load_16(bytes.first_chunk().expect("16 bytes"));
    [half(low), half(high)]
}

/// Eight integers of 16 bits.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_halves(values: &[i16; 8]) -> int16x8_t {
    // SAFETY: `values` is 16 readable bytes and the load has no alignment need.
    unsafe { vld1q_s16(values.as_ptr()) }
}

/// Sixteen bytes with a sign.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_signed(bytes: &[i8; 16]) -> int8x16_t {
    // SAFETY: `bytes` is 16 readable bytes and the load has no alignment need.
    unsafe { vld1q_s8(bytes.as_ptr()) }
}

/// Writes sixteen bytes with a sign.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_signed(bytes: &mut [i8; 16], v: int8x16_t) {
    // SAFETY: `bytes` is 16 writable bytes and the store has no alignment need.
    unsafe { vst1q_s8(bytes.as_mut_ptr(), v) }
}

/// Writes sixteen levels, with their signs, as bytes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_levels(bytes: &mut [u8; 16], v: int8x16_t) {
    // SAFETY: `bytes` is 16 writable bytes and the store has no alignment need.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), vreinterpretq_u8_s8(v)) }
}

/// Four integers of 32 bits.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_words(values: &[i32; 4]) -> int32x4_t {
    // SAFETY: `values` is 16 readable bytes and the load has no alignment need.
    unsafe { vld1q_s32(values.as_ptr()) }
}

/// Four floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load(floats: &[f32; 4]) -> float32x4_t {
    // SAFETY: `floats` is 16 readable bytes and the load has no alignment need.
    unsafe { vld1q_f32(floats.as_ptr()) }
}

/// Writes four floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store(floats: &mut [f32; 4], v: float32x4_t) {
    // SAFETY: `floats` is 16 writable bytes and the store has no alignment need.
    unsafe { vst1q_f32(floats.as_mut_ptr(), v) }
}

/// Writes `4 * N` floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_all<const N: usize>(floats: &mut [f32], vectors: [float32x4_t; N]) {
    for (floats, v) in floats.as_chunks_mut().0.iter_mut().zip(vectors) {
        store(floats, v);
    }
}

/// Brings the cache line where `floats` begin closer.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn ask_for(floats: &[f32]) {
    // SAFETY: a hint, which does nothing but to the cache, whatever the address.
    unsafe {
        asm!(
            "prfm pstl1keep, [{at}]",
            at = in(reg) floats.as_ptr(),
            options(nostack, preserves_flags, readonly)
        );
    }
}

/// Adds to each of four sums the product of four bytes of `a` with those of `b`, all with a sign.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot_quads(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: reads and writes no more than the three registers; whoever calls this has `dotprod`, as
    // the attribute demands.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// The same with the four bytes at quad `L` of `b` for all four of `a`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot_quad<const L: usize>(
    mut sum: int32x4_t,
    a: int8x16_t,
    b: int8x16_t,
) -> int32x4_t {
    // SAFETY: as in `dot_quads`.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.4b[{quad}]",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            quad = const L,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Adds to a 2 x 2 matrix of sums the product of the 2 x 8 matrix `a` and the transposed 2 x 8 matrix
/// `b`, bytes with a sign.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) fn multiply_pairs(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: reads and writes no more than the three registers; whoever calls this has `i8mm`, as the
    // attribute demands.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// The sums of the first two of each four bytes with a sign, and of the last two.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn sums_of_pairs(bytes: int8x16_t) -> [i16; 2] {
    let pairs = vpaddlq_s8(bytes);
    let pairs = vadd_s16(vget_low_s16(pairs), vget_high_s16(pairs));
    let pairs = vadd_s16(pairs, vext_s16::<2>(pairs, pairs));
    [vget_lane_s16::<0>(pairs), vget_lane_s16::<1>(pairs)]
}

/// Four bytes, quad `L` of sixteen, four times.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn spread_quad<const L: i32>(bytes: int8x16_t) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_laneq_s32::<L>(vreinterpretq_s32_s8(bytes)))
}

/// The lower halves of two registers.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn low(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    let (a, b) = (vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b));
    vreinterpretq_s32_s64(vtrn1q_s64(a, b))
}

/// The upper halves of two registers.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn high(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    let (a, b) = (vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b));
    vreinterpretq_s32_s64(vtrn2q_s64(a, b))
}

/// The value of an F16 field.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn half(bytes: &[u8; 2]) -> f32 {
    let bits = vreinterpret_f16_u16(vdup_n_u16(u16::from_le_bytes(*bytes)));
    vgetq_lane_f32::<0>(vcvt_f32_f16(bits))
}

/// Sixteen signed bytes as floats, in order.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn spread(levels: int8x16_t) -> [float32x4_t; 4] {
    let [a, b] = spread_halves(vmovl_s8(vget_low_s8(levels)));
    let [c, d] = spread_halves(vmovl_high_s8(levels));
    [a, b, c, d]
}

/// Eight integers of 16 bits as floats, in order.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn spread_halves(values: int16x8_t) -> [float32x4_t; 2] {
    [
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(values))),
        vcvtq_f32_s32(vmovl_high_s16(values)),
    ]
}

/// The 32 nibbles of 16 bytes: lower ones first.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn nibbles(bytes: &[u8; 16]) -> [uint8x16_t; 2] {
    let bytes = load_16(bytes);
    [low_nibbles(bytes), high_nibbles(bytes)]
}

/// The lower four bits of each byte.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn low_nibbles(bytes: uint8x16_t) -> uint8x16_t {
    vandq_u8(bytes, vdupq_n_u8(15))
}

/// The upper four bits of each byte.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn high_nibbles(bytes: uint8x16_t) -> uint8x16_t {
    vshrq_n_u8::<4>(bytes)
}

/// Bytes of small integers, or of negative ones, as what they are.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn signed<const N: usize>(bytes: [uint8x16_t; N]) -> [int8x16_t; N] {
    bytes.map(|bytes| vreinterpretq_s8_u8(bytes))
}

/// `own` in each byte that shares a bit with `bit`, zero in the others.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn where_set(bytes: uint8x16_t, bit: u8, own: u8) -> uint8x16_t {
    vandq_u8(vtstq_u8(bytes, vdupq_n_u8(bit)), vdupq_n_u8(own))
}

/// A byte of ones for each set bit of `bits`, in order.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn bit_masks(bits: u32) -> [uint8x16_t; 2] {
    let own = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    let [a, b, c, d] = bits.to_le_bytes();
    // Eight bytes look at the eight bits of one.
    [
        vtstq_u8(vcombine_u8(vdup_n_u8(a), vdup_n_u8(b)), own),
        vtstq_u8(vcombine_u8(vdup_n_u8(c), vdup_n_u8(d)), own),
    ]
}
