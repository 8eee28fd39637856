//! LoRA as skinny products, a tile of tokens at a time where dropout needs its input copied.
//!
//! Forward and the gradient of `x` touch only their own tokens, so threads may share the tokens
//! out. The gradients of `a` and `b` sum over all of them and belong to one thread each.

use crate::Kernels;
use crate::ops::lora::Layer;
use crate::product::{Mat, MatMut, product};

/// Tokens whose dropped-out input is held in scratch at once.
const TILE: usize = 64;

/// Elements of scratch that the methods here need: none without dropout.
pub fn scratch(tokens: usize, layer: &Layer<'_, f32>) -> usize {
    if layer.dropout.rate == 0.0 {
        0
    } else {
        TILE.min(tokens) * layer.inputs
    }
}

impl Kernels {
    /// [`ops::lora::forward`](crate::ops::lora::forward): adds to `y` `[tokens, outputs]`,
    /// keeps `ax` `[tokens, rank]`. `scratch` holds at least [`scratch`] elements.
    ///
    /// # Panics
    /// If sizes contradict each other.
    pub fn lora_forward(
        &self,
        y: &mut [f32],
        ax: &mut [f32],
        x: &[f32],
        layer: &Layer<'_, f32>,
        scratch: &mut [f32],
    ) {
        let (a, b) = matrices(layer);
        let tokens = ax.len() / layer.rank;
        self.for_each_tile(x, layer, scratch, |start, x| {
            let ax = &mut ax[start * layer.rank..][..x.rows() * layer.rank];
            product(MatMut::new(ax, x.rows(), layer.rank), false, 1.0, x, a.t());
        });
        let ax = Mat::new(ax, tokens, layer.rank);
        let y = MatMut::new(y, tokens, layer.outputs);
        product(y, true, layer.scale as f32, ax, b.t());
    }

    /// The part of [`ops::lora::backward`](crate::ops::lora::backward) that belongs to tokens:
    /// writes `h = scale * dy b` `[tokens, rank]` and adds to `dx` `[tokens, inputs]`.
    ///
    /// # Panics
    /// If sizes contradict each other.
    pub fn lora_backward_input(
        &self,
        dx: &mut [f32],
        h: &mut [f32],
        dy: &[f32],
        layer: &Layer<'_, f32>,
        scratch: &mut [f32],
    ) {
        let (a, b) = matrices(layer);
        let tokens = h.len() / layer.rank;
        let dy = Mat::new(dy, tokens, layer.outputs);
        let view = MatMut::new(h, tokens, layer.rank);
        product(view, false, layer.scale as f32, dy, b);
        let h = Mat::new(h, tokens, layer.rank);
        if layer.dropout.rate == 0.0 {
            product(MatMut::new(dx, tokens, layer.inputs), true, 1.0, h, a);
            return;
        }
        for (i, dx) in dx.chunks_mut(TILE * layer.inputs).enumerate() {
            let rows = dx.len() / layer.inputs;
            let dropped = &mut scratch[..dx.len()];
            let view = MatMut::new(dropped, rows, layer.inputs);
            product(view, false, 1.0, h.row_range(i * TILE, rows), a);
            let dropout = layer.dropout.after(i * TILE * layer.inputs);
            self.dropout_backward(dx, dropped, &dropout);
        }
    }

    /// Adds to `da` `[rank, inputs]`: `h^T dropout(x)`, with `h` of
    /// [`Kernels::lora_backward_input`].
    ///
    /// # Panics
    /// If sizes contradict each other.
    pub fn lora_backward_a(
        &self,
        da: &mut [f32],
        h: &[f32],
        x: &[f32],
        layer: &Layer<'_, f32>,
        scratch: &mut [f32],
    ) {
        let h = Mat::new(h, h.len() / layer.rank, layer.rank);
        self.for_each_tile(x, layer, scratch, |start, x| {
            let da = MatMut::new(da, layer.rank, layer.inputs);
            product(da, true, 1.0, h.row_range(start, x.rows()).t(), x);
        });
    }

    /// Adds to `db` `[outputs, rank]`: `scale * dy^T ax`, with `ax` of [`Kernels::lora_forward`].
    ///
    /// # Panics
    /// If sizes contradict each other.
    pub fn lora_backward_b(&self, db: &mut [f32], dy: &[f32], ax: &[f32], layer: &Layer<'_, f32>) {
        let tokens = ax.len() / layer.rank;
        let ax = Mat::new(ax, tokens, layer.rank);
        let dy = Mat::new(dy, tokens, layer.outputs);
        let db = MatMut::new(db, layer.outputs, layer.rank);
        product(db, true, layer.scale as f32, dy.t(), ax);
    }

