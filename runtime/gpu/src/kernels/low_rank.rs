//! LoRA, and the gradients of trained weights: products of floats.

use graft_kernels::ops::dropout::Dropout;

use super::File;
use super::elementwise::THREADS;
use crate::recorder::{Binding, Call, Groups, same, shaped};
use crate::shader::Key;
use crate::{Recorder, Result, Tensor};

/// Outputs of a group in each direction.
const TILE: [usize; 2] = [64, 16];

/// Terms of a sum that one group adds where few groups would add many; the sums of these are then added
/// in order.
const RUN: usize = 1024;

/// One adapted linear layer: its weights and sizes, as in `graft_kernels::ops::lora`.
#[derive(Clone, Copy, Debug)]
pub struct LoraLayer<'a> {
    /// `[rank, inputs]`.
    pub a: &'a Tensor,
    /// `[outputs, rank]`.
    pub b: &'a Tensor,
    /// `alpha / rank`.
    pub scale: f64,
    /// What is dropped of `x`; [`Dropout::NONE`] unless training asks for it.
    pub dropout: Dropout,
}

/// Gradients of one adapted layer; each is added to.
#[derive(Clone, Copy, Debug)]
pub struct LoraGradients<'a> {
    /// `[rank, inputs]`.
    pub da: &'a Tensor,
    /// `[outputs, rank]`.
    pub db: &'a Tensor,
    /// Through the adapter only, `[tokens, inputs]`.
    pub dx: &'a Tensor,
    /// Scratch, `[tokens, rank]`; contents on entry and exit are meaningless.
    pub h: &'a Tensor,
}

/// A matrix to read or write: element `(i, j)` is `i * strides[0] + j * strides[1]` floats after the first.
#[derive(Clone, Copy)]
struct Mat<'a> {
    tensor: &'a Tensor,
    strides: [usize; 2],
}

impl<'a> Mat<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        Self {
            tensor,
            strides: [tensor.width(), 1],
        }
    }

    fn transposed(tensor: &'a Tensor) -> Self {
        Self {
            tensor,
            strides: [1, tensor.width()],
        }
    }
}

/// What dropout multiplies.
#[derive(Clone, Copy)]
enum Keep {
    Left(Dropout),
    Added(Dropout),
    Nothing,
}

/// `c = (accumulate ? c : 0) + scale a b`, `sizes` are m, n, k.
struct Product<'a> {
    op: &'static str,
    c: Mat<'a>,
    a: Mat<'a>,
    b: Mat<'a>,
    sizes: [usize; 3],
    scale: f64,
    accumulate: bool,
    keep: Keep,
}

impl Recorder {
    /// Floats of scratch that [`Recorder::lora`] and [`Recorder::lora_backward`] need.
    pub fn lora_scratch(tokens: usize, inputs: usize, outputs: usize, rank: usize) -> usize {
        let runs = inputs.max(outputs).div_ceil(RUN);
        runs.saturating_mul(tokens).saturating_mul(rank)
    }

    /// Adds `scale * B (A dropout(x))` to `y`; keeps `A dropout(x)` in `ax` `[tokens, rank]` for
    /// [`Recorder::lora_backward`]. `x` is `[tokens, inputs]`, `y` is `[tokens, outputs]`; `scratch`
    /// has room for [`Recorder::lora_scratch`].
    ///
    /// # Errors
    /// If shapes do not fit each other, arrays overlap, or the device refuses.
    pub fn lora(
        &mut self,
        y: &Tensor,
        ax: &Tensor,
        x: &Tensor,
        layer: &LoraLayer<'_>,
        scratch: &Tensor,
    ) -> Result<()> {
        let op = "lora";
        let [tokens, _, outputs, rank] = sizes(op, layer, x, y, ax)?;
        self.lora_down(ax, x, layer, scratch)?;
        let at_once = self.rows_at_once(outputs.max(rank));
        for first in (0..tokens).step_by(at_once) {
            let rows = first..tokens.min(first + at_once);
            self.product_of_floats(&Product {
                op,
                c: Mat::of(&y.slice(rows.clone())?),
                a: Mat::of(&ax.slice(rows.clone())?),
                b: Mat::transposed(layer.b),
                sizes: [rows.len(), outputs, rank],
                scale: layer.scale,
                accumulate: true,
                keep: Keep::Nothing,
            })?;
        }
        Ok(())
    }

