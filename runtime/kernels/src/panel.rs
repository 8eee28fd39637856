//! Products with a panel: a matrix packed in the order in which a micro-kernel reads it.
//!
//! `c (+)= a b`, `a` `[m, k]` and `c` `[m, n]` with adjacent columns, `b` `[k, n]` packed by
//! [`Kernels::pack_panel`]: strips of [`Kernels::strip`] columns, each `[k, strip]`, the last one
//! filled up with zeros. A micro-kernel multiplies [`ROWS`] rows of `a`, each element spread over
//! a vector, with one strip; the sums stay in registers. A panel pays where `b` is made for the
//! occasion, as a decoded weight is: packing then replaces a copy, and the product's operands
//! lie in cache lines one after the other whatever the matrix's width.

use crate::product::{Mat, MatMut};
use crate::{Isa, Kernels};

/// Rows of `a` that one micro-kernel works on.
pub(crate) const ROWS: usize = 6;
/// Most depth of a narrow and of a wide strip's piece that is multiplied before the next, 64 and 32 KiB. Beginning and
/// ending a tile of a narrow one costs more than a strip that does not stay in the first-level cache.
const DEPTH: [usize; 2] = [1024, 128];
/// Most rows of `a` that go by before the next piece of depth: what is multiplied of them, and their piece of `c`,
/// stay in the second-level cache, of which a processor's other threads may take half. Blocks are about even: a
/// strip is not fetched for a row or two that are left over.
const BLOCK: [usize; 2] = [8 * ROWS, 16 * ROWS];

/// Columns of a strip without vectors, with AVX2, two vectors, and with NEON, four.
pub(crate) const NARROW: usize = 16;
/// Columns of a strip with AVX-512: four vectors.
pub(crate) const WIDE: usize = 64;

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before<'a> {
    /// Nothing: it is written.
    Nothing,
    /// What is there.
    Result,
    /// A row that stands for every row, with an element for each column.
    Row(&'a [f32]),
}

impl<'a> Before<'a> {
    /// What the product from depth `from` on is added to in a layer with a bias, which may be empty.
    pub(crate) fn first(from: usize, bias: &'a [f32]) -> Self {
        match from {
            0 if bias.is_empty() => Self::Nothing,
            0 => Self::Row(bias),
            _ => Self::Result,
        }
    }
}

/// Multiplies rows with one strip.
type ProductStrip = fn(&Kernels, MatMut<'_>, bool, Mat<'_>, &[f32]);

impl Kernels {
    /// Columns of one strip.
    pub fn strip(&self) -> usize {
        match self.isa {
            Isa::Avx512 => WIDE,
            _ => NARROW,
        }
    }

    /// Floats of a panel of a `[k, n]` matrix.
    pub fn panel_len(&self, k: usize, n: usize) -> usize {
        k * n.next_multiple_of(self.strip())
    }

    /// Packs `b` `[k, n]`, or with a transposed view the rows of a `[n, k]` matrix.
    ///
    /// # Panics
    /// If `panel` is not [`Kernels::panel_len`] long, or `b` has neither rows nor columns whose
    /// elements are adjacent.
    pub fn pack_panel(&self, panel: &mut [f32], b: Mat<'_>) {
        let (k, n, strip) = (b.rows(), b.cols(), self.strip());
        assert_eq!(panel.len(), self.panel_len(k, n), "a panel of {k} x {n}");
        if k == 0 {
            return;
        }
        for (first, out) in (0..n).step_by(strip).zip(panel.chunks_exact_mut(k * strip)) {
            let b = b.col_range(first, strip.min(n - first));
            if b.has_adjacent_cols() {
                for (i, out) in out.chunks_exact_mut(strip).enumerate() {
                    copy_padded(out, b.row(i));
                }
            } else {
                self.transpose(out, strip, b.t());
            }
        }
    }

    /// Writes row `i` of a `[k, n]` matrix into its panel.
    ///
    /// # Panics
    /// If `panel` is not [`Kernels::panel_len`] long, or there is no such row.
    pub(crate) fn pack_row(&self, panel: &mut [f32], k: usize, i: usize, row: &[f32]) {
        let strip = self.strip();
        assert_eq!(panel.len(), self.panel_len(k, row.len()), "a panel");
        assert!(i < k, "row {i} of {k}");
        let strips = panel.chunks_exact_mut(k * strip);
        for (out, part) in strips.zip(row.chunks(strip)) {
            copy_padded(&mut out[i * strip..][..strip], part);
        }
    }

