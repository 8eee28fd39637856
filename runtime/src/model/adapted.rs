//! A frozen linear layer and the low-rank terms attached to it: `y = W x + Σ scale · B (A dropout(x))`.
//!
//! `A x` is not kept for backward: `[T, R]` is cheap to compute again and would be the one saved
//! array whose size depends on the adapters. The formulas are those of
//! [`graft_kernels::ops::lora`], here as products cut for threads.

use graft_kernels::Kernels;
use graft_kernels::product::{Mat, MatMut};

use super::linear::product_parallel;
use super::{AdapterView, GradientView, Input, Linear, LoraGradient, LoraRef, Site};

/// A linear layer that adapters can change.
#[derive(Debug)]
pub struct Adapted {
    /// The frozen part.
    pub linear: Linear,
    /// Its name to adapters.
    pub site: Site,
}

impl Adapted {
    /// Writes `y` `[T, outputs]` from `x` `[T, inputs]`; the low-rank terms always see floats.
    pub fn forward(
        &self,
        y: &mut [f32],
        x: &Input<'_>,
        adapters: &dyn AdapterView,
        scratch: &mut LoraScratch,
    ) {
        self.linear.forward_input(y, x);
        self.add_terms(y, x.floats, adapters, scratch);
    }

    /// Adds the low-rank terms alone to `y`.
    pub fn add_terms(
        &self,
        y: &mut [f32],
        x: &[f32],
        adapters: &dyn AdapterView,
        scratch: &mut LoraScratch,
    ) {
        let (inputs, outputs) = (self.linear.inputs(), self.linear.outputs());
        let tokens = x.len() / inputs;
        for term in adapters.terms(self.site) {
            let (ax, _, wide) = scratch.of(tokens, term.rank);
            let x = dropped(x, wide, &term);
            let x = Mat::new(x, tokens, inputs);
            let (a, b) = self.matrices(&term);
            product_parallel(MatMut::new(ax, tokens, term.rank), false, 1.0, x, a.t());
            let (y, ax) = (
                MatMut::new(y, tokens, outputs),
                Mat::new(ax, tokens, term.rank),
            );
            product_parallel(y, true, term.scale, ax, b.t());
        }
    }

    /// Adds to `dx` (unless nothing below needs it) and to the gradients of the trained term.
    ///
    /// `dy` `[T, outputs]`, `x` and `dx` `[T, inputs]`.
    pub fn backward(
        &self,
        mut dx: Option<&mut [f32]>,
        dy: &[f32],
        x: &[f32],
        adapters: &dyn AdapterView,
        gradients: &mut dyn GradientView,
        scratch: &mut LoraScratch,
    ) {
        if let Some(dx) = &mut dx {
            self.linear.backward(dx, dy);
        }
        for n in 0..adapters.count() {
            let Some(term) = adapters.term(n, self.site) else {
                continue;
            };
            let trained = if n == 0 {
                gradients.at(self.site)
            } else {
                None
            };
            self.term_backward(dx.as_deref_mut(), dy, x, &term, trained, scratch);
        }
    }

    /// With `h = scale · dy B`: `dB += scale · dy^T (A x)`, `dA += h^T x`, `dx += h A`, where
    /// `x` is what dropout left of it and `dx` passes through the same mask.
    fn term_backward(
        &self,
        dx: Option<&mut [f32]>,
        dy: &[f32],
        x: &[f32],
        term: &LoraRef<'_>,
        trained: Option<LoraGradient<'_>>,
        scratch: &mut LoraScratch,
    ) {
        let (inputs, outputs, rank) = (self.linear.inputs(), self.linear.outputs(), term.rank);
        let tokens = x.len() / inputs;
        let (a, b) = self.matrices(term);
        let dy = Mat::new(dy, tokens, outputs);
        let (ax, h, wide) = scratch.of(tokens, rank);
        product_parallel(MatMut::new(h, tokens, rank), false, term.scale, dy, b);
        let h = Mat::new(h, tokens, rank);
        if let Some(LoraGradient { da, db }) = trained {
            let x = Mat::new(dropped(x, wide, term), tokens, inputs);
            product_parallel(MatMut::new(ax, tokens, rank), false, 1.0, x, a.t());
            let ax = Mat::new(ax, tokens, rank);
            let (da, db) = (
                MatMut::new(da, rank, inputs),
                MatMut::new(db, outputs, rank),
            );
            rayon::join(
                || product_parallel(db, true, term.scale, dy.t(), ax),
                || product_parallel(da, true, 1.0, h.t(), x),
            );
        }
        match dx {
            None => {}
            Some(dx) if term.dropout.rate == 0.0 => {
                product_parallel(MatMut::new(dx, tokens, inputs), true, 1.0, h, a);
            }
            Some(dx) => {
                let wide = &mut wide[..tokens * inputs];
                product_parallel(MatMut::new(wide, tokens, inputs), false, 1.0, h, a);
                Kernels::detect().dropout_backward(dx, wide, &term.dropout);
            }
        }
    }

    fn matrices<'a>(&self, term: &LoraRef<'a>) -> (Mat<'a>, Mat<'a>) {
        (
            Mat::new(term.a, term.rank, self.linear.inputs()),
            Mat::new(term.b, self.linear.outputs(), term.rank),
        )
    }
}

/// What the low-rank term sees of `x`.
fn dropped<'a>(x: &'a [f32], wide: &'a mut [f32], term: &LoraRef<'_>) -> &'a [f32] {
    if term.dropout.rate == 0.0 {
        return x;
    }
    let wide = &mut wide[..x.len()];
    Kernels::detect().dropout_forward(wide, x, &term.dropout);
    wide
}

/// Room for one low-rank term at a time.
#[derive(Debug, Default)]
pub struct LoraScratch {
    /// `A x`, `[T, R]`.
    ax: Vec<f32>,
    /// `scale · dy B`, `[T, R]`.
    h: Vec<f32>,
    /// `[T, inputs]`, with dropout only.
    wide: Vec<f32>,
}

impl LoraScratch {
    /// Room for `tokens` tokens, terms up to `rank` and, with dropout, inputs up to `width`
    /// (0 without); it never shrinks.
    pub fn reserve(&mut self, tokens: usize, rank: usize, width: usize) {
        let [ax, h, wide] = Self::lengths(tokens, rank, width);
        for (buffer, len) in [(&mut self.ax, ax), (&mut self.h, h), (&mut self.wide, wide)] {
            buffer.resize(len.max(buffer.len()), 0.0);
        }
    }

    /// Bytes that [`LoraScratch::reserve`] allocates in a new one.
    pub fn bytes(tokens: usize, rank: usize, width: usize) -> usize {
        Self::lengths(tokens, rank, width).iter().sum::<usize>() * size_of::<f32>()
    }

    fn lengths(tokens: usize, rank: usize, width: usize) -> [usize; 3] {
        [tokens * rank, tokens * rank, tokens * width]
    }

    fn of(&mut self, tokens: usize, rank: usize) -> (&mut [f32], &mut [f32], &mut [f32]) {
        let len = tokens * rank;
        (&mut self.ax[..len], &mut self.h[..len], &mut self.wide)
    }
}
