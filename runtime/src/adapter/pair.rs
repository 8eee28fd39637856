//! The two matrices of a low-rank term, and how they begin.

use graft_kernels::ops::dropout::Dropout;

use super::{AdapterError, Values};
use crate::model::{LoraRef, RowSpan, Site};
use crate::random::SplitMix;

/// `scale · B A` at one site, in the order of the site's matrix: rows of B are rows of the matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraPair {
    /// `[R, inputs]`.
    pub a: Values,
    /// `[outputs, R]`.
    pub b: Values,
    /// `alpha / rank`, or `alpha / sqrt(rank)` with rsLoRA.
    pub scale: f32,
    rank: usize,
}

/// Rows of `columns` values as columns.
pub(super) fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let column = |c: usize| values.iter().skip(c).step_by(columns.max(1));
    (0..columns).flat_map(column).copied().collect()
}

impl LoraPair {
    /// A pair from its matrices; `None` if their lengths are not multiples of `rank`.
    pub fn new(
        a: impl Into<Values>,
        b: impl Into<Values>,
        rank: usize,
        scale: f32,
    ) -> Option<Self> {
        let (a, b) = (a.into(), b.into());
        let whole = |len: usize| rank > 0 && len > 0 && len.is_multiple_of(rank);
        (whole(a.len()) && whole(b.len())).then_some(Self { a, b, scale, rank })
    }

    /// A pair that adds nothing yet: A uniform in `±1/sqrt(inputs)` (Kaiming's with `a = sqrt 5`, as
    /// PEFT begins), B zero. Values depend on `seed` and `site` alone.
    pub fn begin(
        site: Site,
        (outputs, inputs): (usize, usize),
        rank: usize,
        scale: f32,
        seed: u64,
    ) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let random = SplitMix::of(seed, site.index() as u64 + 1);
        Self {
            a: random.uniform(rank * inputs, bound).into(),
            b: vec![0.0; outputs * rank].into(),
            scale,
            rank,
        }
    }

    /// R.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Width of what the site is given.
    pub fn inputs(&self) -> usize {
        self.a.len() / self.rank
    }

    /// Width of what the site returns.
    pub fn outputs(&self) -> usize {
        self.b.len() / self.rank
    }

    /// The pair as a layer sees it, at a strength.
    pub fn term(&self, strength: f32, dropout: Dropout) -> LoraRef<'_> {
        LoraRef {
            a: self.a.low_rank(),
            b: self.b.low_rank(),
            rank: self.rank,
            scale: self.scale * strength,
            dropout,
            rows: RowSpan::ALL,
        }
    }

    pub(super) fn check(&self, site: Site) -> Result<(), AdapterError> {
        if !self.scale.is_finite() {
            let scale = self.scale;
            return Err(AdapterError::Scale { site, scale });
        }
        for (name, values) in [("lora_a", &self.a), ("lora_b", &self.b)] {
            if let Some(index) = values.not_finite() {
                return Err(AdapterError::NotFinite {
                    tensor: format!("{site}.weight.{name}"),
                    index,
                });
            }
        }
        Ok(())
    }
}