    /// `c = (accumulate ? c : 0) + a b`, where `panel` holds a matrix of at least as many rows as `a` has
    /// columns, and `b` is the first of these rows. Whole strips from its start are a panel of its
    /// first columns.
    ///
    /// # Panics
    /// If the sizes do not fit, or the columns of `a` or `c` are not adjacent.
    pub fn product_panel(&self, c: MatMut<'_>, accumulate: bool, a: Mat<'_>, panel: &[f32]) {
        let before = match accumulate {
            true => Before::Result,
            false => Before::Nothing,
        };
        self.product_panel_onto(c, before, a, panel);
    }

    /// [`Kernels::product_panel`] added to something.
    ///
    /// # Panics
    /// As there, or if a row has another length than those of `c`.
    pub(crate) fn product_panel_onto(
        &self,
        c: MatMut<'_>,
        before: Before<'_>,
        a: Mat<'_>,
        panel: &[f32],
    ) {
        self.product_strips(c, before, a, panel, Self::product_strip);
    }

    /// The same for `a` and a panel of cells of two BF16 numbers each: see [`crate::halves`].
    ///
    /// # Panics
    /// As there.
    pub(crate) fn product_halves(
        &self,
        c: MatMut<'_>,
        before: Before<'_>,
        a: Mat<'_>,
        panel: &[f32],
    ) {
        self.product_strips(c, before, a, panel, Self::product_strip_halves);
    }

    fn product_strips(
        &self,
        mut c: MatMut<'_>,
        before: Before<'_>,
        a: Mat<'_>,
        panel: &[f32],
        product_strip: ProductStrip,
    ) {
        let (m, n, k) = (c.rows(), c.cols(), a.cols());
        assert_eq!(a.rows(), m, "rows of a and c");
        if n == 0 {
            assert!(panel.is_empty(), "a panel of no columns");
            return;
        }
        let strip = self.strip();
        let height = panel.len() / n.next_multiple_of(strip);
        assert_eq!(panel.len(), self.panel_len(height, n), "a panel of {n}");
        assert!(k <= height, "{k} rows of a panel of {height} x {n}");
        if let Before::Row(row) = before {
            assert_eq!(row.len(), n, "an element for each column");
        }
        if k == 0 {
            match before {
                Before::Nothing => c.fill(0.0),
                Before::Result => {}
                Before::Row(row) => (0..m).for_each(|i| c.row_mut(i).copy_from_slice(row)),
            }
            return;
        }
        let wide = usize::from(strip == WIDE);
        let deep = k.div_ceil(k.div_ceil(DEPTH[wide]));
        let block = m.div_ceil(m.div_ceil(BLOCK[wide])).next_multiple_of(ROWS);
        for row in (0..m).step_by(block) {
            let rows = block.min(m - row);
            for depth in (0..k).step_by(deep) {
                let depths = deep.min(k - depth);
                let a = a.row_range(row, rows).col_range(depth, depths);
                for (col, b) in (0..n)
                    .step_by(strip)
                    .zip(panel.chunks_exact(height * strip))
                {
                    let cols = strip.min(n - col);
                    let b = &b[depth * strip..][..depths * strip];
                    let mut c = c.row_range(row, rows);
                    let mut c = c.col_range(col, cols);
                    if let (Before::Row(row), 0) = (before, depth) {
                        // They are still in the first-level cache when the sums are added.
                        (0..rows).for_each(|i| copy_padded(c.row_mut(i), &row[col..][..cols]));
                    }
                    let accumulate = depth > 0 || !matches!(before, Before::Nothing);
                    product_strip(self, c, accumulate, a, b);
                }
            }
        }
    }

