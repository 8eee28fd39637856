//! The bias of a linear layer.

use super::File;
use super::elementwise::THREADS;
use crate::recorder::{Call, Groups, same};
use crate::shader::Key;
use crate::{Recorder, Result, Tensor};

impl Recorder {
    /// `y[t] += bias` for every row; `bias` is as long as a row.
    ///
    /// # Errors
    /// If it is not, arrays overlap, or the device refuses.
    pub fn bias(&mut self, y: &Tensor, bias: &Tensor) -> Result<()> {
        same("bias", "floats", bias.len(), y.width())?;
        let at_once = self.rows_at_once(y.width());
        for first in (0..y.rows()).step_by(at_once) {
            let y = y.slice(first..y.rows().min(first + at_once))?;
            let groups = Groups::Line(y.len().div_ceil(THREADS));
            let arrays = [(0, (&y).into()), (1, bias.into())];
            self.run(&Call {
                op: "bias",
                key: Key::of(File::Bias, "forward"),
                arrays: &arrays,
                written: 1,
                words: &[y.rows() as u32, y.width() as u32],
                groups,
            })?;
        }
        Ok(())
    }

    /// `dbias += sum over rows of dy`.
    ///
    /// # Errors
    /// As [`Recorder::bias`].
    pub fn bias_backward(&mut self, dbias: &Tensor, dy: &Tensor) -> Result<()> {
        same("bias_backward", "floats", dbias.len(), dy.width())?;
        let at_once = self.rows_at_once(dy.width());
        for first in (0..dy.rows()).step_by(at_once) {
            let dy = dy.slice(first..dy.rows().min(first + at_once))?;
            self.run(&Call {
                op: "bias_backward",
                key: Key::of(File::Bias, "backward"),
                arrays: &[(1, dbias.into()), (0, (&dy).into())],
                written: 1,
                words: &[dy.rows() as u32, dy.width() as u32],
                groups: Groups::Grid([dy.width().div_ceil(THREADS), 1, 1]),
            })?;
        }
        Ok(())
    }
}
