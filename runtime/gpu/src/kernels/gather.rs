//! Some rows of an array, and their gradients: the rows that carry labels, the features of an image.

use super::File;
use super::elementwise::THREADS;
use crate::recorder::{Binding, Call, Groups, same, shaped};
use crate::shader::Key;
use crate::{Ids, Recorder, Result, Tensor};

impl Recorder {
    /// Writes row `ids[r]` of `x` to row `r` of `y` `[ids, width]`, but for numbers that are no row.
    ///
    /// # Errors
    /// If shapes do not fit each other, arrays overlap, or the device refuses; `x` is no larger than a
    /// kernel can see.
    pub fn gather(&mut self, y: &Tensor, x: &Tensor, ids: &Ids) -> Result<()> {
        let arrays = [(0, y.into()), (1, x.into()), (2, ids.into())];
        self.move_rows("gather", "forward", y, x, ids, &arrays)
    }

    /// Adds row `r` of `dy` to row `ids[r]` of `dx`, but for numbers that are no row. No row may be
    /// named twice: of two sums one may be lost.
    ///
    /// # Errors
    /// As [`Recorder::gather`].
    pub fn gather_backward(&mut self, dx: &Tensor, dy: &Tensor, ids: &Ids) -> Result<()> {
        let arrays = [(1, dx.into()), (0, dy.into()), (2, ids.into())];
        self.move_rows("gather_backward", "backward", dy, dx, ids, &arrays)
    }

    fn move_rows(
        &mut self,
        op: &'static str,
        entry: &'static str,
        some: &Tensor,
        all: &Tensor,
        ids: &Ids,
        arrays: &[(usize, Binding<'_>)],
    ) -> Result<()> {
        shaped(op, "the gathered side", some, [ids.len(), some.width()])?;
        same(op, "floats of a row", all.width(), some.width())?;
        self.run(&Call {
            op,
            key: Key::of(File::Gather, entry),
            arrays,
            written: 1,
            words: &[ids.len() as u32, some.width() as u32, all.rows() as u32],
            groups: Groups::Line(some.len().div_ceil(THREADS)),
        })
    }
}
