//! Features to the language model's width: `y = W2 gelu(W1 x + b1) + b2`, exact (erf) GELU.
//!
//! Shapes: `x` is `[P, Wv]`, `hidden` `[P, W]`, `y` `[P, W]`. Frozen it runs from the file; while
//! it learns, and after, from f32 copies ([`ProjectorParameters`]).

use std::sync::Arc;

use graft_kernels::Kernels;
use graft_kernels::product::{Mat, MatMut};

use super::rowwise::elementwise;
use super::{
    Adapted, AdapterView, Input, Linear, LoraScratch, ModelError, ProjectorKind, Rounding, Site,
    Unadapted, Weight, Widest, product_parallel, vector,
};
use crate::gguf::Gguf;
use crate::memory::{Arena, ArenaError, Floats, Part};
use crate::random::SplitMix;

/// The projector of a vision-language model, as the mmproj file stores it.
#[derive(Clone, Debug)]
pub struct Projector {
    first: Adapted,
    second: Adapted,
}

/// Names of its tensors in mmproj files, in the order of [`ProjectorParameters::arrays`].
pub const PROJECTOR_TENSORS: [&str; 4] = ["mm.0.weight", "mm.0.bias", "mm.2.weight", "mm.2.bias"];

impl Projector {
    /// Binds `mm.0` and `mm.2`: from features of `features` floats to the model's `width`.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn bind(gguf: &Arc<Gguf>, features: usize, width: usize) -> Result<Self, ModelError> {
        let adapted = |kind: ProjectorKind, inputs: usize| -> Result<Adapted, ModelError> {
            let name = kind.gguf_name();
            let weight = Weight::bind(gguf, &format!("{name}.weight"), width, inputs)?;
            let bias = vector(gguf, &format!("{name}.bias"), width)?;
            Ok(Adapted {
                linear: Linear::with_bias(weight, bias),
                site: Site::Projector(kind),
            })
        };
        Ok(Self {
            first: adapted(ProjectorKind::First, features)?,
            second: adapted(ProjectorKind::Second, width)?,
        })
    }

    /// Bytes of its matrices in the file.
    pub fn bytes(&self) -> usize {
        let [first, second] = self.linears();
        first.weight().bytes().len() + second.weight().bytes().len()
    }

    /// Wv.
    pub fn inputs(&self) -> usize {
        self.first.linear.inputs()
    }

    /// W.
    pub fn outputs(&self) -> usize {
        self.second.linear.outputs()
    }

    /// The widest inputs that its layers read rounded, of `patches` rows.
    pub fn rounding(&self, patches: usize) -> Widest {
        Widest::of(self.linears(), patches)
    }

    /// Writes `y` from `x`; `saved` must hold P rows. Rounds what its layers read if they store blocks and
    /// `saved` has the room.
    pub fn forward(&self, y: &mut [f32], x: &[f32], saved: &mut ProjectorSaved) {
        self.forward_adapted(y, x, &Unadapted, saved);
    }

    /// The same with what adapters add to its two layers.
    pub fn forward_adapted(
        &self,
        y: &mut [f32],
        x: &[f32],
        adapters: &dyn AdapterView,
        saved: &mut ProjectorSaved,
    ) {
        let patches = x.len() / self.inputs();
        let len = patches * self.outputs();
        let terms = [&self.first, &self.second].map(|adapted| adapters.terms(adapted.site));
        let ranks = terms.into_iter().flatten().map(|term| term.rank);
        let ProjectorSaved {
            hidden,
            active,
            rounding,
            lora,
        } = saved;
        lora.reserve(patches, ranks.max().unwrap_or(0), 0);
        let (hidden, active) = (&mut hidden[..len], &mut active[..len]);
        let x = Input::rounded(x, rounding.as_mut(), [&self.first.linear]);
        self.first.forward(hidden, &x, adapters, lora);
        elementwise(active, hidden, Kernels::gelu_forward);
        let active = Input::rounded(active, rounding.as_mut(), [&self.second.linear]);
        self.second.forward(y, &active, adapters, lora);
    }

    /// One of its layers.
    pub fn linear(&self, kind: ProjectorKind) -> &Linear {
        match kind {
            ProjectorKind::First => &self.first.linear,
            ProjectorKind::Second => &self.second.linear,
        }
    }

    fn linears(&self) -> [&Linear; 2] {
        [&self.first.linear, &self.second.linear]
    }

    /// f32 copies of its parameters, for training.
    pub fn parameters(&self) -> ProjectorParameters {
        let decode = |linear: &Linear| {
            let mut out = vec![0.0; linear.inputs() * linear.outputs()];
            let rows = out.chunks_exact_mut(linear.inputs()).enumerate();
            rows.for_each(|(i, row)| linear.weight().decode_row(i, row, Kernels::detect()));
            out
        };
        let [first, second] = self.linears();
        ProjectorParameters {
            inputs: self.inputs(),
            width: self.outputs(),
            arrays: [
                decode(first),
                first.bias().to_vec(),
                decode(second),
                second.bias().to_vec(),
            ],
        }
    }
}

