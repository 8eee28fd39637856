//! Products with a stored matrix, and their gradients.

use graft_kernels::QuantType;

use super::File;
use crate::arithmetic::{Arithmetic, Product, Rounding};
use crate::device::SCALED_TOKENS;
use crate::matrix_units::{Side, Units};
use crate::recorder::{Binding, Call, Groups, same, shaped};
use crate::shader::Key;
use crate::{Matrix, Recorder, Result, Tensor};

/// Rows, or inputs, of a group.
const TILE: usize = 64;
/// Tokens of a group: so many, or twice, four or eight times as many.
const LINE: usize = 16;
/// More than twice as many groups as most devices have of what runs them.
const MANY_GROUPS: usize = 64;

/// What a product reads: a stored matrix, or floats that are trained.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// A matrix that no kernel writes.
    Stored(&'a Matrix),
    /// Floats `[rows, inputs]`.
    Floats(&'a Tensor),
}

impl<'a> From<&'a Matrix> for Weights<'a> {
    fn from(matrix: &'a Matrix) -> Self {
        Self::Stored(matrix)
    }
}

impl<'a> From<&'a Tensor> for Weights<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Floats(tensor)
    }
}

/// Rows that a kernel sees at once, from number `first` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) binding: Binding<'a>,
}

impl<'a> Weights<'a> {
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Stored(matrix) => matrix.rows(),
            Self::Floats(tensor) => tensor.rows(),
        }
    }

    pub(super) fn inputs(self) -> usize {
        match self {
            Self::Stored(matrix) => matrix.inputs(),
            Self::Floats(tensor) => tensor.width(),
        }
    }

    pub(super) fn row_bytes(self) -> usize {
        match self {
            Self::Stored(matrix) => matrix.row_bytes,
            Self::Floats(tensor) => 4 * tensor.width(),
        }
    }

    pub(super) fn ty(self) -> QuantType {
        match self {
            Self::Stored(matrix) => matrix.ty(),
            Self::Floats(_) => QuantType::F32,
        }
    }

    pub(super) fn parts(self) -> Vec<Part<'a>> {
        match self {
            Self::Stored(matrix) => {
                let parts = matrix.pieces.iter().map(|piece| Part {
                    first: piece.rows.start,
                    rows: piece.rows.len(),
                    binding: Binding::piece(piece, matrix.row_bytes),
                });
                parts.collect()
            }
            Self::Floats(tensor) => vec![Part {
                first: 0,
                rows: tensor.rows(),
                binding: tensor.into(),
            }],
        }
    }

    /// The pipeline that reads them.
    pub(super) fn key(self, file: File, entry: &'static str, constant: u32) -> Key {
        Key {
            file,
            entry,
            ty: Some(self.ty()),
            writable: matches!(self, Self::Floats(_)),
            constant,
        }
    }
}