    /// `c (+)= a b` for one strip: `c` has at most as many columns.
    #[allow(unsafe_code)] // calls code compiled for an instruction set
    fn product_strip(&self, c: MatMut<'_>, accumulate: bool, a: Mat<'_>, b: &[f32]) {
        match self.isa {
            // SAFETY: a table of this instruction set leaves the crate only after the processor
            // was seen to have it (`Kernels::available`).
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { crate::avx512::panel::product_strip(c, accumulate, a, b) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { crate::avx2::panel::product_strip(c, accumulate, a, b) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Isa::Neon => unsafe { crate::neon::panel::product_strip(c, accumulate, a, b) },
            _ => product_strip(c, accumulate, a, b),
        }
    }

    /// Writes `x` rounded to BF16 as cells to `out`, and what that leaves of it, rounded as well, to `rest`.
    #[allow(unsafe_code)] // calls code compiled for an instruction set
    pub(crate) fn split_in_halves(&self, out: &mut [f32], rest: &mut [f32], x: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        if self.halves {
            // SAFETY: a table with halves leaves the crate only after the processor was seen to have them
            // (`Kernels::available`).
            return unsafe { crate::avx512::halves::split(out, rest, x) };
        }
        crate::halves::split(out, rest, x);
    }

    /// `c (+)= a b` for one strip of cells.
    #[allow(unsafe_code)] // calls code compiled for an instruction set
    pub(crate) fn product_strip_halves(
        &self,
        c: MatMut<'_>,
        accumulate: bool,
        a: Mat<'_>,
        b: &[f32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if self.halves {
            // SAFETY: as in `split_in_halves`.
            return unsafe { crate::avx512::halves::product_strip(c, accumulate, a, b) };
        }
        crate::halves::product_strip(c, accumulate, a, b, self.strip());
    }

    /// Brings what lies `ahead` of `bytes`, behind their end perhaps, closer. Only a hint.
    #[allow(unsafe_code)] // calls code compiled for an instruction set
    pub(crate) fn ask_for(&self, bytes: &[u8], ahead: usize) {
        match self.isa {
            // SAFETY: as in `transpose`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => unsafe {
                crate::avx2::prefetch::ask_for_bytes(bytes, ahead);
            },
            _ => _ = (bytes, ahead),
        }
    }

    /// Writes the transpose of `b` `[n, k]`, rows of adjacent elements, to `out` `[k, strip]`,
    /// and zeros behind its `n` columns.
    #[allow(unsafe_code)] // calls code compiled for an instruction set
    fn transpose(&self, out: &mut [f32], strip: usize, b: Mat<'_>) {
        match self.isa {
            // SAFETY: as in `product_strip`; every processor with AVX-512 has AVX2.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => unsafe { crate::avx2::panel::transpose(out, strip, b) },
            // SAFETY: as in `product_strip`.
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Isa::Neon => unsafe { crate::neon::panel::transpose(out, strip, b) },
            _ => transpose(out, strip, b, 0, 0),
        }
    }
}

/// The rows of each micro-kernel: [`ROWS`], and two about even tiles at the end, since sums of a row or two would
/// have to wait for each other.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn tiles(rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let left = rows - next;
        let tile = match left {
            0 => return None,
            _ if left > ROWS && left < 2 * ROWS => left.div_ceil(2),
            _ => ROWS.min(left),
        };
        next += tile;
        Some(next - tile..next)
    })
}

/// Copies a row of at most a strip, and zeros behind it. Whole strips are copied in registers.
#[inline(always)]
fn copy_padded(out: &mut [f32], row: &[f32]) {
    if row.len() == out.len() && out.len().is_multiple_of(NARROW) {
        let outs = out.as_chunks_mut::<NARROW>().0;
        for (out, row) in outs.iter_mut().zip(row.as_chunks().0) {
            *out = *row;
        }
    } else {
        let (place, padding) = out.split_at_mut(row.len());
        place.copy_from_slice(row);
        padding.fill(0.0);
    }
}

/// The meaning of the micro-kernels.
fn product_strip(mut c: MatMut<'_>, accumulate: bool, a: Mat<'_>, b: &[f32]) {
    for i in 0..c.rows() {
        let mut sums = [0.0; NARROW];
        for (&a, b) in a.row(i).iter().zip(b.as_chunks::<NARROW>().0) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
        store_cols(c.row_mut(i), accumulate, &sums);
    }
}

