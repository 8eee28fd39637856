//! A frozen linear layer and the low-rank terms attached to it: `y = W x + Σ scale · B (A dropout(x))`.
//!
//! `A x` is not kept for backward: `[T, R]` is cheap to compute again and would be the one saved
//! array whose size depends on the adapters. The formulas are those of
//! [`graft_kernels::ops::lora`], here as products cut for threads.

use graft_kernels::Kernels;
use graft_kernels::low_rank::LowRank;
use graft_kernels::product::{Mat, MatMut};
use rayon::prelude::*;

use super::linear::{Added, product_parallel};
use super::{AdapterView, GradientView, Input, Linear, LoraGradient, LoraRef, RowSpan, Site};

/// A linear layer that adapters can change.
#[derive(Clone, Debug)]
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
        self.forward_first(y, x, adapters);
        self.add_terms(y, x.floats, adapters, scratch);
    }

    /// As much of [`Adapted::forward`] as needs no scratch, so that several layers can share a thread pool;
    /// [`Adapted::add_terms`] does the rest. For terms of a few tokens it is everything: each piece of the frozen
    /// product has them added where it is.
    pub fn forward_first(&self, y: &mut [f32], x: &Input<'_>, adapters: &dyn AdapterView) {
        let inputs = self.linear.inputs();
        let tokens = x.floats.len() / inputs;
        let thin = adapters
            .terms(self.site)
            .filter(|term| is_thin(term, tokens));
        let mut terms: Vec<_> = thin
            .map(|term| {
                let rows = term.rows.within(tokens);
                let added = Added {
                    ax: vec![0.0; rows.len() * term.rank],
                    rank: term.rank,
                    b: term.b,
                    rows,
                };
                (added, term)
            })
            .collect();
        let fill = |(added, term): &mut (Added<'_>, LoraRef<'_>)| {
            let rows = added.rows.clone();
            let x = &x.floats[rows.start * inputs..rows.end * inputs];
            down(&mut added.ax, x, term.a, term.scale, rows.len());
        };
        match &mut terms[..] {
            [] => {}
            [one] => fill(one),
            several => several.par_iter_mut().for_each(fill),
        }
        let terms: Vec<_> = terms.into_iter().map(|(added, _)| added).collect();
        self.linear.forward_adding(y, x, &terms);
    }

    /// Adds the low-rank terms to `y` that [`Adapted::forward_first`] left.
    pub fn add_terms(
        &self,
        y: &mut [f32],
        x: &[f32],
        adapters: &dyn AdapterView,
        scratch: &mut LoraScratch,
    ) {
        let (inputs, outputs) = (self.linear.inputs(), self.linear.outputs());
        let all = x.len() / inputs;
        let thick = adapters.terms(self.site).filter(|term| !is_thin(term, all));
        for term in thick {
            let rows = term.rows.within(all);
            let tokens = rows.len();
            let x = &x[rows.start * inputs..rows.end * inputs];
            let y = &mut y[rows.start * outputs..rows.end * outputs];
            let Room { ax, wide, a, b, .. } = scratch.of(tokens, term.rank);
            let x = dropped(x, wide, &term);
            let x = Mat::new(x, tokens, inputs);
            let (a, b) = self.matrices(&term, a, b);
            product_parallel(MatMut::new(ax, tokens, term.rank), false, 1.0, x, a.t());
            let (y, ax) = (
                MatMut::new(y, tokens, outputs),
                Mat::new(ax, tokens, term.rank),
            );
            product_parallel(y, true, term.scale, ax, b.t());
        }
    }

    /// Makes the gradient `dx` of the input and adds to those of the trained term.
    ///
    /// `dy` `[T, outputs]`, `x`, what forward read, and `dx` `[T, inputs]`.
    pub fn backward(
        &self,
        dx: InputGradient<'_>,
        dy: &[f32],
        x: &Input<'_>,
        adapters: &dyn AdapterView,
        gradients: &mut dyn GradientView,
        scratch: &mut LoraScratch,
    ) {
        let mut dx = match dx {
            InputGradient::Unwanted => None,
            InputGradient::First(dx) => {
                self.linear.backward(dx, false, dy, x.words);
                Some(dx)
            }
            InputGradient::Next(dx) => {
                self.linear.backward(dx, true, dy, x.words);
                Some(dx)
            }
        };
        for n in 0..adapters.count() {
            let Some(term) = adapters.term(n, self.site) else {
                continue;
            };
            debug_assert_eq!(term.rows, RowSpan::ALL, "training has one set of adapters");
            let trained = if n == 0 {
                gradients.at(self.site)
            } else {
                None
            };
            self.term_backward(dx.as_deref_mut(), dy, x.floats, &term, trained, scratch);
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
        let Room {
            ax, h, wide, a, b, ..
        } = scratch.of(tokens, rank);
        let (a, b) = self.matrices(term, a, b);
        let dy = Mat::new(dy, tokens, outputs);
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

    fn matrices<'a>(
        &self,
        term: &LoraRef<'a>,
        a: &'a mut Vec<f32>,
        b: &'a mut Vec<f32>,
    ) -> (Mat<'a>, Mat<'a>) {
        let (inputs, outputs, rank) = (self.linear.inputs(), self.linear.outputs(), term.rank);
        let kernels = Kernels::detect();
        (
            Mat::new(term.a.floats(kernels, a, rank * inputs), rank, inputs),
            Mat::new(term.b.floats(kernels, b, outputs * rank), outputs, rank),
        )
    }
}

