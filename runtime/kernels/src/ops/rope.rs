//! Rotary position embedding: pairs of elements of a head turn by `position * frequency`.
//!
//! `(a, b) -> (a cos - b sin, a sin + b cos)`. Shapes: `x` is `[tokens, heads * D]`, the first
//! `dims` elements of each head turn, token `t` sits at `start + t`. A pair is `(2i, 2i + 1)` in
//! the interleaved layout, as GGUF files of LLaMA store queries and keys, and `(i, i + dims / 2)`
//! in the half-split one. `frequency(i) = scale * base^(-2i / dims) / factor(i)`.
//! Source: Su et al. 2021, <https://arxiv.org/abs/2104.09864>; the factors are the `rope_freqs`
//! tensor of LLaMA 3.1.

use super::real::Real;

/// Which elements of a head form a pair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RopeLayout {
    /// `(2i, 2i + 1)`; GGML calls it "norm".
    Interleaved,
    /// `(i, i + dims / 2)`; GGML calls it "neox".
    HalfSplit,
}

/// What decides the angles.
#[derive(Clone, Copy, Debug)]
pub struct RopeOptions<'a> {
    /// Which elements form a pair.
    pub layout: RopeLayout,
    /// Elements of a head that turn; even.
    pub dims: usize,
    /// `theta`, usually 10,000.
    pub base: f64,
    /// Multiplies every position: 1, or `1 / factor` for linear scaling.
    pub scale: f64,
    /// Divides each frequency, `[dims / 2]`; empty for none.
    pub factors: &'a [f32],
}

/// Cosines and sines of every position a session can hold.
#[derive(Clone, Debug)]
pub struct RopeTable {
    layout: RopeLayout,
    dims: usize,
    /// `[positions, dims / 2, 2]`: cosine, sine.
    turns: Vec<[f32; 2]>,
}

impl RopeTable {
    /// The table of positions `0..positions`.
    ///
    /// Angles are computed in f64, so cosines and sines are within 0.501 * 2^-24 of the exact ones
    /// beyond a million positions: the angle's own error is 1.1e-16 of itself, 1.2e-11 at
    /// position 100,000, where rounding it to f32 would cost 3.9e-3.
    ///
    /// # Panics
    /// If `dims` is odd or zero, or `factors` has another length than 0 and `dims / 2`.
    pub fn new(options: &RopeOptions<'_>, positions: usize) -> Self {
        let &RopeOptions {
            layout,
            dims,
            base,
            scale,
            factors,
        } = options;
        assert!(dims > 0 && dims.is_multiple_of(2), "{dims} dims");
        assert!(factors.is_empty() || factors.len() == dims / 2, "factors");
        let frequency = |i: usize| {
            let factor = factors.get(i).map_or(1.0, |&f| f as f64);
            scale * base.powf(-2.0 * i as f64 / dims as f64) / factor
        };
        let frequencies: Vec<f64> = (0..dims / 2).map(frequency).collect();
        let turn = |p: usize, f: f64| {
            let (sin, cos) = (p as f64 * f).sin_cos();
            [cos as f32, sin as f32]
        };
        let turns = (0..positions)
            .flat_map(|p| frequencies.iter().map(move |&f| turn(p, f)))
            .collect();
        Self {
            layout,
            dims,
            turns,
        }
    }

    /// How many positions the table covers.
    pub fn positions(&self) -> usize {
        self.turns.len() / (self.dims / 2)
    }

    /// Cosine and sine of each pair at a position.
    pub(crate) fn at(&self, position: usize) -> &[[f32; 2]] {
        &self.turns[position * (self.dims / 2)..][..self.dims / 2]
    }

    /// Cosine and sine of each pair at each position, `[positions, dims / 2]`.
    pub fn turns(&self) -> &[[f32; 2]] {
        &self.turns
    }

    /// Which elements of a head form a pair.
    pub fn layout(&self) -> RopeLayout {
        self.layout
    }

    /// Elements of a head that turn.
    pub fn dims(&self) -> usize {
        self.dims
    }
}

/// Turns `x` in place.
///
/// # Panics
/// If a position is beyond the table.
pub fn forward<R: Real>(
    x: &mut [R],
    heads: usize,
    head_width: usize,
    start: usize,
    table: &RopeTable,
) {
    rotate(x, heads, head_width, start, table, 1.0);
}

/// Turns `dx` back, in place: a rotation's derivative is the rotation by the opposite angle.
///
/// # Panics
/// If a position is beyond the table.
pub fn backward<R: Real>(
    dx: &mut [R],
    heads: usize,
    head_width: usize,
    start: usize,
    table: &RopeTable,
) {
    rotate(dx, heads, head_width, start, table, -1.0);
}

fn rotate<R: Real>(
    x: &mut [R],
    heads: usize,
    head_width: usize,
    start: usize,
    table: &RopeTable,
    direction: f64,
) {
    for (row, position) in x.chunks_exact_mut(heads * head_width).zip(start..) {
        for head in row.chunks_exact_mut(head_width) {
            for (i, &[cos, sin]) in table.at(position).iter().enumerate() {
                let (first, second) = match table.layout {
                    RopeLayout::Interleaved => (2 * i, 2 * i + 1),
                    RopeLayout::HalfSplit => (i, i + table.dims / 2),
                };
                let (cos, sin) = (R::of(cos as f64), R::of(sin as f64 * direction));
                let (a, b) = (head[first], head[second]);
                head[first] = a * cos - b * sin;
                head[second] = a * sin + b * cos;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::real::{central_difference, dot, relative_error, values};
    use super::*;

    fn table(layout: RopeLayout) -> RopeTable {
        let options = RopeOptions {
            layout,
            dims: 4,
            base: 10_000.0,
            scale: 0.5,
            factors: &[1.0, 3.0],
        };
        RopeTable::new(&options, 8)
    }

    #[test]
    fn backward_is_the_derivative_of_forward() {
        for layout in [RopeLayout::Interleaved, RopeLayout::HalfSplit] {
            let table = table(layout);
            let (x, dy) = (values(1, 3 * 2 * 6), values(2, 3 * 2 * 6));
            let mut dx = dy.clone();
            backward(&mut dx, 2, 6, 5, &table);
            let want = central_difference(&x, |x| {
                let mut y = x.to_vec();
                forward(&mut y, 2, 6, 5, &table);
                dot(&y, &dy)
            });
            assert!(relative_error(&dx, &want) < 1e-8);
        }
    }

    #[test]
    fn a_pair_turns_by_position_times_frequency() {
        let angle = 6.0 * 0.5 * 10_000f64.powf(-0.5) / 3.0; // position 6, pair 1
        for (layout, first, second) in [
            (RopeLayout::Interleaved, 2, 3),
            (RopeLayout::HalfSplit, 1, 3),
        ] {
            let mut x = [0.0f64; 5];
            (x[first], x[4]) = (1.0, 9.0);
            forward(&mut x, 1, 5, 6, &table(layout));
            assert!((x[first] - angle.cos()).abs() < 1e-7);
            assert!((x[second] - angle.sin()).abs() < 1e-7);
            assert_eq!(x[4], 9.0, "beyond dims nothing turns");
        }
    }
}
