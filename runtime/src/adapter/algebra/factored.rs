//! The singular values of a product of two thin matrices, without the product.

use super::columns::Columns;
use super::jacobi::{Svd, svd};
use super::qr::Qr;
use super::{Keep, SCALE};
use crate::adapter::LoraPair;

/// What rounding in f64 leaves of a singular value that is 0, relative to the factors.
const ROUNDING: f64 = 1e-13;

/// `B A` by its singular values: with `B = Q₁ R₁` and `Aᵀ = Q₂ R₂` they are those of `R₁ R₂ᵀ`, and its
/// singular vectors are turned by `Q₁` and `Q₂`.
#[derive(Debug)]
pub(super) struct Factored {
    left: Qr,
    right: Qr,
    inner: Svd,
    /// How many values factors in f32 can hold.
    rank: usize,
}

impl Factored {
    /// Factors `scale · B A` of a pair.
    pub fn of(pair: &LoraPair) -> Self {
        let left = Columns::of_columns(&pair.b, pair.rank());
        let right = Columns::of_rows(&pair.a, pair.inputs());
        Self::product(left, right, f64::from(pair.scale))
    }

    /// Factors `scale · left rightᵀ`; both have as many columns.
    pub fn product(left: Columns, right: Columns, scale: f64) -> Self {
        let (left, right) = rayon::join(|| Qr::of(left), || Qr::of(right));
        let (r_left, r_right) = (left.r(), right.r());
        let size = r_left.norm() * r_right.norm() * scale.abs();
        let mut inner = svd(&times_transposed(&r_left, &r_right, scale));
        let rounding = ROUNDING * size;
        inner
            .values
            .iter_mut()
            .filter(|v| **v <= rounding)
            .for_each(|v| *v = 0.0);
        // Factors in f32 cannot tell what is smaller beside the largest value from their rounding.
        let largest = inner.values.first().copied().unwrap_or(0.0);
        let nothing = f64::from(f32::EPSILON) * largest;
        let rank = inner.values.iter().filter(|&&v| v > nothing).count();
        Self {
            left,
            right,
            inner,
            rank,
        }
    }

    /// How many values `keep` keeps, and none of which is only rounding.
    pub fn rank(&self, keep: Keep) -> usize {
        match keep {
            Keep::Rank(rank) => rank.min(self.rank),
            Keep::Energy(share) => {
                let spare = (1.0 - share) * self.squares_from(0);
                let enough = (0..self.rank).find(|&rank| self.squares_from(rank) <= spare);
                enough.unwrap_or(self.rank)
            }
        }
    }

    /// The Frobenius norm of what is left out where `rank` values are kept; the whole norm for 0.
    pub fn cut(&self, rank: usize) -> f64 {
        self.squares_from(rank).sqrt()
    }

    /// The smallest first, so that they count.
    fn squares_from(&self, first: usize) -> f64 {
        let squares = self.inner.values[first..].iter().rev().map(|v| v * v);
        squares.sum()
    }

    /// The nearest pair of rank `rank`, which is not 0 and at most what [`Factored::rank`] says: the
    /// root of each value goes to A and to B.
    pub fn pair(&self, rank: usize) -> Option<LoraPair> {
        let weighted = |vectors: &Columns| {
            let mut few = Columns::zeros(vectors.rows, rank);
            let columns = few.values.chunks_exact_mut(vectors.rows);
            for ((few, vector), value) in columns.zip(vectors.iter()).zip(&self.inner.values) {
                let root = value.sqrt();
                few.iter_mut().zip(vector).for_each(|(f, v)| *f = root * v);
            }
            few
        };
        let b = self.left.times(&weighted(&self.inner.left)).transposed();
        let a = self.right.times(&weighted(&self.inner.right));
        let floats = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
        LoraPair::new(floats(&a.values), floats(&b.values), rank, SCALE)
    }
}

/// `scale · x yᵀ` of two matrices with as many columns.
fn times_transposed(x: &Columns, y: &Columns, scale: f64) -> Columns {
    let mut out = Columns::zeros(x.rows, y.rows);
    for (x, y) in x.iter().zip(y.iter()) {
        for (column, y) in out.values.chunks_exact_mut(x.len()).zip(y) {
            super::columns::add(column, scale * y, x);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    #[test]
    fn more_rank_than_a_side_has_is_no_rank() {
        let (outputs, inputs, rank) = (5, 7, 11);
        let random = |part: u64, count: usize| SplitMix::of(2, part).uniform(count, 1.0);
        let (a, b) = (random(1, rank * inputs), random(2, outputs * rank));
        let pair = LoraPair::new(a, b, rank, 2.0).unwrap();
        let factored = Factored::of(&pair);
        assert_eq!(factored.rank(Keep::Rank(rank)), outputs);
        let same = factored.pair(outputs).unwrap();
        let product = |pair: &LoraPair, row: usize, column: usize| -> f32 {
            let terms = (0..pair.rank())
                .map(|k| pair.b[row * pair.rank() + k] * pair.a[k * inputs + column]);
            pair.scale * terms.sum::<f32>()
        };
        for place in 0..outputs * inputs {
            let (row, column) = (place / inputs, place % inputs);
            let (was, is) = (product(&pair, row, column), product(&same, row, column));
            assert!((was - is).abs() < 1e-5, "{was} {is}");
        }
        assert!(factored.pair(0).is_none());
    }

    #[test]
    fn energy_is_met_exactly_where_values_are_equal() {
        let identity: Vec<f32> = Columns::identity(4, 4)
            .values
            .iter()
            .map(|&v| v as f32)
            .collect();
        let pair = LoraPair::new(identity.clone(), identity, 4, 1.0).unwrap();
        let factored = Factored::of(&pair);
        for (share, rank) in [(0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (1.0, 4)] {
            assert_eq!(factored.rank(Keep::Energy(share)), rank, "{share}");
        }
    }
}