/// Where the gradient of an input goes that several layers may read.
#[derive(Debug)]
pub enum InputGradient<'a> {
    /// Nothing below needs it.
    Unwanted,
    /// Is written: what was there means nothing.
    First(&'a mut [f32]),
    /// Is added to.
    Next(&'a mut [f32]),
}

/// Whether a term is added to pieces of the frozen product: it has few of a pass's tokens, or none, and no
/// dropout.
fn is_thin(term: &LoraRef<'_>, tokens: usize) -> bool {
    term.rows.within(tokens).len() <= Kernels::THIN_TOKENS && term.dropout.rate == 0.0
}

/// `ax = scale * A x` for a few tokens; of one token, rows of A are shared out.
fn down(ax: &mut [f32], x: &[f32], a: LowRank<'_>, scale: f32, tokens: usize) {
    if tokens == 0 {
        return;
    }
    let (rank, inputs) = (ax.len() / tokens, x.len() / tokens);
    let half = rank / 2;
    if tokens > 1 || half * inputs < PIECE_VALUES {
        return Kernels::detect().low_rank_down(ax, x, a, rank, scale);
    }
    let (first, last) = ax.split_at_mut(half);
    let (a_first, a_last) = (a.rows(0, half, inputs), a.rows(half, rank - half, inputs));
    rayon::join(
        || down(first, x, a_first, scale, 1),
        || down(last, x, a_last, scale, 1),
    );
}

/// Fewest values of A worth another thread.
const PIECE_VALUES: usize = 1 << 14;

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
    /// `A` and `B` of a stored term for more than a few tokens; they grow when one is met.
    a: Vec<f32>,
    b: Vec<f32>,
}

