//! F32, F16 and BF16: blocks of one weight, little-endian.
//!
//! ```text
//!  F32   sign 1 | exponent 8 | fraction 23
//!  F16   sign 1 | exponent 5 | fraction 10      IEEE 754 half
//! BF16   sign 1 | exponent 8 | fraction  7      the upper half of an F32
//! ```
//! Every F16 and BF16 value is a value of F32, so decoding is exact; encoding rounds to
//! nearest, ties to even.

use half::{bf16, f16};

/// Decodes one F32 weight.
pub fn decode_f32(block: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*block);
}

/// Decodes one F16 weight.
pub fn decode_f16(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = half(block);
}

/// Decodes one BF16 weight.
pub fn decode_bf16(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = bf16::from_le_bytes(*block).to_f32();
}

/// Encodes one weight as F32.
pub fn encode_f32(weights: &[f32; 1], block: &mut [u8; 4]) {
    *block = weights[0].to_le_bytes();
}

/// Encodes one weight as F16.
pub fn encode_f16(weights: &[f32; 1], block: &mut [u8; 2]) {
    *block = f16::from_f32(weights[0]).to_le_bytes();
}

/// Encodes one weight as BF16.
pub fn encode_bf16(weights: &[f32; 1], block: &mut [u8; 2]) {
    *block = bf16::from_f32(weights[0]).to_le_bytes();
}

/// The value of a block's F16 field.
pub(crate) fn half(bytes: &[u8; 2]) -> f32 {
    f16::from_le_bytes(*bytes).to_f32()
}

/// A block's F16 field for `value`, rounded to nearest; the largest F16 where that is less.
pub(crate) fn to_half(value: f32) -> [u8; 2] {
    let largest = f16::MAX.to_f32();
    f16::from_f32(value.clamp(-largest, largest)).to_le_bytes()
}