impl Recorder {
    /// A linear layer without bias, `y = x W^T`, by whichever kernel is made for so many tokens: see
    /// [`Recorder::mv_q`] and [`Recorder::mm_q`]. [`Recorder::round`] says how exact it is.
    ///
    /// # Errors
    /// If shapes do not fit each other, an array overlaps `y`, or the device refuses.
    pub fn linear<'a>(&mut self, y: &Tensor, x: &Tensor, w: impl Into<Weights<'a>>) -> Result<()> {
        match x.rows() {
            0..=Self::THIN_TOKENS => self.mv_q(y, x, w),
            _ => self.mm_q(y, x, w),
        }
    }

    /// Writes `y = x W^T`: `y` is `[tokens, rows]`, `x` is `[tokens, inputs]`, `w` is `[rows, inputs]`.
    ///
    /// # Errors
    /// As [`Recorder::linear`].
    pub fn mm_q<'a>(&mut self, y: &Tensor, x: &Tensor, w: impl Into<Weights<'a>>) -> Result<()> {
        self.product("mm_q", Product::Forward, y, x, w.into())
    }

    /// Adds `dx += dy W`: `dx` is `[tokens, inputs]`, `dy` is `[tokens, rows]`. This is all a frozen
    /// layer needs.
    ///
    /// # Errors
    /// As [`Recorder::linear`], of `dx`.
    pub fn mm_q_backward<'a>(
        &mut self,
        dx: &Tensor,
        dy: &Tensor,
        w: impl Into<Weights<'a>>,
    ) -> Result<()> {
        self.product("mm_q_backward", Product::Backward, dy, dx, w.into())
    }

    fn product(
        &mut self,
        op: &'static str,
        product: Product,
        y: &Tensor,
        x: &Tensor,
        w: Weights<'_>,
    ) -> Result<()> {
        shaped(op, "the side of outputs", y, [x.rows(), w.rows()])?;
        same(op, "inputs", x.width(), w.inputs())?;
        let arithmetic = self.arithmetic(product, w.ty());
        let at_once = self.rows_at_once(y.width().max(x.width()));
        let at_once = match arithmetic.rounding() {
            Rounding::Halves => at_once.min(SCALED_TOKENS),
            _ => at_once,
        };
        for first in (0..x.rows()).step_by(at_once) {
            let tokens = first..x.rows().min(first + at_once);
            let sides = [&y.slice(tokens.clone())?, &x.slice(tokens)?];
            match arithmetic {
                Arithmetic::F32 => self.tiles(op, product, sides, w, File::MmQ)?,
                Arithmetic::Dot4 => self.tiles(op, product, sides, w, File::MmDot4)?,
                Arithmetic::Half | Arithmetic::Matrix => {
                    self.halves(op, product, sides, w, arithmetic)?;
                }
            }
        }
        Ok(())
    }

    /// By kernels whose groups are of some lines of tokens.
    fn tiles(
        &mut self,
        op: &'static str,
        product: Product,
        [y, x]: [&Tensor; 2],
        w: Weights<'_>,
        file: File,
    ) -> Result<()> {
        for part in w.parts() {
            let (written, read, wide) = sides(product, [y, x], &part, w);
            let (lines, tile) = tile(file, x.rows(), wide);
            self.run(&Call {
                op,
                key: w.key(file, product.name(), lines as u32),
                arrays: &[written, read, (0, part.binding)],
                written: 1,
                words: &words([y, x], &part, w),
                groups: Groups::Grid([wide.div_ceil(tile), x.rows().div_ceil(lines * LINE), 1]),
            })?;
        }
        Ok(())
    }

    /// By kernels whose terms are f16.
    fn halves(
        &mut self,
        op: &'static str,
        product: Product,
        [y, x]: [&Tensor; 2],
        w: Weights<'_>,
        arithmetic: Arithmetic,
    ) -> Result<()> {
        let inner = self.device().0.clone();
        let Some(scales) = inner.scales.get() else {
            return self.tiles(op, product, [y, x], w, File::MmQ);
        };
        let scales = Binding::own(&scales.buffer, 4 * x.rows() as u64);
        let terms = if product == Product::Backward { y } else { x };
        self.run(&Call {
            op,
            key: Key::of(File::RowScale, "forward"),
            arrays: &[(0, scales), (1, terms.into())],
            written: 1,
            words: &[terms.rows() as u32, terms.width() as u32],
            groups: Groups::Line(terms.rows()),
        })?;
        let (file, constant) = match (arithmetic, &inner.units) {
            (Arithmetic::Matrix, Some(Units { side, lanes })) => {
                let file = match side {
                    Side::Eight => File::MmMatrix8,
                    Side::Sixteen => File::MmMatrix16,
                };
                (file, lanes.start() << 16 | lanes.end())
            }
            _ => (File::MmHalf, 0),
        };
        for part in w.parts() {
            let (written, read, wide) = sides(product, [y, x], &part, w);
            self.run(&Call {
                op,
                key: w.key(file, product.name(), constant),
                arrays: &[written, read, (0, part.binding), (3, scales)],
                written: 1,
                words: &words([y, x], &part, w),
                groups: Groups::Grid([wide.div_ceil(TILE), x.rows().div_ceil(TILE), 1]),
            })?;
        }
        Ok(())
    }
}

/// Lines of tokens in a group, and its rows or inputs, of which a product makes so many. Where there may be eight lines,
/// an output costs less than with four, unless too much is made for nothing.
fn tile(file: File, tokens: usize, wide: usize) -> (usize, usize) {
    let lines = tokens.div_ceil(LINE);
    // What an output costs with eight lines, and with four.
    let (eight, four, tile) = match file {
        File::MmDot4 => (4, 5, 2 * TILE),
        _ => (7, 8, TILE),
    };
    let is_less = eight * lines.next_multiple_of(8) <= four * lines.next_multiple_of(4);
    // Groups twice as wide as others leave more of a device idle when the last are at work.
    let are_many = tile == TILE || lines.div_ceil(8) * wide.div_ceil(tile) >= MANY_GROUPS;
    if lines > 4 && is_less && are_many {
        return (8, tile);
    }
    (lines.next_power_of_two().min(4), TILE)
}

/// An array and its number in a kernel's file.
type Numbered<'a> = (usize, Binding<'a>);

/// What a product writes and reads, and how wide what it writes is.
fn sides<'a>(
    product: Product,
    [y, x]: [&'a Tensor; 2],
    part: &Part<'_>,
    w: Weights<'_>,
) -> (Numbered<'a>, Numbered<'a>, usize) {
    let (y, x) = ((1, Binding::from(y)), (2, Binding::from(x)));
    match product {
        Product::Backward => (x, y, w.inputs()),
        Product::Forward | Product::Thin => (y, x, part.rows),
    }
}

/// What kernels of products are told after their arrays' offsets.
pub(super) fn words([y, x]: [&Tensor; 2], part: &Part<'_>, w: Weights<'_>) -> [u32; 6] {
    [
        x.rows() as u32,
        part.rows as u32,
        w.inputs() as u32,
        w.row_bytes() as u32,
        part.first as u32,
        y.width() as u32,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_as_large_as_makes_little_for_nothing() {
        let few = [(9, 1), (17, 2), (40, 4), (64, 4)];
        for (tokens, lines) in few {
            for file in [File::MmQ, File::MmDot4] {
                assert_eq!(tile(file, tokens, 1 << 20), (lines, 64), "{tokens}");
            }
        }
        assert_eq!(tile(File::MmQ, 70, 64), (8, 64));
        assert_eq!(tile(File::MmDot4, 70, 64), (4, 64), "two groups");
        assert_eq!(tile(File::MmDot4, 70, 8192), (8, 128));
        assert_eq!(tile(File::MmDot4, 1024, 1024), (8, 128));
        // 192 tokens do without the 64 that twice 128 are more.
        for (file, wide) in [(File::MmQ, 64), (File::MmDot4, 8192)] {
            assert_eq!(tile(file, 192, wide), (4, 64));
        }
    }
}