/// Parts of a [`LoraScratch`] as long as one term wants them.
struct Room<'a> {
    ax: &'a mut [f32],
    h: &'a mut [f32],
    wide: &'a mut [f32],
    a: &'a mut Vec<f32>,
    b: &'a mut Vec<f32>,
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

    fn of(&mut self, tokens: usize, rank: usize) -> Room<'_> {
        let len = tokens * rank;
        Room {
            ax: &mut self.ax[..len],
            h: &mut self.h[..len],
            wide: &mut self.wide,
            a: &mut self.a,
            b: &mut self.b,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use graft_kernels::QuantType;
    use graft_kernels::ops::dropout::Dropout;
    use graft_kernels::ops::lora as reference;

    use super::*;
    use crate::gguf::{Gguf, Metadata, TensorDeclaration, whole_file};
    use crate::model::{SiteKind, Weight};

    const SITE: Site = Site::Layer {
        layer: 0,
        linear: SiteKind::Q,
    };

    /// A frozen matrix of zeros, so that all there is comes from the term.
    fn zeros(outputs: usize, inputs: usize) -> Adapted {
        let tensors = [TensorDeclaration {
            name: "w".into(),
            shape: vec![inputs, outputs],
            quant_type: QuantType::F32,
        }];
        let file = whole_file(&Metadata::new(), &tensors, 0).unwrap();
        let gguf = Arc::new(Gguf::from_bytes(file).unwrap());
        let weight = Weight::bind(&gguf, "w", outputs, inputs).unwrap();
        Adapted {
            linear: Linear::new(weight),
            site: SITE,
        }
    }

    struct One<'a>(LoraRef<'a>);

    impl AdapterView for One<'_> {
        fn count(&self) -> usize {
            1
        }

        fn term(&self, _: usize, site: Site) -> Option<LoraRef<'_>> {
            (site == SITE).then_some(self.0)
        }

        fn max_rank(&self) -> usize {
            self.0.rank
        }
    }

    struct Sums(Vec<f32>, Vec<f32>);

    impl GradientView for Sums {
        fn at(&mut self, _: Site) -> Option<LoraGradient<'_>> {
            let Self(da, db) = self;
            Some(LoraGradient { da, db })
        }
    }

    fn values(seed: usize, n: usize) -> Vec<f32> {
        let value = |i: usize| ((seed * 7919 + i) * 2_654_435_761 % 1000) as f32 / 500.0 - 1.0;
        (0..n).map(value).collect()
    }

    fn close(got: &[f32], want: &[f64]) {
        let largest = want.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        for (&got, want) in got.iter().zip(want) {
            assert!(
                (f64::from(got) - want).abs() <= 4e-6 * largest,
                "{got} {want}"
            );
        }
    }

    /// Products cut for threads, and pieces added where the frozen product is, with tails everywhere.
    #[test]
    fn low_rank_terms_agree_with_the_reference() {
        let some = Dropout {
            rate: 0.25,
            seed: 3,
            stream: 4,
            first: 10,
        };
        for (tokens, inputs, outputs, rank, dropout) in [
            (1, 7, 5, 3, Dropout::NONE),
            (130, 33, 18, 4, Dropout::NONE),
            (130, 33, 18, 4, some),
            (700, 300, 130, 24, Dropout::NONE),
        ] {
            let (a, b) = (values(1, rank * inputs), values(2, outputs * rank));
            let (x, dy) = (values(3, tokens * inputs), values(4, tokens * outputs));
            let wide = |x: &[f32]| x.iter().map(|&x| x.into()).collect::<Vec<f64>>();
            let (a64, b64, x64, dy64) = (wide(&a), wide(&b), wide(&x), wide(&dy));
            let layer = reference::Layer {
                a: &a64,
                b: &b64,
                scale: 0.5,
                inputs,
                outputs,
                rank,
                dropout,
            };
            let (mut y64, mut ax64) = (vec![0.0; dy.len()], vec![0.0; tokens * rank]);
            reference::forward(&mut y64, &mut ax64, &x64, layer);
            let (mut da64, mut db64) = (vec![1.0; a.len()], vec![1.0; b.len()]);
            let (mut dx64, mut h64) = (vec![0.0; x.len()], vec![0.0; rank]);
            let grads = reference::Gradients {
                da: &mut da64,
                db: &mut db64,
                dx: &mut dx64,
                h: &mut h64,
            };
            reference::backward(grads, &dy64, &x64, &ax64, layer);

            let adapted = zeros(outputs, inputs);
            let term = One(LoraRef {
                a: LowRank::Floats(&a),
                b: LowRank::Floats(&b),
                rank,
                scale: 0.5,
                dropout,
                rows: RowSpan::ALL,
            });
            let mut scratch = LoraScratch::default();
            scratch.reserve(tokens, rank, inputs);
            let mut y = vec![f32::NAN; dy.len()];
            adapted.forward(&mut y, &Input::exact(&x), &term, &mut scratch);
            close(&y, &y64);
            let (mut dx, mut sums) = (
                vec![f32::NAN; x.len()],
                Sums(vec![1.0; a.len()], vec![1.0; b.len()]),
            );
            let to = InputGradient::First(&mut dx);
            let x = Input::exact(&x);
            adapted.backward(to, &dy, &x, &term, &mut sums, &mut scratch);
            for (got, want) in [(&dx, &dx64), (&sums.0, &da64), (&sums.1, &db64)] {
                close(got, want);
            }
        }
    }
}
