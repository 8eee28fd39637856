//! Layer norm: `y = (x - mean(x)) / deviation(x) * weight + bias`,
//! `deviation(x) = sqrt(mean((x - mean(x))^2) + eps)`.
//!
//! Shapes: `x`, `y` are `[tokens, width]`; `weight`, `bias` are `[width]`; `saved` is
//! `[tokens, 2]`, the mean and the inverse deviation of each token.
//! Source: Ba et al. 2016, <https://arxiv.org/abs/1607.06450>.

use super::real::Real;

/// Writes `y`, and keeps mean and inverse deviation of each token in `saved` for [`backward`].
pub fn forward<R: Real>(y: &mut [R], saved: &mut [R], x: &[R], weight: &[R], bias: &[R], eps: f64) {
    let width = weight.len();
    let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for ((y, x), saved) in rows.zip(saved.chunks_exact_mut(2)) {
        let n = R::of(width as f64);
        let mean = x.iter().copied().sum::<R>() / n;
        let variance = x.iter().map(|&v| (v - mean) * (v - mean)).sum::<R>() / n;
        let inv = R::of(1.0) / (variance + R::of(eps)).sqrt();
        saved.copy_from_slice(&[mean, inv]);
        for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean) * inv * w + b;
        }
    }
}

/// Adds `d loss / d x` to `dx`. Weight and bias are frozen, so they have no gradient.
///
/// With `g = dy * weight` and `n = (x - mean) * inv`: `dx = inv * (g - mean(g) - n * mean(g * n))`.
pub fn backward<R: Real>(dx: &mut [R], dy: &[R], x: &[R], weight: &[R], saved: &[R]) {
    let width = weight.len();
    let rows = dx
        .chunks_exact_mut(width)
        .zip(dy.chunks_exact(width))
        .zip(x.chunks_exact(width));
    for (((dx, dy), x), saved) in rows.zip(saved.chunks_exact(2)) {
        let (mean, inv) = (saved[0], saved[1]);
        let (mut sum, mut dot) = (R::of(0.0), R::of(0.0));
        for ((&g, &w), &x) in dy.iter().zip(weight).zip(x) {
            sum += g * w;
            dot += g * w * (x - mean) * inv;
        }
        let n = R::of(width as f64);
        let (sum, dot) = (sum / n, dot / n);
        for (((dx, &g), &w), &x) in dx.iter_mut().zip(dy).zip(weight).zip(x) {
            *dx += inv * (g * w - sum - (x - mean) * inv * dot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::real::{central_difference, relative_error, values};
    use super::*;

    #[test]
    fn backward_is_the_derivative_of_forward() {
        let (tokens, width, eps) = (3, 7, 1e-5);
        let x = values(1, tokens * width);
        let (weight, bias) = (values(2, width), values(3, width));
        let dy = values(4, tokens * width);
        let run = |x: &[f64]| {
            let (mut y, mut saved) = (vec![0.0; x.len()], vec![0.0; 2 * tokens]);
            forward(&mut y, &mut saved, x, &weight, &bias, eps);
            (y.iter().zip(&dy).map(|(y, d)| y * d).sum::<f64>(), saved)
        };
        let mut dx = vec![0.0; x.len()];
        backward(&mut dx, &dy, &x, &weight, &run(&x).1);
        let error = relative_error(&dx, &central_difference(&x, |x| run(x).0));
        assert!(error < 1e-8, "{error:e}");
    }
}
