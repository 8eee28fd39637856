//! SwiGLU, GELU and quick GELU, element by element.

use super::elementary::{
    normal, sigmoid, sigmoid_and_derivative, slope_sigmoid, slope_sigmoid_and_derivative,
};
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
        let (s, ds) = sigmoid_and_derivative(g);
        *dgate += dy * u * (s + g * ds);
        *dup += dy * g * s;
    }
}

#[inline(always)]
pub(crate) fn gelu_forward(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * normal(x).0;
    }
}

#[inline(always)]
pub(crate) fn gelu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    const INV_SQRT_2_PI: f32 = 0.398_942_3;
    for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
        let (p, e) = normal(x);
        *dx += dy * (p + x * (INV_SQRT_2_PI * e));
    }
}

#[inline(always)]
pub(crate) fn quick_gelu_forward(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * slope_sigmoid(x);
    }
}

#[inline(always)]
pub(crate) fn quick_gelu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
        let (s, ds) = slope_sigmoid_and_derivative(x);
        *dx += dy * (s + x * (SLOPE as f32 * ds)); // in this order nothing becomes infinite
    }
}
