//! Rotary position embedding.

use graft_kernels::ops::rope::RopeLayout;

use super::File;
use super::elementwise::THREADS;
use crate::recorder::{Call, Groups};
use crate::shader::Key;
use crate::{GpuError, Recorder, Result, Tensor};

/// Cosines and sines on a device: the floats of `graft_kernels::ops::rope::RopeTable`.
#[derive(Clone, Debug)]
pub struct RopeTurns {
    /// Which elements of a head form a pair.
    pub layout: RopeLayout,
    /// `[positions, dims]`: cosine and sine of each pair of the `dims` elements of a head that turn.
    pub turns: Tensor,
}

impl Recorder {
    /// Turns `x` `[tokens, heads * head_width]` in place; token `t` sits at position `start + t`.
    ///
    /// # Errors
    /// If rows are no whole heads, the table turns more than a head or has not as many positions,
    /// arrays overlap, or the device refuses.
    pub fn rope(
        &mut self,
        x: &Tensor,
        head_width: usize,
        start: usize,
        table: &RopeTurns,
    ) -> Result<()> {
        self.turn("rope", x, head_width, start, table, 1.0)
    }

    /// Turns `dx` back, in place: a rotation's derivative is the rotation by the opposite angle.
    ///
    /// # Errors
    /// As [`Recorder::rope`].
    pub fn rope_backward(
        &mut self,
        dx: &Tensor,
        head_width: usize,
        start: usize,
        table: &RopeTurns,
    ) -> Result<()> {
        self.turn("rope_backward", dx, head_width, start, table, -1.0)
    }

    fn turn(
        &mut self,
        op: &'static str,
        x: &Tensor,
        head_width: usize,
        start: usize,
        table: &RopeTurns,
        direction: f32,
    ) -> Result<()> {
        let (turns, dims) = (&table.turns, table.turns.width());
        let shape = |what: String| GpuError::Shape { op, what };
        if head_width == 0 || !x.width().is_multiple_of(head_width) {
            return Err(shape(format!(
                "{} floats as heads of {head_width}",
                x.width()
            )));
        }
        if !dims.is_multiple_of(2) || dims > head_width {
            return Err(shape(format!(
                "{dims} of {head_width} elements cannot turn"
            )));
        }
        let end = start.checked_add(x.rows());
        if end.is_none_or(|end| end > turns.rows()) {
            let rows = x.rows();
            return Err(shape(format!(
                "{rows} tokens from {start} on are beyond {} positions",
                turns.rows()
            )));
        }
        let (heads, pairs) = (x.width() / head_width, dims / 2);
        let at_once = self.rows_at_once(x.width().max(dims));
        for first in (0..x.rows()).step_by(at_once) {
            let rows = first..x.rows().min(first + at_once);
            let (x, count) = (x.slice(rows.clone())?, rows.len());
            // Only these tokens' turns are bound, so their table begins at position 0.
            let turns = turns.slice(start + rows.start..start + rows.end)?;
            self.run(&Call {
                op,
                key: Key::of(File::Rope, "turn"),
                arrays: &[(0, (&x).into()), (1, (&turns).into())],
                written: 1,
                words: &[
                    count as u32,
                    heads as u32,
                    head_width as u32,
                    pairs as u32,
                    u32::from(table.layout == RopeLayout::HalfSplit),
                    direction.to_bits(),
                ],
                groups: Groups::Line((count * heads * pairs).div_ceil(THREADS)),
            })?;
        }
        Ok(())
    }
}