/// Writes or adds as many of the sums as there are columns.
#[inline(always)]
pub(crate) fn store_cols(c: &mut [f32], accumulate: bool, sums: &[f32]) {
    for (c, sum) in c.iter_mut().zip(sums) {
        *c = if accumulate { *c + sum } else { *sum };
    }
}

/// Transposes what is right of column `from_k` or below row `from_n` of `b` `[n, k]`.
pub(crate) fn transpose(out: &mut [f32], strip: usize, b: Mat<'_>, from_n: usize, from_k: usize) {
    for n in 0..strip {
        let from = if n < from_n { from_k } else { 0 };
        if n >= b.rows() {
            out.iter_mut()
                .skip(n)
                .step_by(strip)
                .for_each(|out| *out = 0.0);
        } else {
            let places = out.iter_mut().skip(from * strip + n).step_by(strip);
            places.zip(&b.row(n)[from..]).for_each(|(out, &b)| *out = b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::product;
    use crate::vector::tests::{assert_close, random};

    /// Tails in every direction, both packings, writing, adding, and adding to a row.
    #[test]
    fn a_panel_gives_the_product() {
        for (m, k, n) in [
            (1, 1, 1),
            (6, 256, 64),
            (7, 257, 65),
            (100, 300, 50),
            (13, 9, 200),
        ] {
            let (a, b) = (random(1, m * k), random(2, k * n));
            let a_view = Mat::new(&a, m, k);
            let wide = |x: &[f32]| x.iter().map(|&x| x as f64).collect::<Vec<_>>();
            for transposed in [false, true] {
                let b_view = if transposed {
                    Mat::new(&b, n, k).t()
                } else {
                    Mat::new(&b, k, n)
                };
                for accumulate in [false, true] {
                    let mut want = vec![1.0; m * n];
                    product(
                        MatMut::new(&mut want, m, n),
                        accumulate,
                        1.0,
                        a_view,
                        b_view,
                    );
                    for kernels in Kernels::available() {
                        let mut panel = vec![f32::NAN; kernels.panel_len(k, n)];
                        kernels.pack_panel(&mut panel, b_view);
                        let mut got = vec![1.0; m * n];
                        let c = MatMut::new(&mut got, m, n);
                        kernels.product_panel(c, accumulate, a_view, &panel);
                        assert_close(&got, &wide(&want), 2e-6);
                    }
                }
                let row = random(3, n);
                let mut want: Vec<f32> = (0..m).flat_map(|_| row.iter().copied()).collect();
                product(MatMut::new(&mut want, m, n), true, 1.0, a_view, b_view);
                for kernels in Kernels::available() {
                    let mut panel = vec![f32::NAN; kernels.panel_len(k, n)];
                    kernels.pack_panel(&mut panel, b_view);
                    let mut got = vec![f32::NAN; m * n];
                    let c = MatMut::new(&mut got, m, n);
                    kernels.product_panel_onto(c, Before::Row(&row), a_view, &panel);
                    assert_close(&got, &wide(&want), 2e-6);
                }
            }
        }
    }

    /// The first rows, and the first strips, of a panel are a panel of less.
    #[test]
    fn a_part_of_a_panel_is_multiplied() {
        let (m, k, n, less, fewer) = (8, 20, 150, 13, 128);
        let (a, b) = (random(1, m * k), random(2, k * n));
        for kernels in Kernels::available() {
            let mut panel = vec![f32::NAN; kernels.panel_len(k, n)];
            kernels.pack_panel(&mut panel, Mat::new(&b, k, n));
            let a = Mat::new(&a, m, k);
            for (rows, cols) in [(less, n), (k, fewer), (0, n), (less, fewer), (less, 0)] {
                let a = a.col_range(0, rows);
                let part = Mat::new(&b, k, n).row_range(0, rows).col_range(0, cols);
                let mut want = vec![1.0; m * cols];
                product(MatMut::new(&mut want, m, cols), false, 1.0, a, part);
                let want: Vec<f64> = want.iter().map(|&x| x.into()).collect();
                let mut got = vec![1.0; m * cols];
                let strips = &panel[..kernels.panel_len(k, cols)];
                kernels.product_panel(MatMut::new(&mut got, m, cols), false, a, strips);
                assert_close(&got, &want, 2e-6);
            }
        }
    }
}
