//! Linear layer: `y = x W^T + bias`.
//!
//! Shapes: `x` is `[tokens, inputs]`, `weight` is `[outputs, inputs]`, `bias` is `[outputs]`
//! or empty, `y` is `[tokens, outputs]`; all row-major.

use super::real::{Real, dot};

/// Writes `y`.
pub fn forward<R: Real>(y: &mut [R], x: &[R], weight: &[R], bias: &[R], inputs: usize) {
    let outputs = weight.len() / inputs;
    for (y, x) in y.chunks_exact_mut(outputs).zip(x.chunks_exact(inputs)) {
        for (y, w) in y.iter_mut().zip(weight.chunks_exact(inputs)) {
            *y = dot(w, x);
        }
        for (y, &b) in y.iter_mut().zip(bias) {
            *y += b;
        }
    }
}

/// Adds to `dx`: `dx += dy W`. This is all a frozen layer needs.
pub fn backward<R: Real>(dx: &mut [R], dy: &[R], weight: &[R], inputs: usize) {
    let outputs = weight.len() / inputs;
    for (dx, dy) in dx.chunks_exact_mut(inputs).zip(dy.chunks_exact(outputs)) {
        for (&dy, w) in dy.iter().zip(weight.chunks_exact(inputs)) {
            for (dx, &w) in dx.iter_mut().zip(w) {
                *dx += dy * w;
            }
        }
    }
}

/// Adds to the parameters of a trained layer: `dW += dy^T x`, `dbias += sum over tokens of dy`
/// (`dbias` may be empty).
pub fn backward_parameters<R: Real>(
    dweight: &mut [R],
    dbias: &mut [R],
    dy: &[R],
    x: &[R],
    inputs: usize,
) {
    let outputs = dweight.len() / inputs;
    for (dy, x) in dy.chunks_exact(outputs).zip(x.chunks_exact(inputs)) {
        for (&dy, dw) in dy.iter().zip(dweight.chunks_exact_mut(inputs)) {
            for (dw, &x) in dw.iter_mut().zip(x) {
                *dw += dy * x;
            }
        }
        for (db, &dy) in dbias.iter_mut().zip(dy) {
            *db += dy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::real::{central_difference, relative_error, values};
    use super::*;

    #[test]
    fn backward_is_the_derivative_of_forward() {
        let (tokens, inputs, outputs) = (3, 5, 4);
        let x = values(1, tokens * inputs);
        let (weight, bias) = (values(2, outputs * inputs), values(3, outputs));
        let dy = values(4, tokens * outputs);
        let loss = |x: &[f64], w: &[f64], b: &[f64]| {
            let mut y = vec![0.0; tokens * outputs];
            forward(&mut y, x, w, b, inputs);
            dot(&y, &dy)
        };
        let mut dx = vec![0.0; x.len()];
        backward(&mut dx, &dy, &weight, inputs);
        let (mut dw, mut db) = (vec![0.0; weight.len()], vec![0.0; outputs]);
        backward_parameters(&mut dw, &mut db, &dy, &x, inputs);
        for (name, got, want) in [
            (
                "dx",
                &dx,
                central_difference(&x, |x| loss(x, &weight, &bias)),
            ),
            (
                "dw",
                &dw,
                central_difference(&weight, |w| loss(&x, w, &bias)),
            ),
            (
                "db",
                &db,
                central_difference(&bias, |b| loss(&x, &weight, b)),
            ),
        ] {
            let error = relative_error(got, &want);
            assert!(error < 1e-8, "{name}: {error:e}");
        }
    }
}
