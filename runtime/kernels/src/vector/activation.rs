//! SwiGLU, GELU and quick GELU, element by element.

use std::f32::consts::FRAC_1_SQRT_2;

use super::elementary::{erf, exp, sigmoid};
use crate::ops::quick_gelu::SLOPE;

#[inline(always)]
pub(crate) fn swiglu_forward(y: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
        *y = g * sigmoid(g) * u;
    }
}

#[inline(always)]
pub(crate) fn swiglu_backward(
    dgate: &mut [f32],
    dup: &mut [f32],
    dy: &[f32],
    gate: &[f32],
    up: &[f32],
) {
    let gradients = dgate.iter_mut().zip(dup);
    for ((((dgate, dup), &dy), &g), &u) in gradients.zip(dy).zip(gate).zip(up) {
        let s = sigmoid(g);
        *dgate += dy * u * s * (1.0 + g * (1.0 - s));
        *dup += dy * g * s;
    }
}

#[inline(always)]
pub(crate) fn gelu_forward(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * normal_distribution(x);
    }
}

#[inline(always)]
pub(crate) fn gelu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    const INV_SQRT_2_PI: f32 = 0.398_942_3;
    for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
        let density = INV_SQRT_2_PI * exp(-0.5 * x * x);
        *dx += dy * (normal_distribution(x) + x * density);
    }
}

#[inline(always)]
pub(crate) fn quick_gelu_forward(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * sigmoid(SLOPE as f32 * x);
    }
}

#[inline(always)]
pub(crate) fn quick_gelu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
        let s = sigmoid(SLOPE as f32 * x);
        *dx += dy * s * (1.0 + SLOPE as f32 * x * (1.0 - s));
    }
}

#[inline(always)]
fn normal_distribution(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))
}
