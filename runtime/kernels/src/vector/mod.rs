//! The operators that run along rows, in f32: one body each, compiled once per instruction set.
//!
//! A body is plain Rust that the compiler can keep in vectors: elementwise loops, sums in
//! [`LANES`] independent lanes, and elementary functions without branches. It never contracts a
//! multiplication with an addition, so every instruction set computes the same bits, which the
//! tests demand. `ops/<op>.rs` says what each one means.
//!
//! Each states how far it is from f64 at most, in ulp: units in the last place of the exact
//! result, 1.4e-45 if that is below 1.2e-38. Elementwise bounds hold for every f32 and were found
//! by trying all of them. Bounds of rows were found on random rows of 1 to 32,000 elements between
//! 1e-20 and 1e20, with and without a large mean, large elements, zeros and denormals. Where terms
//! cancel, no bound in ulp of the result exists, and an error is stated beside the size of the
//! terms. The tests in `accuracy/` hold all of them. NaN gives NaN, and infinity what the formula
//! gives: NaN where it multiplies infinity with 0.
//!
//! Calling code compiled for an instruction set is what makes this file a room for `unsafe`.

pub(crate) mod activation;
pub(crate) mod attention_row;
pub(crate) mod cross_entropy;
pub(crate) mod drop;
pub(crate) mod elementary;
pub(crate) mod norm;
pub(crate) mod position;
pub(crate) mod row;

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
    ///
    /// Errors at most 3 ulp, of `inv_rms` 2 ulp. Squares may leave the range of f32.
    pub fn rms_norm_forward(
        y: &mut [f32], inv_rms: &mut [f32], x: &[f32], weight: &[f32], eps: f32,
    ) = norm::rms_norm_forward;

    /// [`ops::rms_norm::backward`](crate::ops::rms_norm::backward): adds to `dx`.
    ///
    /// Error at most 5 * 2^-24 of the terms, `inv * (|g| + |x| * inv^2 * mean(|g * x|))`.
    pub fn rms_norm_backward(
        dx: &mut [f32], dy: &[f32], x: &[f32], weight: &[f32], inv_rms: &[f32],
    ) = norm::rms_norm_backward;

    /// [`ops::layer_norm::forward`](crate::ops::layer_norm::forward).
    ///
    /// With `n = (x - mean) * inv`: error of `y` at most 4 * 2^-24 of
    /// `(1 + |n|) * |weight| + |bias|`, however far the mean is from 0; of the saved mean 2 * 2^-24
    /// of `mean(|x|)`; of the saved inverse deviation 3 ulp. Squares may leave the range of f32.
    pub fn layer_norm_forward(
        y: &mut [f32], saved: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32,
    ) = norm::layer_norm_forward;

    /// [`ops::layer_norm::backward`](crate::ops::layer_norm::backward): adds to `dx`.
    ///
    /// Error at most 4 * 2^-24 of `inv * (|g| + (1 + |n|) * m * mean(|g| * (1 + |n|)))` where
    /// `m = 1 + |mean| * inv`: the saved mean is an f32, and its rounding is felt where the mean is
    /// far beyond the deviation.
    pub fn layer_norm_backward(
        dx: &mut [f32], dy: &[f32], x: &[f32], weight: &[f32], saved: &[f32],
    ) = norm::layer_norm_backward;

    /// [`ops::swiglu::forward`](crate::ops::swiglu::forward).
    ///
    /// Error at most 3.5 ulp if `up` is a power of two and 5 ulp otherwise; with a gate below -85,
    /// where the sigmoid is not a normal number, 7.4e-44 times `up`.
    pub fn swiglu_forward(y: &mut [f32], gate: &[f32], up: &[f32]) = activation::swiglu_forward;

    /// [`ops::swiglu::backward`](crate::ops::swiglu::backward): adds to `dgate` and `dup`.
    ///
    /// With `dy = up = 1`: error of `dup` at most 4 ulp, and below -85 as forward; of `dgate`
    /// 4 * 2^-24, which is 5 ulp for a gate above -1 and 12.5 ulp from -80 to -1.6, but between these
    /// `dgate` crosses 0.
    pub fn swiglu_backward(
        dgate: &mut [f32], dup: &mut [f32], dy: &[f32], gate: &[f32], up: &[f32],
    ) = activation::swiglu_backward;

    /// [`ops::gelu::forward`](crate::ops::gelu::forward), the exact form.
    ///
    /// Error at most 5.5 ulp; for `x` below -12.5, where `P(x)` is not a normal number, 11 ulp.
    pub fn gelu_forward(y: &mut [f32], x: &[f32]) = activation::gelu_forward;

    /// [`ops::gelu::backward`](crate::ops::gelu::backward): adds to `dx`.
    ///
    /// With `dy = 1`: error at most 3 * 2^-24, which is 3 ulp for `x` above 0 and 5 ulp from -12.5 to
    /// -1.5, but between these `dx` crosses 0.
    pub fn gelu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) = activation::gelu_backward;

    /// [`ops::quick_gelu::forward`](crate::ops::quick_gelu::forward).
    ///
    /// Error at most 3.5 ulp; for `x` below -50, where the sigmoid is not a normal number, 4.4e-44.
    pub fn quick_gelu_forward(y: &mut [f32], x: &[f32]) = activation::quick_gelu_forward;

    /// [`ops::quick_gelu::backward`](crate::ops::quick_gelu::backward): adds to `dx`.
    ///
    /// With `dy = 1`: error at most 4 * 2^-24, which is 5 ulp for `x` above -0.5 and 8 ulp from -47
    /// to -1, but between these `dx` crosses 0.
    pub fn quick_gelu_backward(
        dx: &mut [f32], dy: &[f32], x: &[f32],
    ) = activation::quick_gelu_backward;

    /// [`ops::softmax_cross_entropy`](crate::ops::softmax_cross_entropy), both passes at once:
    /// returns the summed loss and replaces `logits` by their gradient times `scale`.
    ///
    /// Errors: of a row's loss at most 16 * 2^-24; of the label's gradient 2 * 2^-24 of `scale`; of
    /// another gradient `16 * (1 + d)` ulp, where `d` is how far its logit is below the largest.
    ///
    /// # Panics
    /// If a label is neither `IGNORED` nor below `vocabulary`.
    pub fn softmax_cross_entropy(
        logits: &mut [f32], labels: &[i32], vocabulary: usize, scale: f32,
    ) -> f64 = cross_entropy::forward_backward;

    /// [`ops::rope::forward`](crate::ops::rope::forward), in place.
    ///
    /// Error at most 2.5 * 2^-24 of the pair's length, whatever the position; see
    /// [`RopeTable::new`].
    ///
    /// # Panics
    /// If a position is beyond the table.
    pub fn rope_forward(
        x: &mut [f32], heads: usize, head_width: usize, start: usize, table: &RopeTable,
    ) = position::rope_forward;

    /// [`ops::rope::backward`](crate::ops::rope::backward), in place; error as forward.
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
    pub fn add(y: &mut [f32], x: &[f32]) = row::add;

    /// Replaces the next scores of a row whose maximum was `before` so far by `exp(scores - max)`; returns the
    /// maximum of all and the sum of these.
    ///
    /// Errors: of an exponential at most `1 + max - score` ulp, because the difference is rounded,
    /// and 2^-24 of the largest; of the sum 16 * 2^-24 of itself.
    pub(crate) fn exponentials_above(
        scores: &mut [f32], before: f32,
    ) -> (f32, f32) = attention_row::exponentials_above;

    /// Replaces `scores` by `p = exp(scores - lse)` and `dp` by `p * (dp - delta)`.
    ///
    /// With `d = |lse - score|`: error of `p` at most `1 + d` ulp, because the difference is
    /// rounded; of `p * (dp - delta)` at most `4 * (1 + d)` times 2^-24 of `p * (|dp| + |delta|)`.
    pub(crate) fn attention_row_backward(
        scores: &mut [f32], dp: &mut [f32], lse: f32, delta: f32,
    ) = attention_row::backward;

    /// `sum of a * b`; error at most `38 + n / 1024` times 2^-24 of the sum of `|a * b|`.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 = row::dot;

    /// `y *= factor`.
    pub(crate) fn multiply(y: &mut [f32], factor: f32) = row::multiply;
}

#[cfg(test)]
mod accuracy;
#[cfg(test)]
pub(crate) mod tests;
