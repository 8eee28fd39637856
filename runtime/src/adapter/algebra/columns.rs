//! Matrices in f64 whose columns lie one after the other.

/// A matrix `[rows, count]`, column after column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Columns {
    pub rows: usize,
    pub values: Vec<f64>,
}

impl Columns {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, count: usize) -> Self {
        let values = vec![0.0; rows * count];
        Self { rows, values }
    }

    /// Ones on the diagonal, zeros elsewhere.
    pub fn identity(rows: usize, count: usize) -> Self {
        let mut out = Self::zeros(rows, count);
        (0..rows.min(count)).for_each(|i| out.values[i * rows + i] = 1.0);
        out
    }

    /// The rows of a row-major `[count, rows]` as columns: nothing moves.
    pub fn of_rows(values: &[f32], rows: usize) -> Self {
        let values = values.iter().map(|&v| f64::from(v)).collect();
        Self { rows, values }
    }

    /// The columns of a row-major `[rows, count]`.
    pub fn of_columns(values: &[f32], count: usize) -> Self {
        let rows = values.len() / count;
        let at = |i: usize| f64::from(values[i % rows * count + i / rows]);
        let values = (0..values.len()).map(at).collect();
        Self { rows, values }
    }

    /// Number of columns.
    pub fn count(&self) -> usize {
        self.values.len() / self.rows
    }

    /// Column `i`.
    pub fn column(&self, i: usize) -> &[f64] {
        &self.values[i * self.rows..][..self.rows]
    }

    /// The columns in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.rows)
    }

    /// The transpose.
    pub fn transposed(&self) -> Self {
        let count = self.count();
        let at = |i: usize| self.values[i % count * self.rows + i / count];
        Self {
            rows: count,
            values: (0..self.values.len()).map(at).collect(),
        }
    }

    /// Root of the sum of all squares.
    pub fn norm(&self) -> f64 {
        dot(&self.values, &self.values).sqrt()
    }
}

/// Sums kept apart, so that the compiler may add several at once.
const LANES: usize = 8;

/// Sum of the products, in an order that depends on the length alone.
pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        (0..LANES).for_each(|i| sums[i] += x[i] * y[i]);
    }
    let rest: f64 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// `y += factor · x`.
pub(super) fn add(y: &mut [f64], factor: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_are_told_apart() {
        let matrix = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let by_columns = Columns::of_columns(&matrix, 3);
        assert_eq!(by_columns.column(1), [2.0, 5.0]);
        let by_rows = Columns::of_rows(&matrix, 3);
        assert_eq!(by_rows.column(1), [4.0, 5.0, 6.0]);
        assert_eq!(by_rows.transposed(), by_columns);
        assert_eq!((by_columns.rows, by_columns.count()), (2, 3));
        assert_eq!(dot(&by_rows.values, &by_rows.values), 91.0);
    }
}
