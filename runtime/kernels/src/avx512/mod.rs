//! x86-64 with AVX-512 F, BW, DQ and VL, and all of AVX2's companions.
#![allow(unsafe_code)] // loads and stores through pointers, all in registers.rs

mod floats;
pub(crate) mod halves;
mod iq4_nl;
mod iq4_xs;
pub(crate) mod panel;
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
pub(crate) mod registers;
pub(crate) mod vnni;
mod walk;
pub(crate) mod words;

use crate::QuantType;

/// See [`crate::Kernels::decode`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
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
