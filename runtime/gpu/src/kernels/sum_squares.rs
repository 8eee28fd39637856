//! The sum of an array's squares, which tells a gradient's norm and whether all of it is finite.

use super::File;
use crate::recorder::{Call, Groups, same};
use crate::shader::Key;
use crate::{GpuError, Recorder, Result, Tensor};

/// Elements of a group.
const RUN: usize = 4096;

impl Recorder {
    /// Floats of scratch that [`Recorder::sum_squares`] needs for an array of `len` floats.
    pub fn sum_squares_scratch(len: usize) -> usize {
        len.div_ceil(RUN)
    }

    /// Writes the sum of the squares of `x` to the one float `sum`. It is not finite if an element of
    /// `x` is not, or is greater than 1e19. `scratch` has room for
    /// [`Recorder::sum_squares_scratch`].
    ///
    /// # Errors
    /// If lengths do not fit, arrays overlap, or the device refuses.
    pub fn sum_squares(&mut self, sum: &Tensor, x: &Tensor, scratch: &Tensor) -> Result<()> {
        let op = "sum_squares";
        same(op, "sums", sum.len(), 1)?;
        if x.is_empty() {
            return self.fill(sum, 0.0);
        }
        let runs = Self::sum_squares_scratch(x.len());
        let scratch = super::scratch(op, scratch, runs)?;
        let at_once = (self.rows_at_once(1) / RUN).max(1);
        let column = x.reshape(x.len(), 1)?;
        for first in (0..runs).step_by(at_once) {
            let last = runs.min(first + at_once);
            let x = column.slice(first * RUN..x.len().min(last * RUN))?;
            let partial = scratch.slice(first..last)?;
            self.run(&Call {
                op,
                key: Key::of(File::SumSquares, "partial"),
                arrays: &[(1, (&partial).into()), (0, (&x).into())],
                written: 1,
                words: &[x.len() as u32],
                groups: Groups::Line(last - first),
            })?;
        }
        if runs > u32::MAX as usize {
            let what = format!("{runs} partial sums");
            return Err(GpuError::Shape { op, what });
        }
        self.run(&Call {
            op,
            key: Key::of(File::SumSquares, "finish"),
            arrays: &[(2, sum.into()), (1, (&scratch).into())],
            written: 1,
            words: &[runs as u32],
            groups: Groups::Grid([1, 1, 1]),
        })
    }
}
