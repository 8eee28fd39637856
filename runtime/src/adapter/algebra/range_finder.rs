//! The best low-rank factors of a large matrix, found by multiplying it with few vectors (Halko,
//! Martinsson & Tropp, "Finding structure with randomness", SIAM Review 53, 2011: algorithm 4.4 and
//! section 5.1).

use graft_kernels::product::{Mat, MatMut};

use super::columns::Columns;
use super::factored::Factored;
use super::qr::Qr;
use crate::Result;
use crate::cancel::Cancel;
use crate::model::product_parallel;
use crate::random::SplitMix;

/// Vectors beyond the rank.
const SPARE: usize = 10;
/// How often the vectors go through the matrix and back: the values fall off as fast as their
/// power of 2·TURNS + 1 then.
const TURNS: usize = 2;

/// The product nearest to `matrix` (`[outputs, inputs]`, row after row) of about `rank + 10` columns,
/// factored. Runs in the caller's pool; the same bits for any number of threads.
///
/// # Errors
/// If the flag is raised.
pub(super) fn largest(
    matrix: &[f32],
    (outputs, inputs): (usize, usize),
    rank: usize,
    random: SplitMix,
    cancel: &Cancel,
) -> Result<Factored> {
    let count = (rank + SPARE).min(outputs).min(inputs);
    let matrix = Mat::new(matrix, outputs, inputs);
    // Rows are vectors: `[count, outputs]` = `[count, inputs]` Dᵀ, and the other way round.
    let there = |rows: &[f32]| -> Result<Vec<f32>> {
        cancel.check()?;
        let mut out = vec![0.0; count * outputs];
        let rows = Mat::new(rows, count, inputs);
        let to = MatMut::new(&mut out, count, outputs);
        product_parallel(to, false, 1.0, rows, matrix.t());
        Ok(out)
    };
    let back = |rows: &[f32]| -> Result<Vec<f32>> {
        cancel.check()?;
        let mut out = vec![0.0; count * inputs];
        let rows = Mat::new(rows, count, outputs);
        let to = MatMut::new(&mut out, count, inputs);
        product_parallel(to, false, 1.0, rows, matrix);
        Ok(out)
    };
    // Any independent values of one variance serve; these are the same on every machine.
    let mut basis = orthonormal(&there(&random.uniform(count * inputs, 1.0))?, outputs);
    for _ in 0..TURNS {
        let turned = orthonormal(&back(&basis)?, inputs);
        basis = orthonormal(&there(&turned)?, outputs);
    }
    let image = back(&basis)?;
    cancel.check()?;
    let (left, right) = (
        Columns::of_rows(&basis, outputs),
        Columns::of_rows(&image, inputs),
    );
    Ok(Factored::product(left, right, 1.0))
}

/// An orthonormal basis of the span of these rows of `width` values, as rows.
fn orthonormal(rows: &[f32], width: usize) -> Vec<f32> {
    let qr = Qr::of(Columns::of_rows(rows, width));
    let basis = qr.times(&Columns::identity(qr.rank(), qr.rank()));
    basis.values.iter().map(|&v| v as f32).collect()
}

#[cfg(test)]
mod tests {
    use graft_kernels::product::product;

    use super::super::two_files::norm;
    use super::*;
    use crate::adapter::Keep;

    /// `[outputs, inputs]` with these singular values and random vectors.
    fn with_values(outputs: usize, inputs: usize, values: &[f64]) -> Vec<f32> {
        let basis = |rows: usize, part: u64| {
            let random = SplitMix::of(1, part).uniform(rows * values.len(), 1.0);
            Columns::of_rows(&orthonormal(&random, rows), rows)
        };
        let (left, right) = (basis(outputs, 1), basis(inputs, 2));
        let mut rows = Columns::zeros(inputs, outputs);
        for ((left, right), value) in left.iter().zip(right.iter()).zip(values) {
            let rows = rows.values.chunks_exact_mut(inputs);
            for (row, factor) in rows.zip(left) {
                super::super::columns::add(row, value * factor, right);
            }
        }
        rows.values.iter().map(|&v| v as f32).collect()
    }

    #[test]
    fn even_slowly_falling_values_are_found_nearly_as_well_as_can_be() {
        let (outputs, inputs) = (300, 220);
        for (exponent, most) in [(0.25, 1.02), (0.5, 1.01), (1.0, 1.01), (3.0, 1.01)] {
            let values: Vec<f64> = (1..=220).map(|i| f64::from(i).powf(-exponent)).collect();
            let matrix = with_values(outputs, inputs, &values);
            for rank in [1, 8, 32] {
                let random = SplitMix::of(5, 6);
                let found = largest(&matrix, (outputs, inputs), rank, random, &Cancel::new());
                let found = found.unwrap();
                let pair = found.pair(found.rank(Keep::Rank(rank))).unwrap();
                assert_eq!(pair.rank(), rank);
                let mut rest = matrix.clone();
                let to = MatMut::new(&mut rest, outputs, inputs);
                let b = Mat::new(&pair.b, outputs, rank);
                product(to, true, -1.0, b, Mat::new(&pair.a, rank, inputs));
                let best = values[rank..].iter().map(|v| v * v).sum::<f64>().sqrt();
                let off = norm(&rest) / best;
                assert!((0.9999..most).contains(&off), "{exponent} {rank}: {off}");
            }
        }
    }
}