/// What forward keeps for backward; sized for P patches.
#[derive(Debug)]
pub struct ProjectorSaved {
    /// `W1 x + b1`, `[P, W]`.
    hidden: Floats,
    /// Its GELU, `[P, W]`.
    active: Floats,
    /// For inputs of the frozen layers in integers.
    rounding: Option<Rounding>,
    /// What is added to the frozen layers goes through here; it grows when adapters of them are met.
    lora: LoraScratch,
}

impl ProjectorSaved {
    /// Room for `patches` rows, and for rounded inputs ([`Projector::rounding`]; a
    /// projector that learns multiplies floats).
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(
        patches: usize,
        width: usize,
        rounding: Widest,
        arena: &Arena,
    ) -> Result<Self, ArenaError> {
        let (len, part) = (patches * width, Part::Projector);
        let [hidden, active] = arena.arrays(part, [len, len])?;
        Ok(Self {
            hidden,
            active,
            rounding: Rounding::if_any(rounding, part, arena)?,
            lora: LoraScratch::default(),
        })
    }

    /// Bytes that [`ProjectorSaved::new`] allocates.
    pub fn bytes(patches: usize, width: usize, rounding: Widest) -> usize {
        2 * patches * width * size_of::<f32>() + Rounding::bytes(rounding)
    }

    fn of(&mut self, patches: usize, width: usize) -> (&mut [f32], &mut [f32]) {
        let len = patches * width;
        (&mut self.hidden[..len], &mut self.active[..len])
    }
}

/// The projector's parameters, or their gradients, in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectorParameters {
    inputs: usize,
    width: usize,
    /// W1 `[W, Wv]`, b1 `[W]`, W2 `[W, W]`, b2 `[W]`.
    pub arrays: [Vec<f32>; 4],
}

impl ProjectorParameters {
    /// Random values as PyTorch's linear layers begin with: uniform between `±1 / sqrt(inputs)`.
    pub fn random(inputs: usize, width: usize, seed: u64) -> Self {
        let array = |number: u64, len: usize, inputs: usize| {
            // Sites of pairs count from 1 on.
            let random = SplitMix::of(seed, u64::MAX - number);
            random.uniform(len, 1.0 / (inputs as f64).sqrt())
        };
        Self {
            inputs,
            width,
            arrays: [
                array(1, width * inputs, inputs),
                array(2, width, inputs),
                array(3, width * width, width),
                array(4, width, width),
            ],
        }
    }

