//! Dense f32 products of strided matrices, on the calling thread.
//!
//! `c = (accumulate ? c : 0) + alpha * a b`, with `a` `[m, k]`, `b` `[k, n]`, `c` `[m, n]`.
//! The micro-kernels are those of the `gemm` crate (AVX-512, AVX2 with FMA, NEON or portable,
//! chosen when the program starts), run without threads: a product's bits depend on its
//! operands alone.
//!
//! A matrix is a view: rows and columns `row_stride` and `col_stride` elements apart, so a
//! transpose is a swap of two numbers and one head of `[tokens, heads * head_width]` is a range
//! of columns. [`MatMut::split_columns`] hands disjoint columns to different threads, which no
//! slice can express; that, and the call into `gemm`, is why this file may use `unsafe`.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use gemm::Parallelism;

/// A matrix to read: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Rows one after the other, without gaps.
    ///
    /// # Panics
    /// If `data` does not hold exactly `rows * cols` elements.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows} x {cols} matrix");
        Self::strided(data, rows, cols, cols.max(1), 1)
    }

    /// A view with any strides.
    ///
    /// # Panics
    /// If the last element lies beyond `data`.
    pub fn strided(
        data: &'a [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        let span = span(rows, cols, row_stride, col_stride);
        assert!(span <= data.len(), "{span} elements of {}", data.len());
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The transpose; nothing moves.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Rows `start..start + rows`.
    ///
    /// # Panics
    /// If there are not that many rows.
    pub fn row_range(self, start: usize, rows: usize) -> Self {
        assert!(start <= self.rows && rows <= self.rows - start, "row range");
        // An empty view may start past the end of its data.
        let at = (start * self.row_stride).min(self.data.len());
        let data = &self.data[at..];
        Self { data, rows, ..self }
    }

    /// Columns `start..start + cols`.
    ///
    /// # Panics
    /// If there are not that many columns.
    pub fn col_range(self, start: usize, cols: usize) -> Self {
        self.t().row_range(start, cols).t()
    }

    /// Whether the elements of a row follow each other.
    pub(crate) fn has_adjacent_cols(&self) -> bool {
        self.col_stride == 1
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If the columns are not adjacent, or there is no such row.
    pub fn row(&self, i: usize) -> &'a [f32] {
        assert!(self.col_stride == 1 && i < self.rows, "row {i}");
        &self.data[i * self.row_stride..][..self.cols]
    }
}

/// A matrix to write. Its elements are distinct, which is checked when it is made.
#[derive(Debug)]
pub struct MatMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `MatMut` is an exclusive borrow of its elements, as `&mut [f32]` is, and no two live
// ones share an element: `strided` borrows its slice, `reborrow` and the splits borrow or consume
// their source, and elements of one matrix are distinct.
unsafe impl Send for MatMut<'_> {}
// SAFETY: through `&MatMut` only sizes and, as `Mat`, elements can be read.
unsafe impl Sync for MatMut<'_> {}

impl<'a> MatMut<'a> {
    /// Rows one after the other, without gaps.
    ///
    /// # Panics
    /// If `data` does not hold exactly `rows * cols` elements.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows} x {cols} matrix");
        Self::strided(data, rows, cols, cols.max(1), 1)
    }

    /// A view with any strides that give every element its own place.
    ///
    /// # Panics
    /// If the last element lies beyond `data`, or two elements would share a place.
    pub fn strided(
        data: &'a mut [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        let span_needed = span(rows, cols, row_stride, col_stride);
        assert!(span_needed <= data.len(), "{span_needed} of {}", data.len());
        let rows_clear = rows < 2 || row_stride >= span(1, cols, row_stride, col_stride);
        let cols_clear = cols < 2 || col_stride >= span(rows, 1, row_stride, col_stride);
        let within = (cols < 2 || col_stride > 0) && (rows < 2 || row_stride > 0);
        assert!(
            span_needed == 0 || within && (rows_clear || cols_clear),
            "elements overlap"
        );
        Self {
            data: data.as_mut_ptr(),
            rows,
            cols,
            row_stride,
            col_stride,
            lifetime: PhantomData,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> MatMut<'_> {
        MatMut { ..*self }
    }

    /// The transpose; nothing moves.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The first `rows` rows, and the others.
    ///
    /// # Panics
    /// If there are not that many rows.
    pub fn split_rows(self, rows: usize) -> (Self, Self) {
        let below = self.rows.checked_sub(rows).expect("that many rows");
        let step = if below == 0 {
            0
        } else {
            rows * self.row_stride
        };
        // Elements are distinct, so rows above and below the cut share none. `step` stays within
        // the elements because row `rows` exists wherever it is not zero.
        let data = self.data.wrapping_add(step);
        let rest = Self {
            data,
            rows: below,
            ..self
        };
        (Self { rows, ..self }, rest)
    }

    /// The first `cols` columns, and the others: two views that different threads may write.
    ///
    /// # Panics
    /// If there are not that many columns.
    pub fn split_columns(self, cols: usize) -> (Self, Self) {
        let (left, right) = self.t().split_rows(cols);
        (left.t(), right.t())
    }

    /// Rows `start..start + rows`, for a shorter time.
    ///
    /// # Panics
    /// If there are not that many rows.
    pub fn row_range(&mut self, start: usize, rows: usize) -> MatMut<'_> {
        self.reborrow().split_rows(start).1.split_rows(rows).0
    }

    /// Columns `start..start + cols`, for a shorter time.
    ///
    /// # Panics
    /// If there are not that many columns.
    pub fn col_range(&mut self, start: usize, cols: usize) -> MatMut<'_> {
        self.reborrow()
            .t()
            .split_rows(start)
            .1
            .split_rows(cols)
            .0
            .t()
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If the columns are not adjacent, or there is no such row.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        assert!(self.col_stride == 1 && i < self.rows, "row {i}");
        // SAFETY: row `i` is `cols` adjacent elements of this view (`strided` checked the last
        // one), and this view is borrowed exclusively while the row lives.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(i * self.row_stride), self.cols) }
    }

    /// Sets every element.
    pub fn fill(&mut self, value: f32) {
        for i in 0..self.rows {
            for j in 0..self.cols {
                // SAFETY: element (i, j) is inside the view and the view is exclusive.
                unsafe { *self.data.add(i * self.row_stride + j * self.col_stride) = value };
            }
        }
    }
}

/// `c = (accumulate ? c : 0) + alpha * a b`.
///
/// # Panics
/// If the sizes do not fit: `a` `[m, k]`, `b` `[k, n]`, `c` `[m, n]`.
pub fn product(mut c: MatMut<'_>, accumulate: bool, alpha: f32, a: Mat<'_>, b: Mat<'_>) {
    assert_eq!((c.rows, c.cols), (a.rows, b.cols), "the product's size");
    assert_eq!(a.cols, b.rows, "the inner size");
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    if a.cols == 0 {
        if !accumulate {
            c.fill(0.0);
        }
        return;
    }
    // SAFETY: every element of the three views is inside the memory it borrows, checked when the
    // views were made; `c` is exclusive and its elements are distinct; strides are below
    // `isize::MAX` because the spans are lengths of slices.
    unsafe {
        gemm::gemm(
            c.rows,
            c.cols,
            a.cols,
            c.data,
            c.col_stride as isize,
            c.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Elements from the first to the last of a view, both included.
fn span(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 {
        return 0;
    }
    (rows - 1)
        .checked_mul(row_stride)
        .zip((cols - 1).checked_mul(col_stride))
        .and_then(|(r, c)| r.checked_add(c)?.checked_add(1))
        .expect("a view is smaller than the address space")
}
