//! x86-64 with AVX2, FMA and F16C.
#![allow(unsafe_code)] // loads and stores through pointers, all in registers.rs

pub(crate) mod few_queries;
mod floats;
mod iq4_nl;
mod iq4_xs;
pub(crate) mod low_rank;
pub(crate) mod panel;
pub(crate) mod prefetch;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod quads;
pub(crate) mod registers;
pub(crate) mod rounded;
pub(crate) mod vnni;
pub(crate) mod walk;
pub(crate) mod words;

use crate::QuantType;
use crate::rounded::Rounded;

/// See [`crate::Kernels::decode`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn decode(ty: QuantType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        QuantType::F32 => floats::f32::decode(bytes, out),
        QuantType::F16 => floats::f16::decode(bytes, out),
        QuantType::BF16 => floats::bf16::decode(bytes, out),
        QuantType::Q4_0 => q4_0::decode(bytes, out),
        QuantType::Q4_1 => q4_1::decode(bytes, out),
        QuantType::Q5_0 => q5_0::decode(bytes, out),
        QuantType::Q5_1 => q5_1::decode(bytes, out),
        QuantType::Q8_0 => q8_0::decode(bytes, out),
        QuantType::Q2K => q2_k::decode(bytes, out),
        QuantType::Q3K => q3_k::decode(bytes, out),
        QuantType::Q4K => q4_k::decode(bytes, out),
        QuantType::Q5K => q5_k::decode(bytes, out),
        QuantType::Q6K => q6_k::decode(bytes, out),
        QuantType::IQ4NL => iq4_nl::decode(bytes, out),
        QuantType::IQ4XS => iq4_xs::decode(bytes, out),
    }
}

/// See [`crate::Kernels::product_thin`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn product_thin(
    y: &mut [f32],
    y_stride: usize,
    x: &[f32],
    inputs: usize,
    ty: QuantType,
    w: &[u8],
) {
    match ty {
        QuantType::F32 => floats::f32::product_thin(y, y_stride, x, inputs, w),
        QuantType::F16 => floats::f16::product_thin(y, y_stride, x, inputs, w),
        QuantType::BF16 => floats::bf16::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q4_0 => q4_0::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q4_1 => q4_1::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q5_0 => q5_0::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q5_1 => q5_1::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q8_0 => q8_0::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q2K => q2_k::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q3K => q3_k::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q4K => q4_k::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q5K => q5_k::product_thin(y, y_stride, x, inputs, w),
        QuantType::Q6K => q6_k::product_thin(y, y_stride, x, inputs, w),
        QuantType::IQ4NL => iq4_nl::product_thin(y, y_stride, x, inputs, w),
        QuantType::IQ4XS => iq4_xs::product_thin(y, y_stride, x, inputs, w),
    }
}

/// Unpacks whole blocks of a type with levels: the levels plus `bias`, and what scales them.
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack(
    ty: QuantType,
    bytes: &[u8],
    bias: u8,
    levels: &mut [[u8; 32]],
    scales: &mut [f32],
    mins: &mut [f32],
) {
    match ty {
        QuantType::F32 | QuantType::F16 | QuantType::BF16 => {}
        QuantType::Q4_0 => q4_0::unpack(bytes, bias, levels, scales, mins),
        QuantType::Q4_1 => q4_1::unpack(bytes, bias, levels, scales, mins),
        QuantType::Q5_0 => q5_0::unpack(bytes, bias, levels, scales, mins),
        QuantType::Q5_1 => q5_1::unpack(bytes, bias, levels, scales, mins),
        QuantType::Q8_0 => q8_0::unpack(bytes, bias, levels, scales, mins),
        QuantType::Q2K => q2_k::unpack(bytes, bias, levels, scales, mins),
        QuantType::Q3K => q3_k::unpack(bytes, bias, levels, scales, mins),
        QuantType::Q4K => q4_k::unpack(bytes, bias, levels, scales, mins),
        QuantType::Q5K => q5_k::unpack(bytes, bias, levels, scales, mins),
        QuantType::Q6K => q6_k::unpack(bytes, bias, levels, scales, mins),
        QuantType::IQ4NL => iq4_nl::unpack(bytes, bias, levels, scales, mins),
        QuantType::IQ4XS => iq4_xs::unpack(bytes, bias, levels, scales, mins),
    }
}

/// An entry for [`crate::Kernels::thin_rounded`] of the types' functions of that name.
macro_rules! thin_rounded {
    ($name:ident, $features:literal) => {
        #[target_feature(enable = $features)]
        pub(crate) fn $name(
            y: &mut [f32],
            y_stride: usize,
            x: &Rounded<'_>,
            ty: QuantType,
            w: &[u8],
        ) {
            match ty {
                QuantType::F32 | QuantType::F16 | QuantType::BF16 => {}
                QuantType::Q4_0 => q4_0::$name(y, y_stride, x, w),
                QuantType::Q4_1 => q4_1::$name(y, y_stride, x, w),
                QuantType::Q5_0 => q5_0::$name(y, y_stride, x, w),
                QuantType::Q5_1 => q5_1::$name(y, y_stride, x, w),
                QuantType::Q8_0 => q8_0::$name(y, y_stride, x, w),
                QuantType::Q2K => q2_k::$name(y, y_stride, x, w),
                QuantType::Q3K => q3_k::$name(y, y_stride, x, w),
                QuantType::Q4K => q4_k::$name(y, y_stride, x, w),
                QuantType::Q5K => q5_k::$name(y, y_stride, x, w),
                QuantType::Q6K if x.tokens() == 1 => q6_k::one_token(y, x, w),
                QuantType::Q6K => q6_k::$name(y, y_stride, x, w),
                QuantType::IQ4NL => iq4_nl::$name(y, y_stride, x, w),
                QuantType::IQ4XS => iq4_xs::$name(y, y_stride, x, w),
            }
        }
    };
}
thin_rounded!(thin_rounded, "avx2,fma,f16c");
thin_rounded!(thin_rounded_vnni, "avx2,fma,f16c,avxvnni");
thin_rounded!(
    thin_rounded_avx512_vnni,
    "avx2,fma,f16c,avx512f,avx512vl,avx512vnni"
);
