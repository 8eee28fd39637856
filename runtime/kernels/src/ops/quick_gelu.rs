//! Quick GELU, CLIP's activation: `y = x * sigmoid(1.702 x)`.
//!
//! Shapes: all arrays have the same length; the operator is elementwise.
//! Source: Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415>, section 2; the constant
//! as OpenAI's CLIP has it.

use super::real::Real;
use super::swiglu::sigmoid;

/// The constant inside the sigmoid.
pub const SLOPE: f64 = 1.702;

/// Writes `y`.
pub fn forward<R: Real>(y: &mut [R], x: &[R]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * sigmoid(R::of(SLOPE) * x);
    }
}

/// Adds `d loss / d x` to `dx`: with `s = sigmoid(1.702 x)`, `y' = s * (1 + 1.702 x * (1 - s))`.
pub fn backward<R: Real>(dx: &mut [R], dy: &[R], x: &[R]) {
    for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
        let s = sigmoid(R::of(SLOPE) * x);
        *dx += dy * s * (R::of(1.0) + R::of(SLOPE) * x * (R::of(1.0) - s));
    }
}

#[cfg(test)]
mod tests {
    use super::super::real::{central_difference, dot, relative_error, values};
    use super::*;

    #[test]
    fn backward_is_the_derivative_of_forward() {
        let (x, dy) = (values(1, 9), values(2, 9));
        let mut dx = vec![0.0; 9];
        backward(&mut dx, &dy, &x);
        let want = central_difference(&x, |x| {
            let mut y = vec![0.0; 9];
            forward(&mut y, x);
            dot(&y, &dy)
        });
        assert!(relative_error(&dx, &want) < 1e-8);
    }
}
