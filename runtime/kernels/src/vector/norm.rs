//! RMS norm and layer norm along rows of `width` elements.

use super::elementary::{dot, sum};

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
        let inv = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
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
        let dot = sum(width, |i| dy[i] * weight[i] * x[i]);
        let shared = inv * inv * dot / width as f32;
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
        let mean = sum(width, |i| x[i]) / width as f32;
        let variance = sum(width, |i| (x[i] - mean) * (x[i] - mean)) / width as f32;
        let inv = 1.0 / (variance + eps).sqrt();
        saved.copy_from_slice(&[mean, inv]);
        for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean) * inv * w + b;
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
        let sum_g = dot(dy, weight) / width as f32;
        let sum_gn = sum(width, |i| dy[i] * weight[i] * ((x[i] - mean) * inv)) / width as f32;
        for (((dx, &g), &w), &x) in dx.iter_mut().zip(dy).zip(weight).zip(x) {
            *dx += inv * (g * w - sum_g - (x - mean) * inv * sum_gn);
        }
    }
}