    /// Writes `ax = A dropout(x)` `[tokens, rank]`, which [`Recorder::lora`] computes on its way: for a backward
    /// that did not keep it.
    ///
    /// # Errors
    /// As [`Recorder::lora`].
    pub fn lora_down(
        &mut self,
        ax: &Tensor,
        x: &Tensor,
        layer: &LoraLayer<'_>,
        scratch: &Tensor,
    ) -> Result<()> {
        let op = "lora_down";
        let [tokens, inputs, rank] = [x.rows(), x.width(), layer.a.rows()];
        shaped(op, "a", layer.a, [rank, inputs])?;
        shaped(op, "ax", ax, [tokens, rank])?;
        let at_once = self.rows_at_once(inputs.max(rank));
        if tokens > at_once {
            for first in (0..tokens).step_by(at_once) {
                let rows = first..tokens.min(first + at_once);
                let (ax, x) = (ax.slice(rows.clone())?, x.slice(rows)?);
                let dropout = layer.dropout.after(first * inputs);
                let layer = LoraLayer { dropout, ..*layer };
                self.lora_down(&ax, &x, &layer, scratch)?;
            }
            return Ok(());
        }
        self.long_product(
            &Product {
                op,
                c: Mat::of(ax),
                a: Mat::of(x),
                b: Mat::transposed(layer.a),
                sizes: [tokens, rank, inputs],
                scale: 1.0,
                accumulate: false,
                keep: Keep::Left(layer.dropout),
            },
            scratch,
        )
    }

    /// Adds to the gradients, given what forward was given and `ax` as it left it.
    ///
    /// # Errors
    /// As [`Recorder::lora`].
    pub fn lora_backward(
        &mut self,
        grads: &LoraGradients<'_>,
        dy: &Tensor,
        x: &Tensor,
        ax: &Tensor,
        layer: &LoraLayer<'_>,
        scratch: &Tensor,
    ) -> Result<()> {
        let op = "lora_backward";
        let [tokens, inputs, outputs, rank] = sizes(op, layer, x, dy, ax)?;
        let &LoraGradients { da, db, dx, h } = grads;
        shaped(op, "da", da, [rank, inputs])?;
        shaped(op, "db", db, [outputs, rank])?;
        shaped(op, "dx", dx, [tokens, inputs])?;
        shaped(op, "h", h, [tokens, rank])?;
        let at_once = self.rows_at_once(inputs.max(outputs));
        if tokens > at_once {
            for first in (0..tokens).step_by(at_once) {
                let rows = first..tokens.min(first + at_once);
                let part = |tensor: &Tensor| tensor.slice(rows.clone());
                let (dx, h) = (part(dx)?, part(h)?);
                let grads = LoraGradients {
                    dx: &dx,
                    h: &h,
                    ..*grads
                };
                let dropout = layer.dropout.after(first * inputs);
                let layer = LoraLayer { dropout, ..*layer };
                let (dy, x, ax) = (part(dy)?, part(x)?, part(ax)?);
                self.lora_backward(&grads, &dy, &x, &ax, &layer, scratch)?;
            }
            return Ok(());
        }
        self.long_product(
            &Product {
                op,
                c: Mat::of(h),
                a: Mat::of(dy),
                b: Mat::of(layer.b),
                sizes: [tokens, rank, outputs],
                scale: layer.scale,
                accumulate: false,
                keep: Keep::Nothing,
            },
            scratch,
        )?;
        let added = |c, a, b, sizes, scale, keep| Product {
            op,
            c,
            a,
            b,
            sizes,
            scale,
            accumulate: true,
            keep,
        };
        let (a, b) = (Mat::transposed(dy), Mat::of(ax));
        let sizes = [outputs, rank, tokens];
        self.product_of_floats(&added(Mat::of(db), a, b, sizes, layer.scale, Keep::Nothing))?;
        let (c, a, b) = (Mat::transposed(da), Mat::transposed(x), Mat::of(h));
        let sizes = [inputs, rank, tokens];
        self.product_of_floats(&added(c, a, b, sizes, 1.0, Keep::Left(layer.dropout)))?;
        let (a, b) = (Mat::of(h), Mat::of(layer.a));
        let sizes = [tokens, inputs, rank];
        self.product_of_floats(&added(
            Mat::of(dx),
            a,
            b,
            sizes,
            1.0,
            Keep::Added(layer.dropout),
        ))
    }

    /// `dweight += dy^T x`, the gradient of a trained linear layer: `dweight` is `[outputs, inputs]`,
    /// `dy` is `[tokens, outputs]`, `x` is `[tokens, inputs]`. For its bias see
    /// [`Recorder::bias_backward`].
    ///
    /// # Errors
    /// As [`Recorder::lora`].
    pub fn linear_backward_parameters(
        &mut self,
        dweight: &Tensor,
        dy: &Tensor,
        x: &Tensor,
    ) -> Result<()> {
        let op = "linear_backward_parameters";
        let [tokens, outputs, inputs] = [dy.rows(), dy.width(), x.width()];
        same(op, "tokens", x.rows(), tokens)?;
        shaped(op, "dweight", dweight, [outputs, inputs])?;
        let at_once = self.rows_at_once(inputs.max(outputs));
        for first in (0..tokens).step_by(at_once) {
            let rows = first..tokens.min(first + at_once);
            let (dy, x) = (dy.slice(rows.clone())?, x.slice(rows.clone())?);
            self.product_of_floats(&Product {
                op,
                c: Mat::of(dweight),
                a: Mat::transposed(&dy),
                b: Mat::of(&x),
                sizes: [outputs, inputs, rows.len()],
                scale: 1.0,
                accumulate: true,
                keep: Keep::Nothing,
            })?;
        }
        Ok(())
    }

