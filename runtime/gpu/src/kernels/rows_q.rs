//! Rows of a stored matrix, as an embedding needs them.

use super::File;
use super::mm_q::Weights;
use crate::recorder::{Call, Groups, shaped};
use crate::{Ids, Recorder, Result, Tensor};

impl Recorder {
    /// Writes row `ids[t]` of `w` to row `t` of `y` `[ids, inputs]`, for every `t` whose number is not
    /// [`crate::IGNORED`].
    ///
    /// # Errors
    /// As [`Recorder::linear`].
    pub fn rows_q<'a>(&mut self, y: &Tensor, ids: &Ids, w: impl Into<Weights<'a>>) -> Result<()> {
        let (op, w) = ("rows_q", w.into());
        shaped(op, "y", y, [ids.len(), w.inputs()])?;
        let at_once = self
            .rows_at_once(y.width())
            .min(crate::device::GROUPS as usize);
        for first in (0..ids.len()).step_by(at_once) {
            let tokens = first..ids.len().min(first + at_once);
            let (y, ids) = (y.slice(tokens.clone())?, ids.slice(tokens)?);
            for part in w.parts() {
                self.run(&Call {
                    op,
                    key: w.key(File::RowsQ, "forward", 0),
                    arrays: &[(1, (&y).into()), (2, (&ids).into()), (0, part.binding)],
                    written: 1,
                    words: &[
                        part.first as u32,
                        part.rows as u32,
                        w.inputs() as u32,
                        w.row_bytes() as u32,
                    ],
                    groups: Groups::Grid([ids.len(), 1, 1]),
                })?;
            }
        }
        Ok(())
    }
}