    /// Calls `visit(first token, dropout(x))` for all tokens: at once if nothing is dropped.
    fn for_each_tile(
        &self,
        x: &[f32],
        layer: &Layer<'_, f32>,
        scratch: &mut [f32],
        mut visit: impl FnMut(usize, Mat<'_>),
    ) {
        let inputs = layer.inputs;
        if layer.dropout.rate == 0.0 {
            return visit(0, Mat::new(x, x.len() / inputs, inputs));
        }
        for (i, x) in x.chunks(TILE * inputs).enumerate() {
            let dropped = &mut scratch[..x.len()];
            let dropout = layer.dropout.after(i * TILE * inputs);
            self.dropout_forward(dropped, x, &dropout);
            visit(i * TILE, Mat::new(dropped, x.len() / inputs, inputs));
        }
    }
}

/// `a` `[rank, inputs]` and `b` `[outputs, rank]`.
fn matrices<'a>(layer: &Layer<'a, f32>) -> (Mat<'a>, Mat<'a>) {
    (
        Mat::new(layer.a, layer.rank, layer.inputs),
        Mat::new(layer.b, layer.outputs, layer.rank),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::dropout::Dropout;
    use crate::ops::lora as reference;
    use crate::vector::tests::{assert_close, random};

    #[test]
    fn products_agree_with_the_reference() {
        let dropout = Dropout {
            rate: 0.25,
            seed: 3,
            stream: 4,
            first: 10,
        };
        for (tokens, inputs, outputs, rank, dropout) in [
            (1, 7, 5, 3, Dropout::NONE),
            (130, 33, 18, 4, Dropout::NONE),
            (130, 33, 18, 4, dropout),
        ] {
            let (a, b) = (random(1, rank * inputs), random(2, outputs * rank));
            let (x, dy) = (random(3, tokens * inputs), random(4, tokens * outputs));
            let wide = |x: &[f32]| x.iter().map(|&x| x as f64).collect::<Vec<_>>();
            let (a64, b64, x64, dy64) = (wide(&a), wide(&b), wide(&x), wide(&dy));
            let layer64 = Layer {
                a: &a64,
                b: &b64,
                scale: 0.5,
                inputs,
                outputs,
                rank,
                dropout,
            };
            let layer = Layer {
                a: &a,
                b: &b,
                scale: 0.5,
                inputs,
                outputs,
                rank,
                dropout,
            };
            let (mut y64, mut ax64) = (vec![1.0; tokens * outputs], vec![0.0; tokens * rank]);
            reference::forward(&mut y64, &mut ax64, &x64, layer64);
            let (mut da64, mut db64) = (vec![1.0; a.len()], vec![1.0; b.len()]);
            let (mut dx64, mut h64) = (vec![1.0; x.len()], vec![0.0; rank]);
            let grads = reference::Gradients {
                da: &mut da64,
                db: &mut db64,
                dx: &mut dx64,
                h: &mut h64,
            };
            reference::backward(grads, &dy64, &x64, &ax64, layer64);
            for kernels in Kernels::available() {
                let mut scratch = vec![f32::NAN; scratch(tokens, &layer)];
                let (mut y, mut ax) = (vec![1.0; y64.len()], vec![f32::NAN; ax64.len()]);
                kernels.lora_forward(&mut y, &mut ax, &x, &layer, &mut scratch);
                let (mut dx, mut h) = (vec![1.0; x.len()], vec![f32::NAN; ax.len()]);
                kernels.lora_backward_input(&mut dx, &mut h, &dy, &layer, &mut scratch);
                let (mut da, mut db) = (vec![1.0; a.len()], vec![1.0; b.len()]);
                kernels.lora_backward_a(&mut da, &h, &x, &layer, &mut scratch);
                kernels.lora_backward_b(&mut db, &dy, &ax, &layer);
                for (got, want) in [
                    (&y, &y64),
                    (&ax, &ax64),
                    (&dx, &dx64),
                    (&da, &da64),
                    (&db, &db64),
                ] {
                    assert_close(got, want, 4e-6);
                }
            }
        }
    }
}
