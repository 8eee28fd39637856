//! Several pairs at one site as one: ranks add up, scales go into B.

use super::LoraPair;

/// `sum of strength · scale · B A` at one site as one product.
#[derive(Clone, Debug, Default)]
pub(super) struct Stacked {
    /// `[R, inputs]`.
    pub a: Vec<f32>,
    /// `[R, outputs]`: B's columns one after the other.
    pub b: Vec<f32>,
    /// R.
    pub rank: usize,
}

impl Stacked {
    /// Adds a pair of the same widths at a strength.
    pub fn push(&mut self, pair: &LoraPair, strength: f32) {
        self.a.extend(&pair.a[..]);
        for k in 0..pair.rank() {
            let column = pair.b.iter().skip(k).step_by(pair.rank());
            self.b.extend(column.map(|b| b * pair.scale * strength));
        }
        self.rank += pair.rank();
    }

    pub fn inputs(&self) -> usize {
        self.a.len() / self.rank
    }

    pub fn outputs(&self) -> usize {
        self.b.len() / self.rank
    }

    /// All of it as a pair of scale 1; `None` if nothing was added.
    pub fn pair(self) -> Option<LoraPair> {
        if self.rank == 0 {
            return None;
        }
        let outputs = self.outputs();
        let row = |i: usize| self.b.iter().skip(i).step_by(outputs);
        let b: Vec<_> = (0..outputs).flat_map(row).copied().collect();
        LoraPair::new(self.a, b, self.rank, 1.0)
    }
}