    /// A product whose sums are long and outputs few: in two steps, so that enough groups work on it.
    /// `c` lies row after row.
    fn long_product(&mut self, product: &Product<'_>, scratch: &Tensor) -> Result<()> {
        let [m, n, k] = product.sizes;
        let runs = k.div_ceil(RUN);
        if runs <= 1 {
            return self.product_of_floats(product);
        }
        let partial = super::scratch(product.op, scratch, runs * m * n)?;
        let shape = product.c.tensor;
        let c = Mat {
            tensor: &partial,
            strides: [shape.width(), 1],
        };
        self.strided(&Product { c, ..*product }, runs)?;
        self.run(&Call {
            op: product.op,
            key: key("sum", Keep::Nothing),
            arrays: &[(2, shape.into()), (0, (&partial).into())],
            written: 1,
            words: &words([0; 3], [[0; 2]; 3], [runs, m * n], product),
            groups: Groups::Line((m * n).div_ceil(THREADS)),
        })
    }

    fn product_of_floats(&mut self, product: &Product<'_>) -> Result<()> {
        self.strided(product, 1)
    }

    fn strided(&mut self, product: &Product<'_>, runs: usize) -> Result<()> {
        let &Product {
            op,
            c,
            a,
            b,
            sizes: [m, n, k],
            keep,
            ..
        } = product;
        if k == 0 && product.accumulate {
            return Ok(());
        }
        let run = match runs {
            1 => k,
            _ => RUN,
        };
        let arrays: [(usize, Binding<'_>); 3] = [
            (2, c.tensor.into()),
            (0, a.tensor.into()),
            (1, b.tensor.into()),
        ];
        self.run(&Call {
            op,
            key: key("product", keep),
            arrays: &arrays,
            written: 1,
            words: &words(
                [m, n, k],
                [a.strides, b.strides, c.strides],
                [run, m * n],
                product,
            ),
            groups: Groups::Grid([m.div_ceil(TILE[0]), n.div_ceil(TILE[1]), runs]),
        })
    }
}

fn key(entry: &'static str, keep: Keep) -> Key {
    let dropped = |dropout: Dropout, constant| if dropout.rate > 0.0 { constant } else { 0 };
    Key {
        constant: match keep {
            Keep::Left(dropout) => dropped(dropout, 1),
            Keep::Added(dropout) => dropped(dropout, 2),
            Keep::Nothing => 0,
        },
        ..Key::of(File::LowRank, entry)
    }
}

fn words(
    sizes: [usize; 3],
    strides: [[usize; 2]; 3],
    run: [usize; 2],
    product: &Product<'_>,
) -> [u32; 19] {
    let dropout = match product.keep {
        Keep::Left(dropout) | Keep::Added(dropout) => dropout,
        Keep::Nothing => Dropout::NONE,
    };
    let key = mix(dropout.seed ^ mix(dropout.stream));
    let threshold = (dropout.rate * 65536.0) as u32;
    let factor = 65536.0 / (65536 - threshold.min(65535)) as f32;
    let mut words = [0; 19];
    let numbers = sizes
        .into_iter()
        .chain(strides.into_iter().flatten())
        .chain(run);
    for (word, number) in words.iter_mut().zip(numbers) {
        *word = number as u32;
    }
    words[11..].copy_from_slice(&[
        u32::from(product.accumulate),
        (product.scale as f32).to_bits(),
        key as u32,
        (key >> 32) as u32,
        dropout.first as u32,
        (dropout.first >> 32) as u32,
        threshold,
        factor.to_bits(),
    ]);
    words
}

/// SplitMix64's finaliser, as `graft_kernels::ops::dropout` has it.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Tokens, inputs, outputs and rank, if the arrays agree about them.
fn sizes(
    op: &'static str,
    layer: &LoraLayer<'_>,
    x: &Tensor,
    y: &Tensor,
    ax: &Tensor,
) -> Result<[usize; 4]> {
    let (tokens, inputs, outputs, rank) = (x.rows(), x.width(), y.width(), layer.a.rows());
    shaped(op, "the side of outputs", y, [tokens, outputs])?;
    shaped(op, "a", layer.a, [rank, inputs])?;
    shaped(op, "b", layer.b, [outputs, rank])?;
    shaped(op, "ax", ax, [tokens, rank])?;
    Ok([tokens, inputs, outputs, rank])
}
