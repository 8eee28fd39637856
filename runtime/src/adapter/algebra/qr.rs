//! Thin QR by Householder's reflections (Golub & Van Loan, section 5.2): the basis is orthonormal to
//! rounding however dependent the columns are.

use rayon::prelude::*;

use super::columns::{Columns, add, dot};

/// Reflections that go over a column while it is in a core's cache.
const PANEL: usize = 8;
/// Values worth a piece of their own for a thread.
const PIECE: usize = 1 << 13;

/// `Q R` of a matrix `[rows, count]`; Q has `rank() = min(rows, count)` columns.
#[derive(Debug)]
pub(super) struct Qr {
    /// Column `j` holds R above the diagonal, and from there on the unit vector that is reflected
    /// at; zeros where nothing needs to be.
    packed: Columns,
    /// R on the diagonal.
    diagonal: Vec<f64>,
}

impl Qr {
    /// Factors a matrix; its columns are split among the threads of the pool that this runs in.
    pub fn of(mut matrix: Columns) -> Self {
        let rows = matrix.rows;
        let rank = rows.min(matrix.count());
        let mut diagonal = Vec::with_capacity(rank);
        for first in (0..rank).step_by(PANEL) {
            let width = PANEL.min(rank - first);
            let (panel, rest) = matrix.values[first * rows..].split_at_mut(width * rows);
            for j in 0..width {
                let (done, later) = panel.split_at_mut((j + 1) * rows);
                let at = first + j;
                let vector = &mut done[j * rows..][at..];
                diagonal.push(reflector(vector));
                let later = later.chunks_exact_mut(rows);
                later.for_each(|column| reflect(&mut column[at..], vector));
            }
            pieces(rest, rows).for_each(|column| {
                for (j, vector) in panel.chunks_exact(rows).enumerate() {
                    let at = first + j;
                    reflect(&mut column[at..], &vector[at..]);
                }
            });
        }
        Self {
            packed: matrix,
            diagonal,
        }
    }

    /// Columns of Q.
    pub fn rank(&self) -> usize {
        self.diagonal.len()
    }

    /// R, `[rank, count]`, zero below the diagonal.
    pub fn r(&self) -> Columns {
        let mut r = Columns::zeros(self.rank(), self.packed.count());
        let columns = r.values.chunks_exact_mut(self.rank());
        for (j, (column, packed)) in columns.zip(self.packed.iter()).enumerate() {
            let above = j.min(self.rank());
            column[..above].copy_from_slice(&packed[..above]);
            if let Some(&diagonal) = self.diagonal.get(j) {
                column[j] = diagonal;
            }
        }
        r
    }

    /// `Q x` for `x` of `[rank, n]`: `[rows, n]`.
    pub fn times(&self, x: &Columns) -> Columns {
        let rows = self.packed.rows;
        let mut out = Columns::zeros(rows, x.count());
        for (out, x) in out.values.chunks_exact_mut(rows).zip(x.iter()) {
            out[..x.len()].copy_from_slice(x);
        }
        let panels = (0..self.rank()).step_by(PANEL).rev();
        for first in panels {
            let last = self.rank().min(first + PANEL);
            pieces(&mut out.values, rows).for_each(|column| {
                for at in (first..last).rev() {
                    reflect(&mut column[at..], &self.packed.column(at)[at..]);
                }
            });
        }
        out
    }
}

/// The columns, a few to a thread.
fn pieces(values: &mut [f64], rows: usize) -> impl IndexedParallelIterator<Item = &mut [f64]> {
    values
        .par_chunks_exact_mut(rows)
        .with_min_len(PIECE.div_ceil(rows))
}

/// Turns `x` into the unit vector whose reflection brings `x` to its first axis; returns where on
/// that axis it comes to lie. Zeros stay what they are.
fn reflector(x: &mut [f64]) -> f64 {
    let norm = dot(x, x).sqrt();
    if norm == 0.0 {
        return 0.0;
    }
    // Away from x, so that nothing cancels.
    let to = -norm.copysign(x[0]);
    x[0] -= to;
    let inverse = 1.0 / dot(x, x).sqrt();
    x.iter_mut().for_each(|x| *x *= inverse);
    to
}

/// `x -= 2 v (v · x)`.
fn reflect(x: &mut [f64], v: &[f64]) {
    add(x, -2.0 * dot(x, v), v);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    fn random(rows: usize, count: usize) -> Columns {
        Columns::of_rows(&SplitMix::of(7, 1).uniform(rows * count, 1.0), rows)
    }

    /// `a b` for small matrices, the plain way.
    fn product(a: &Columns, b: &Columns) -> Columns {
        let mut out = Columns::zeros(a.rows, b.count());
        for (out, b) in out.values.chunks_exact_mut(a.rows).zip(b.iter()) {
            a.iter().zip(b).for_each(|(a, &b)| add(out, b, a));
        }
        out
    }

    fn close(a: &Columns, b: &Columns) {
        assert_eq!((a.rows, a.count()), (b.rows, b.count()));
        let mut difference = a.clone();
        add(&mut difference.values, -1.0, &b.values);
        let error = difference.norm();
        assert!(error < 1e-13 * (1.0 + b.norm()), "{error:e}");
    }

    #[test]
    fn the_factors_multiply_to_the_matrix_and_the_basis_is_orthonormal() {
        let mut dependent = random(50, 20);
        let copied = dependent.column(3).to_vec();
        dependent.values[50 * 11..][..50].copy_from_slice(&copied);
        dependent.values[50 * 5..][..50].fill(0.0);
        let tall = random(300, 21);
        for matrix in [
            tall,
            dependent,
            random(9, 30),
            random(1, 1),
            Columns::zeros(4, 3),
        ] {
            let qr = Qr::of(matrix.clone());
            let q = qr.times(&Columns::identity(qr.rank(), qr.rank()));
            close(&product(&q, &qr.r()), &matrix);
            let identity = Columns::identity(qr.rank(), qr.rank());
            close(&product(&q.transposed(), &q), &identity);
            for (j, column) in qr.r().iter().enumerate() {
                assert!(column.iter().skip(j + 1).all(|&v| v == 0.0));
            }
        }
    }
}
