//! Products of a stored matrix with a few tokens, as when text is generated.

use super::File;
use super::mm_q::{Weights, words};
use crate::arithmetic::{Arithmetic, Product};
use crate::recorder::{Call, Groups, same, shaped};
use crate::{Recorder, Result, Tensor};

/// Rows of a group in integers; in f32 as many for up to two tokens, then more.
const ROWS: usize = 16;

impl Recorder {
    /// The most tokens [`Recorder::mv_q`] takes.
    pub const THIN_TOKENS: usize = 8;

    /// Writes `y = x W^T` for up to [`Recorder::THIN_TOKENS`] tokens, reading each weight once. Shapes
    /// as of [`Recorder::mm_q`], whose sums are in another order.
    ///
    /// # Errors
    /// As [`Recorder::linear`]; if there are more tokens.
    pub fn mv_q<'a>(&mut self, y: &Tensor, x: &Tensor, w: impl Into<Weights<'a>>) -> Result<()> {
        let (op, w) = ("mv_q", w.into());
        shaped(op, "y", y, [x.rows(), w.rows()])?;
        same(op, "inputs", x.width(), w.inputs())?;
        let tokens = x.rows();
        same(op, "tokens", tokens, tokens.min(Self::THIN_TOKENS))?;
        let variant = tokens.next_power_of_two();
        let (file, rows) = match self.arithmetic(Product::Thin, w.ty()) {
            Arithmetic::Dot4 => (File::MvDot4, ROWS),
            _ => (File::MvQ, ROWS * variant.div_ceil(2)),
        };
        for part in w.parts() {
            self.run(&Call {
                op,
                key: w.key(file, "forward", variant as u32),
                arrays: &[(1, y.into()), (2, x.into()), (0, part.binding)],
                written: 1,
                words: &words([y, x], &part, w),
                groups: Groups::Line(part.rows.div_ceil(rows)),
            })?;
        }
        Ok(())
    }
}
