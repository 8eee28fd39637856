//! Sums along a row and the exponential function, in code that compiles to vectors.

use super::LANES;

/// `e^x` to 2 units in the last place, underflowing gradually; NaN stays NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, so `e^x = 2^n e^r`: `e^r` is a polynomial, and `2^n`
/// is written into the exponent bits, in two factors because `n` may exceed a normal exponent.
/// `ln 2` is split so that `n * LN2_HIGH` is exact without a fused multiply-add (Cody & Waite).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4; // 355 / 512: nine significant bits
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer
    let x = x.clamp(-104.0, 89.0); // beyond, the result is 0 or infinity anyway
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // Minimax of (e^r - 1 - r) / r^2; Cephes, expf.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e = p * (r * r) + r + 1.0;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    e * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The sum of `term(i)` for `i` below `n`, in [`LANES`] lanes.
#[inline(always)]
pub(crate) fn sum(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    for (sum, i) in lanes.iter_mut().zip(whole..n) {
        *sum += term(i);
    }
    total(lanes)
}

/// The sum of the lanes, pairwise.
#[inline(always)]
pub(crate) fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest element; negative infinity if there is none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for (max, &x) in lanes.iter_mut().zip(x) {
            *max = if x > *max { x } else { *max };
        }
    }
    for (max, &x) in lanes.iter_mut().zip(rest) {
        *max = if x > *max { x } else { *max };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// `sum of a * b`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len();
    let b = &b[..n];
    sum(n, |i| a[i] * b[i])
}

/// `y += x`.
#[inline(always)]
pub(crate) fn add(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// `y *= factor`.
#[inline(always)]
pub(crate) fn multiply(y: &mut [f32], factor: f32) {
    for y in y {
        *y *= factor;
    }
}

/// Error function to 1e-7.
///
/// Near zero an odd polynomial, beyond it `1 - e^(-t P(t))`; both polynomials are fits of degree
/// 5 of least greatest error (Lawson's iteration, in f64), good to 1.5e-9 and 3.4e-9.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let s = x * x;
    let near = -6.749_512_4e-4;
    let near = near * s + 5.114_345_3e-3;
    let near = near * s - 2.683_462_4e-2;
    let near = near * s + 1.128_337_7e-1;
    let near = near * s - 3.761_262e-1;
    let near = x + x * (near * s + 1.283_791_7e-1); // 2 / sqrt(pi) - 1
    let t = x.abs().clamp(0.0, 4.0); // 1 - erf(4) is below half a unit in the last place of 1
    let far = -2.161_210_6e-4;
    let far = far * t + 3.232_474e-3;
    let far = far * t - 2.294_581e-2;
    let far = far * t + 1.053_483_56e-1;
    let far = far * t + 6.356_532e-1;
    let far = (far * t + 1.128_533_5) * t;
    let far = (1.0 - exp(-far)).copysign(x);
    if x.abs() < 0.75 { near } else { far }
}
