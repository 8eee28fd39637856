//! GELU: `y = x * P(x)`, `P(x) = erfc(-x / sqrt(2)) / 2`, the exact form.
//!
//! Shapes: all arrays have the same length; the operator is elementwise.
//! Source: Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415>.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::real::Real;

/// Writes `y`.
pub fn forward<R: Real>(y: &mut [R], x: &[R]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * normal_distribution(x);
    }
}

/// Adds `d loss / d x` to `dx`: `y' = P(x) + x * e^(-x^2 / 2) / sqrt(2 pi)`.
pub fn backward<R: Real>(dx: &mut [R], dy: &[R], x: &[R]) {
    for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
        let density = R::of(0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI) * (R::of(-0.5) * x * x).exp();
        *dx += dy * (normal_distribution(x) + x * density);
    }
}

fn normal_distribution<R: Real>(x: R) -> R {
    R::of(0.5) * (-x * R::of(FRAC_1_SQRT_2)).erfc()
}

#[cfg(test)]
mod tests {
    use super::super::real::{central_difference, dot, relative_error, values};
    use super::*;

    #[test]
    fn backward_is_the_derivative_of_forward() {
        let x: Vec<f64> = values(1, 20).iter().map(|v| 4.0 * v).collect();
        let dy = values(2, x.len());
        let mut dx = vec![0.0; x.len()];
        backward(&mut dx, &dy, &x);
        let want = central_difference(&x, |x| {
            let mut y = vec![0.0; x.len()];
            forward(&mut y, x);
            dot(&y, &dy)
        });
        let error = relative_error(&dx, &want);
        assert!(error < 1e-8, "{error:e}");
    }

    /// Values of PyTorch 2.15's `torch.nn.functional.gelu` in f64.
    #[test]
    fn forward_is_the_exact_gelu() {
        let x = [-3.0, -1.0, -0.1, 0.0, 0.5, 2.0, 10.0];
        let want = [
            -0.00404969409489031,
            -0.15865525393145702,
            -0.0460172162722971,
            0.0,
            0.34573123063700656,
            1.9544997361036416,
            10.0,
        ];
        let mut y = [0.0_f64; 7];
        forward(&mut y, &x);
        for (y, want) in y.iter().zip(want) {
            assert!((y - want).abs() < 1e-14, "{y} {want}");
        }
    }
}