    /// Zeros of the same shapes, for gradients.
    pub fn zeros(&self) -> Self {
        Self {
            arrays: self.arrays.each_ref().map(|a| vec![0.0; a.len()]),
            ..*self
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.arrays.iter().map(Vec::len).sum()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wv.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// W.
    pub fn width(&self) -> usize {
        self.width
    }

    /// As [`Projector::forward`].
    pub fn forward(&self, y: &mut [f32], x: &[f32], saved: &mut ProjectorSaved) {
        let [w1, b1, w2, b2] = &self.arrays;
        let (hidden, active) = saved.of(x.len() / self.inputs, self.width);
        affine(hidden, x, w1, b1);
        elementwise(active, hidden, Kernels::gelu_forward);
        affine(y, active, w2, b2);
    }

    /// With `dy` `[P, W]` and what forward was given and kept: adds to `gradients`. `work` holds two
    /// arrays of `[P, W]`. The features are frozen and get no gradient.
    pub fn backward(
        &self,
        gradients: &mut Self,
        dy: &[f32],
        x: &[f32],
        saved: &ProjectorSaved,
        work: &mut ProjectorSaved,
    ) {
        let (width, inputs) = (self.width, self.inputs);
        let patches = x.len() / inputs;
        let (dhidden, dactive) = work.of(patches, width);
        let len = patches * width;
        let [dw1, db1, dw2, db2] = &mut gradients.arrays;
        let dy_rows = Mat::new(dy, patches, width);
        let active = Mat::new(&saved.active[..len], patches, width);
        product_parallel(
            MatMut::new(dw2, width, width),
            true,
            1.0,
            dy_rows.t(),
            active,
        );
        add_rows(db2, dy);
        let w2 = Mat::new(&self.arrays[2], width, width);
        product_parallel(
            MatMut::new(dactive, patches, width),
            false,
            1.0,
            dy_rows,
            w2,
        );
        dhidden.fill(0.0);
        Kernels::detect().gelu_backward(dhidden, dactive, &saved.hidden[..len]);
        let dhidden_rows = Mat::new(dhidden, patches, width);
        let x = Mat::new(x, patches, inputs);
        product_parallel(
            MatMut::new(dw1, width, inputs),
            true,
            1.0,
            dhidden_rows.t(),
            x,
        );
        add_rows(db1, dhidden);
    }
}

fn affine(y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]) {
    let outputs = bias.len();
    let inputs = weight.len() / outputs;
    let rows = x.len() / inputs;
    let (x, w) = (Mat::new(x, rows, inputs), Mat::new(weight, outputs, inputs));
    product_parallel(MatMut::new(y, rows, outputs), false, 1.0, x, w.t());
    y.chunks_exact_mut(outputs)
        .for_each(|row| Kernels::detect().add(row, bias));
}

fn add_rows(sum: &mut [f32], rows: &[f32]) {
    rows.chunks_exact(sum.len())
        .for_each(|row| Kernels::detect().add(sum, row));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gradients of the parameters against central differences, in f32, along one random
    /// direction: the operators themselves are proven in f64 where they stand.
    #[test]
    fn backward_is_the_derivative_of_forward() {
        let (inputs, width, patches) = (5, 4, 3);
        let mut seed = 1u64;
        let mut values = |n: usize| -> Vec<f32> {
            let next = |_| {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..n).map(next).collect()
        };
        let mut of = |scale: f32| ProjectorParameters {
            inputs,
            width,
            arrays: [width * inputs, width, width * width, width]
                .map(|n| values(n).into_iter().map(|v| v * scale).collect()),
        };
        let (parameters, direction) = (of(1.0), of(1.0));
        let (x, dy) = (values(patches * inputs), values(patches * width));
        let rows =
            || ProjectorSaved::new(patches, width, Widest::default(), &Arena::unlimited()).unwrap();
        let loss = |step: f32| -> f64 {
            let mut moved = parameters.clone();
            for (m, d) in moved.arrays.iter_mut().zip(&direction.arrays) {
                m.iter_mut().zip(d).for_each(|(m, d)| *m += step * d);
            }
            let mut y = vec![0.0; dy.len()];
            moved.forward(&mut y, &x, &mut rows());
            y.iter().zip(&dy).map(|(y, d)| f64::from(y * d)).sum()
        };
        let mut saved = rows();
        let mut y = vec![0.0; dy.len()];
        parameters.forward(&mut y, &x, &mut saved);
        let mut gradients = parameters.zeros();
        let mut work = rows();
        parameters.backward(&mut gradients, &dy, &x, &saved, &mut work);
        let got: f64 = gradients
            .arrays
            .iter()
            .flatten()
            .zip(direction.arrays.iter().flatten())
            .map(|(g, d)| f64::from(g * d))
            .sum();
        let want = (loss(1e-2) - loss(-1e-2)) / 2e-2;
        assert!((got - want).abs() < 1e-3 * want.abs(), "{got} {want}");
    }
}
