//! The exponential function and what is made of it, one number at a time, without branches.
//!
//! Errors are in units in the last place (ulp) of the exact result, against f64, the greatest over
//! every f32 of the range. Where results are below 1.2e-38, the least normal number, an ulp is
//! 1.4e-45, the distance between neighbours.

use crate::ops::quick_gelu::SLOPE;

/// `e^x` for `x` of at most 0; up to 43 it holds as well, beyond the result means nothing.
///
/// Error at most 1 ulp. Underflows gradually, to 0 below -103.98; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp_nonpositive(x: f32) -> f32 {
    exp_nonpositive_of_sum(x, -0.0)
}

/// `e^(x + rest)` where `rest`, of at most 0.06, would be lost in the sum.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, so `e^x = 2^n e^r`. `ln 2` is split so that
/// `n * LN2_HIGH` is exact without a fused multiply-add (Cody & Waite).
#[inline(always)]
fn exp_nonpositive_of_sum(x: f32, rest: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4; // 355 / 512: nine significant bits
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = at_least(x, -104.0); // below, the result is 0 anyway
    let (n, power) = nearest_integer(x * std::f32::consts::LOG2_E);
    let r = x - n * LN2_HIGH - n * LN2_LOW + rest;
    scale(exp_near_zero(r), power)
}

/// `e^(SLOPE * x)` for `x` of at most 0.
///
/// As above with `x = n (ln 2 / SLOPE) + r`, because rounding `SLOPE * x` alone would cost 80 ulp
/// where the result is small.
#[inline(always)]
fn exp_slope_nonpositive(x: f32) -> f32 {
    const LN2: f64 = std::f64::consts::LN_2 / SLOPE;
    const LN2_HIGH: f32 = 0.407_226_56; // 417 / 1024: nine significant bits
    const LN2_LOW: f32 = (LN2 - LN2_HIGH as f64) as f32;
    let x = at_least(x, -61.2);
    let (n, power) = nearest_integer(x * (1.0 / LN2) as f32);
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    scale(exp_near_zero(SLOPE as f32 * r), power)
}

/// `x`, or `least` where `x` is less; NaN stays NaN.
#[inline(always)]
fn at_least(x: f32, least: f32) -> f32 {
    if x < least { least } else { x }
}

/// The integer `n` nearest to `x`, which is between -190 and 63, and `2^(n + 64)`, which is normal
/// where `2^n` is not.
#[inline(always)]
fn nearest_integer(x: f32) -> (f32, f32) {
    // A sum near 1.5 * 2^23 has an integer in its lowest bits; 191 makes it a biased exponent.
    const ROUND: f32 = 12_582_912.0 + (64 + 127) as f32;
    let shifted = x + ROUND;
    (shifted - ROUND, f32::from_bits(shifted.to_bits() << 23))
}

/// `e * 2^n`, given `2^(n + 64)`; rounds once if `e` is near 1.
#[inline(always)]
fn scale(e: f32, power: f32) -> f32 {
    const UNDO: f32 = 1.0 / (1_u128 << 64) as f32;
    e * power * UNDO
}

/// `e^r` for `|r| <= 0.41`.
#[inline(always)]
fn exp_near_zero(r: f32) -> f32 {
    // A minimax polynomial of (e^r - 1 - r) / r^2; source: Cephes, expf.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    p * (r * r) + r + 1.0
}

/// `1 / (1 + e^-x)`; error at most 2.5 ulp.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    ratio(x, exp_nonpositive(-x.abs()))
}

/// `1 / (1 + e^(-SLOPE * x))`; error at most 2.5 ulp.
#[inline(always)]
pub(crate) fn slope_sigmoid(x: f32) -> f32 {
    ratio(x, exp_slope_nonpositive(-x.abs()))
}

/// [`sigmoid`] and its derivative; errors at most 3 and 5 ulp.
#[inline(always)]
pub(crate) fn sigmoid_and_derivative(x: f32) -> (f32, f32) {
    ratio_and_derivative(x, exp_nonpositive(-x.abs()))
}

/// [`slope_sigmoid`] and its derivative divided by `SLOPE`; errors at most 3 and 5 ulp.
#[inline(always)]
pub(crate) fn slope_sigmoid_and_derivative(x: f32) -> (f32, f32) {
    ratio_and_derivative(x, exp_slope_nonpositive(-x.abs()))
}

/// A sigmoid from the exponential `e` of the negative side, which does not overflow.
#[inline(always)]
fn ratio(x: f32, e: f32) -> f32 {
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// As [`ratio`], and its derivative `e / (1 + e)^2`, which is the same on both sides.
#[inline(always)]
fn ratio_and_derivative(x: f32, e: f32) -> (f32, f32) {
    let inv = 1.0 / (1.0 + e);
    ((if x < 0.0 { e } else { 1.0 }) * inv, e * inv * inv)
}

/// The standard normal distribution `P(x) = (1 + erf(x / sqrt(2))) / 2`, and `e^(-x^2 / 2)`.
///
/// Errors at most 5.1 and 1.2 ulp, the tail included.
///
/// With `t = |x|` the tail is `P(-t) = e^(-t^2 / 2) u p(u)` where `u = 1 / (1 + T t)`: the scaled
/// complementary error function is smooth in `u`, as in Shepherd & Laframboise 1981, Math. Comp.
/// 36. `p` is our fit of degree 8 of least greatest relative error, 2.2e-8 (Lawson's iteration).
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    const T: f32 = 0.345_703_12; // 177 / 512
    let t = x.abs();
    let t = if t > 14.5 { 14.5 } else { t }; // beyond, the tail is 0 anyway
    // The square in two parts: 12 bits of t, whose square is exact, and the rest.
    let high = f32::from_bits(t.to_bits() & !0xfff);
    let rest = (t - high) * (t + high);
    let e = exp_nonpositive_of_sum(-0.5 * (high * high), -0.5 * rest);
    let u = 1.0 / (1.0 + T * t);
    let v = 0.25 - T * t * u; // u - 0.75
    let p = -0.028_487_168;
    let p = p * v - 0.025_835_255;
    let p = p * v + 0.044_101_167;
    let p = p * v + 0.013_701_081;
    let p = p * v - 0.106_622_495;
    let p = p * v - 6.473_384_3e-3;
    let p = p * v + 0.324_626_5;
    let p = p * v + 0.499_097;
    let p = p * v + 0.355_432_1;
    let tail = e * u * p;
    (if x < 0.0 { tail } else { 1.0 - tail }, e)
}
