//! The operators that run along rows, in f32: one body each, compiled once per instruction set.
//!
//! A body is plain Rust that the compiler can keep in vectors: elementwise loops, sums in
//! [`LANES`] independent lanes, and [`exp`] without branches. It never contracts a
//! multiplication with an addition, so every instruction set computes the same bits, which the
//! test at the end demands. `ops/<op>.rs` says what each one means.
//!
//! Calling code compiled for an instruction set is what makes this file a room for `unsafe`.

pub(crate) mod activation;
pub(crate) mod attention_row;
pub(crate) mod cross_entropy;
pub(crate) mod drop;
pub(crate) mod elementary;
pub(crate) mod norm;
pub(crate) mod position;

use crate::Kernels;
use crate::ops::dropout::Dropout;
use crate::ops::rope::RopeTable;

/// Independent partial sums of one row: two vectors of the widest instruction set, enough to hide
/// the latency of an addition on the others.
pub(crate) const LANES: usize = 32;

/// Declares methods of [`Kernels`], each with its body compiled for every instruction set.
macro_rules! compiled_per_isa {
    ($(
        $(#[$doc:meta])*
        $visible:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:path;
    )*) => {
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            use super::*;
            $(
                #[target_feature(enable = "avx2")]
                pub(super) fn $name($($arg: $type),*) $(-> $result)? {
                    $body($($arg),*)
                }
            )*
        }

        #[cfg(target_arch = "x86_64")]
        mod avx512 {
            use super::*;
            $(
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                pub(super) fn $name($($arg: $type),*) $(-> $result)? {
                    $body($($arg),*)
                }
            )*
        }

        impl Kernels {
            $(
                $(#[$doc])*
                #[allow(unsafe_code)] // calls code compiled for an instruction set
                $visible fn $name(&self, $($arg: $type),*) $(-> $result)? {
                    match self.isa {
                        // SAFETY: a table of this instruction set leaves the crate only after the
                        // processor was seen to have it (`Kernels::available`).
                        #[cfg(target_arch = "x86_64")]
                        crate::Isa::Avx2 => unsafe { avx2::$name($($arg),*) },
                        // SAFETY: as above.
                        #[cfg(target_arch = "x86_64")]
                        crate::Isa::Avx512 => unsafe { avx512::$name($($arg),*) },
                        // Portable, and NEON: all code for aarch64 is compiled with it.
                        _ => $body($($arg),*),
                    }
                }
            )*
        }
    };
}

compiled_per_isa! {
    /// [`ops::rms_norm::forward`](crate::ops::rms_norm::forward).
    pub fn rms_norm_forward(
        y: &mut [f32], inv_rms: &mut [f32], x: &[f32], weight: &[f32], eps: f32,
    ) = norm::rms_norm_forward;

    /// [`ops::rms_norm::backward`](crate::ops::rms_norm::backward): adds to `dx`.
    pub fn rms_norm_backward(
        dx: &mut [f32], dy: &[f32], x: &[f32], weight: &[f32], inv_rms: &[f32],
    ) = norm::rms_norm_backward;

    /// [`ops::layer_norm::forward`](crate::ops::layer_norm::forward).
    pub fn layer_norm_forward(
        y: &mut [f32], saved: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32,
    ) = norm::layer_norm_forward;

    /// [`ops::layer_norm::backward`](crate::ops::layer_norm::backward): adds to `dx`.
    pub fn layer_norm_backward(
        dx: &mut [f32], dy: &[f32], x: &[f32], weight: &[f32], saved: &[f32],
    ) = norm::layer_norm_backward;

    /// [`ops::swiglu::forward`](crate::ops::swiglu::forward).
    pub fn swiglu_forward(y: &mut [f32], gate: &[f32], up: &[f32]) = activation::swiglu_forward;

    /// [`ops::swiglu::backward`](crate::ops::swiglu::backward): adds to `dgate` and `dup`.
    pub fn swiglu_backward(
        dgate: &mut [f32], dup: &mut [f32], dy: &[f32], gate: &[f32], up: &[f32],
    ) = activation::swiglu_backward;

    /// [`ops::gelu::forward`](crate::ops::gelu::forward), the exact form.
    pub fn gelu_forward(y: &mut [f32], x: &[f32]) = activation::gelu_forward;

    /// [`ops::gelu::backward`](crate::ops::gelu::backward): adds to `dx`.
    pub fn gelu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) = activation::gelu_backward;

    /// [`ops::quick_gelu::forward`](crate::ops::quick_gelu::forward).
    pub fn quick_gelu_forward(y: &mut [f32], x: &[f32]) = activation::quick_gelu_forward;

    /// [`ops::quick_gelu::backward`](crate::ops::quick_gelu::backward): adds to `dx`.
    pub fn quick_gelu_backward(
        dx: &mut [f32], dy: &[f32], x: &[f32],
    ) = activation::quick_gelu_backward;

    /// [`ops::softmax_cross_entropy`](crate::ops::softmax_cross_entropy), both passes at once:
    /// returns the summed loss and replaces `logits` by their gradient times `scale`.
    ///
    /// # Panics
    /// If a label is neither `IGNORED` nor below `vocabulary`.
    pub fn softmax_cross_entropy(
        logits: &mut [f32], labels: &[i32], vocabulary: usize, scale: f32,
    ) -> f64 = cross_entropy::forward_backward;

    /// [`ops::rope::forward`](crate::ops::rope::forward), in place.
    ///
    /// # Panics
    /// If a position is beyond the table.
    pub fn rope_forward(
        x: &mut [f32], heads: usize, head_width: usize, start: usize, table: &RopeTable,
    ) = position::rope_forward;

    /// [`ops::rope::backward`](crate::ops::rope::backward), in place.
    ///
    /// # Panics
    /// If a position is beyond the table.
    pub fn rope_backward(
        dx: &mut [f32], heads: usize, head_width: usize, start: usize, table: &RopeTable,
    ) = position::rope_backward;

    /// [`ops::dropout::forward`](crate::ops::dropout::forward).
    pub fn dropout_forward(y: &mut [f32], x: &[f32], dropout: &Dropout) = drop::forward;

    /// [`ops::dropout::backward`](crate::ops::dropout::backward): adds to `dx`.
    pub fn dropout_backward(dx: &mut [f32], dy: &[f32], dropout: &Dropout) = drop::backward;

    /// `y += x`.
    pub fn add(y: &mut [f32], x: &[f32]) = elementary::add;

    /// Replaces `scores` by `exp(scores - max)`; returns the maximum and the sum.
    pub(crate) fn exponentials(scores: &mut [f32]) -> (f32, f32) = attention_row::exponentials;

    /// Replaces `scores` by `p = exp(scores - lse)` and `dp` by `p * (dp - delta)`.
    pub(crate) fn attention_row_backward(
        scores: &mut [f32], dp: &mut [f32], lse: f32, delta: f32,
    ) = attention_row::backward;

    /// `sum of a * b`.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 = elementary::dot;

    /// `y *= factor`.
    pub(crate) fn multiply(y: &mut [f32], factor: f32) = elementary::multiply;
}

#[cfg(test)]
pub(crate) mod tests;
