//! SwiGLU: `y = silu(gate) * up`, `silu(g) = g / (1 + e^-g)`.
//!
//! Shapes: all arrays have the same length; the operator is elementwise.
//! Source: Shazeer 2020, <https://arxiv.org/abs/2002.05202>.

use super::real::Real;

/// Writes `y`.
pub fn forward<R: Real>(y: &mut [R], gate: &[R], up: &[R]) {
    for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
        *y = g * sigmoid(g) * u;
    }
}

/// Adds to `dgate` and `dup`.
///
/// With `s = sigmoid(gate)`: `silu' = s * (1 + gate * (1 - s))`.
pub fn backward<R: Real>(dgate: &mut [R], dup: &mut [R], dy: &[R], gate: &[R], up: &[R]) {
    let gradients = dgate.iter_mut().zip(dup);
    for ((((dgate, dup), &dy), &g), &u) in gradients.zip(dy).zip(gate).zip(up) {
        let s = sigmoid(g);
        *dgate += dy * u * s * (R::of(1.0) + g * (R::of(1.0) - s));
        *dup += dy * g * s;
    }
}

/// `1 / (1 + e^-x)`.
pub(crate) fn sigmoid<R: Real>(x: R) -> R {
    R::of(1.0) / (R::of(1.0) + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::super::real::{central_difference, dot, relative_error, values};
    use super::*;

    #[test]
    fn backward_is_the_derivative_of_forward() {
        let (gate, up, dy) = (values(1, 9), values(2, 9), values(3, 9));
        let loss = |gate: &[f64], up: &[f64]| {
            let mut y = vec![0.0; 9];
            forward(&mut y, gate, up);
            dot(&y, &dy)
        };
        let (mut dgate, mut dup) = (vec![0.0; 9], vec![0.0; 9]);
        backward(&mut dgate, &mut dup, &dy, &gate, &up);
        let want = central_difference(&gate, |g| loss(g, &up));
        assert!(relative_error(&dgate, &want) < 1e-8);
        let want = central_difference(&up, |u| loss(&gate, u));
        assert!(relative_error(&dup, &want) < 1e-8);
    }
}
