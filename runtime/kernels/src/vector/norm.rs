//! RMS norm and layer norm along rows of `width` elements.

use super::row::sum;

#[inline(always)]
pub(crate) fn rms_norm_forward(
    y: &mut [f32],
    inv_rms: &mut [f32],
    x: &[f32],
    weight: &[f32],
    eps: f32,
) {
    let width = weight.len();
    let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for ((y, x), saved) in rows.zip(inv_rms) {
        let inv = inverse_root_mean_square(x, |x| x, eps);
        *saved = inv;
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * inv * w;
        }
    }
}

#[inline(always)]
pub(crate) fn rms_norm_backward(
    dx: &mut [f32],
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    inv_rms: &[f32],
) {
    let width = weight.len();
    let rows = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width));
    for (((dx, dy), x), &inv) in rows.zip(x.chunks_exact(width)).zip(inv_rms) {
        let dot = sum([dy, weight, x], |[g, w, x]| g * w * x);
        let shared = inv * (dot / width as f32 * inv); // the square of `inv` might be 0
        for (((dx, &g), &w), &x) in dx.iter_mut().zip(dy).zip(weight).zip(x) {
            *dx += inv * (g * w - x * shared);
        }
    }
}

#[inline(always)]
pub(crate) fn layer_norm_forward(
    y: &mut [f32],
    saved: &mut [f32],
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) {
    let width = weight.len();
    let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for ((y, x), saved) in rows.zip(saved.chunks_exact_mut(2)) {
        let mean = sum([x], |[x]| x) / width as f32;
        // What rounding left out of the mean; it matters where the mean exceeds the deviation.
        let rest = sum([x], |[x]| x - mean) / width as f32;
        let centred = |x: f32| x - mean - rest;
        let inv = inverse_root_mean_square(x, centred, eps);
        saved.copy_from_slice(&[mean + rest, inv]);
        for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = centred(x) * inv * w + b;
        }
    }
}

#[inline(always)]
pub(crate) fn layer_norm_backward(
    dx: &mut [f32],
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    saved: &[f32],
) {
    let width = weight.len();
    let rows = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width));
    for (((dx, dy), x), saved) in rows.zip(x.chunks_exact(width)).zip(saved.chunks_exact(2)) {
        let (mean, inv) = (saved[0], saved[1]);
        let mean_g = sum([dy, weight], |[g, w]| g * w) / width as f32;
        let dot = sum([dy, weight, x], |[g, w, x]| g * w * ((x - mean) * inv));
        let mean_gn = dot / width as f32;
        for (((dx, &g), &w), &x) in dx.iter_mut().zip(dy).zip(weight).zip(x) {
            *dx += inv * (g * w - mean_g - (x - mean) * inv * mean_gn);
        }
    }
}

/// `1 / sqrt(mean of centred(x)^2 + eps)`; in f64 where a square or their sum leaves the range
/// of f32, which is so rare that nobody waits for it.
#[inline(always)]
fn inverse_root_mean_square(x: &[f32], centred: impl Fn(f32) -> f32, eps: f32) -> f32 {
    let width = x.len();
    let square = |[x]: [f32; 1]| centred(x) * centred(x);
    let mean = sum([x], square) / width as f32 + eps;
    if (1e-30..f32::INFINITY).contains(&mean) {
        return 1.0 / mean.sqrt();
    }
    let squares = x.iter().map(|&x| (centred(x) as f64).powi(2));
    let mean = squares.sum::<f64>() / width as f64 + eps as f64;
    (1.0 / mean.sqrt()) as f32
}
