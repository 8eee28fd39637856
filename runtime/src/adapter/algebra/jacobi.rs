//! Singular values of a small matrix by one-sided Jacobi rotations (Hestenes 1958).
//!
//! Pairs of columns are turned until all are orthogonal; their lengths are the singular values then,
//! small ones as exactly as large ones (Demmel & Veselić 1992). In a round every column meets
//! one other, as players do in a tournament (Brent & Luk 1985), so rounds split among threads without
//! changing a bit.

use rayon::prelude::*;

use super::columns::{Columns, dot};

/// Far more than any matrix takes; ten are common.
const MOST_SWEEPS: usize = 60;
/// Pairs worth a piece of their own for a thread, as values in them.
const PIECE: usize = 1 << 12;

/// `U diag(values) Vᵀ`.
#[derive(Debug)]
pub(super) struct Svd {
    /// `[rows, k]` with `k = min(rows, columns)`; orthonormal where the value is not 0.
    pub left: Columns,
    /// Largest first.
    pub values: Vec<f64>,
    /// `[columns, k]`, orthonormal.
    pub right: Columns,
}

/// A column of `A V`, and of V.
struct Turned {
    image: Vec<f64>,
    turn: Vec<f64>,
}

/// The singular value decomposition of any matrix of finite values.
pub(super) fn svd(matrix: &Columns) -> Svd {
    if matrix.rows < matrix.count() {
        let flat = svd(&matrix.transposed());
        return Svd {
            left: flat.right,
            values: flat.values,
            right: flat.left,
        };
    }
    let count = matrix.count();
    let turns = Columns::identity(count, count);
    let mut columns: Vec<Turned> = matrix
        .iter()
        .zip(turns.iter())
        .map(|(image, turn)| Turned {
            image: image.to_vec(),
            turn: turn.to_vec(),
        })
        .collect();
    // A tournament wants an even number: zeros meet everyone and turn nothing.
    if count % 2 == 1 {
        columns.push(Turned {
            image: vec![0.0; matrix.rows],
            turn: vec![0.0; count],
        });
    }
    let pieces = PIECE.div_ceil(2 * (matrix.rows + count));
    for _ in 0..MOST_SWEEPS {
        let mut turned = false;
        for _ in 1..columns.len() {
            let pairs = columns.par_chunks_exact_mut(2).with_min_len(pieces);
            turned |= pairs.map(orthogonalize).reduce(|| false, |a, b| a | b);
            next_round(&mut columns);
        }
        if !turned {
            break;
        }
    }
    // That column of zeros has no turn either.
    columns.retain(|column| dot(&column.turn, &column.turn) > 0.5);
    let length = |column: &Turned| dot(&column.image, &column.image).sqrt();
    let mut order: Vec<(f64, Turned)> = columns.into_iter().map(|c| (length(&c), c)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut svd = Svd {
        left: Columns::zeros(matrix.rows, 0),
        values: Vec::with_capacity(count),
        right: Columns::zeros(count, 0),
    };
    for (value, column) in order {
        let inverse = if value > 0.0 { 1.0 / value } else { 0.0 };
        svd.left
            .values
            .extend(column.image.iter().map(|v| v * inverse));
        svd.right.values.extend(column.turn);
        svd.values.push(value);
    }
    svd
}

/// Turns two columns in their plane until they are orthogonal; `false` if they are.
fn orthogonalize(pair: &mut [Turned]) -> bool {
    let [p, q] = pair else {
        return false;
    };
    let both = dot(&p.image, &q.image);
    let (pp, qq) = (dot(&p.image, &p.image), dot(&q.image, &q.image));
    let rounding = f64::EPSILON * p.image.len() as f64;
    if both.abs() <= rounding * pp.sqrt() * qq.sqrt() {
        return false;
    }
    // The smaller of the two angles that do it.
    let zeta = (qq - pp) / (2.0 * both);
    let tangent = 1f64.copysign(zeta) / (zeta.abs() + zeta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = cosine * tangent;
    turn(&mut p.image, &mut q.image, cosine, sine);
    turn(&mut p.turn, &mut q.turn, cosine, sine);
    true
}

fn turn(x: &mut [f64], y: &mut [f64], cosine: f64, sine: f64) {
    for (x, y) in x.iter_mut().zip(y) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
}

/// Moves every column but the first one place on, down the even places and back along the odd ones:
/// neighbours `2i` and `2i + 1` are other pairs then, and each pair once before any comes again.
fn next_round(columns: &mut [Turned]) {
    let count = columns.len();
    let mut places = (2..count).step_by(2).chain((1..count).rev().step_by(2));
    if let Some(first) = places.next() {
        places.for_each(|place| columns.swap(first, place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    #[test]
    fn everyone_meets_everyone_once() {
        for count in [2, 4, 6, 14] {
            let column = |i: usize| Turned {
                image: vec![i as f64],
                turn: Vec::new(),
            };
            let mut columns: Vec<Turned> = (0..count).map(column).collect();
            let mut met = std::collections::BTreeSet::new();
            for _ in 1..count {
                for pair in columns.chunks_exact(2) {
                    let (a, b) = (pair[0].image[0] as usize, pair[1].image[0] as usize);
                    assert!(met.insert((a.min(b), a.max(b))), "{a} {b} of {count}");
                }
                next_round(&mut columns);
            }
            assert_eq!(met.len(), count * (count - 1) / 2);
        }
    }

    fn check(matrix: &Columns) -> Svd {
        let svd = svd(matrix);
        let k = matrix.rows.min(matrix.count());
        assert_eq!(
            (svd.left.count(), svd.values.len(), svd.right.count()),
            (k, k, k)
        );
        assert!(svd.values.is_sorted_by(|a, b| a >= b));
        for side in [&svd.left, &svd.right] {
            for (i, x) in side
                .iter()
                .enumerate()
                .filter(|&(i, _)| svd.values[i] > 0.0)
            {
                for (j, y) in side
                    .iter()
                    .enumerate()
                    .filter(|&(j, _)| svd.values[j] > 0.0)
                {
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((dot(x, y) - expected).abs() < 1e-12, "{i} {j}");
                }
            }
        }
        let mut rest = matrix.clone();
        for (i, &value) in svd.values.iter().enumerate() {
            let columns = rest.values.chunks_exact_mut(matrix.rows);
            for (column, right) in columns.zip(svd.right.column(i)) {
                super::super::columns::add(column, -value * right, svd.left.column(i));
            }
        }
        assert!(rest.norm() <= 1e-13 * matrix.norm());
        svd
    }

    #[test]
    fn matrices_of_every_shape_are_taken_apart() {
        for (rows, count) in [(1, 1), (2, 2), (5, 3), (3, 5), (17, 17), (64, 40)] {
            let values = SplitMix::of(3, 9).uniform(rows * count, 1.0);
            check(&Columns::of_rows(&values, rows));
        }
        assert_eq!(check(&Columns::zeros(4, 3)).values, [0.0; 3]);
        assert_eq!(check(&Columns::identity(5, 4)).values, [1.0; 4]);
    }

    #[test]
    fn small_values_are_as_exact_as_large_ones() {
        // Columns of a rotation, each at a scale of its own.
        let angle = 0.3f64;
        let scales = [1.0, 1e-30];
        let columns = [[angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]];
        let values = columns.iter().zip(scales);
        let values = values.flat_map(|(column, scale)| column.map(|v| v * scale));
        let svd = check(&Columns {
            rows: 2,
            values: values.collect(),
        });
        for (found, scale) in svd.values.iter().zip(scales) {
            assert!((found / scale - 1.0).abs() < 1e-14, "{found:e}");
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let values = SplitMix::of(3, 9).uniform(200 * 90, 1.0);
        let of = |threads| {
            let pool = crate::threads::Pool::new(threads).unwrap();
            pool.run(|| svd(&Columns::of_rows(&values, 200)))
        };
        let (one, three) = (of(1), of(3));
        assert_eq!(
            (one.left, one.values, one.right),
            (three.left, three.values, three.right)
        );
    }
}
