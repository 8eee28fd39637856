//! Softmax and cross-entropy, a chunk of rows and of the vocabulary at a time.

use super::File;
use super::elementwise::THREADS;
use crate::recorder::{Binding, Call, Groups, same, shaped};
use crate::shader::Key;
use crate::{Ids, Recorder, Result, Tensor};

/// Rows under loss: their labels and what was seen of their logits.
#[derive(Clone, Debug)]
pub struct LossRows {
    /// `[rows]`; [`crate::IGNORED`] where a row carries no loss.
    pub labels: Ids,
    /// `[rows, 3]`, written by [`Recorder::softmax_observe`].
    pub state: Tensor,
}

impl Recorder {
    /// Takes the logits `[rows, width]` of classes `first..first + width` into `rows.state`. Every chunk
    /// of the vocabulary is to be seen once, the one from 0 on first.
    ///
    /// # Errors
    /// If shapes do not fit each other, arrays overlap, or the device refuses.
    pub fn softmax_observe(
        &mut self,
        logits: &Tensor,
        rows: &LossRows,
        first: usize,
    ) -> Result<()> {
        let arrays = [
            (2, (&rows.state).into()),
            (0, logits.into()),
            (1, (&rows.labels).into()),
        ];
        self.loss_rows(
            "softmax_observe",
            "observe",
            logits,
            rows,
            first,
            0.0,
            &arrays,
        )
    }

    /// Writes the loss of each row, `-ln softmax(logits)[label]`, to `loss`, `rows` floats; 0 where the
    /// label is [`crate::IGNORED`]. Every chunk was observed.
    ///
    /// # Errors
    /// As [`Recorder::softmax_observe`].
    pub fn softmax_cross_entropy(&mut self, loss: &Tensor, rows: &LossRows) -> Result<()> {
        let op = "softmax_cross_entropy";
        let count = rows.labels.len();
        same(op, "losses", loss.len(), count)?;
        shaped(op, "state", &rows.state, [count, 3])?;
        self.run(&Call {
            op,
            key: Key::of(File::SoftmaxCrossEntropy, "forward"),
            arrays: &[
                (3, loss.into()),
                (2, (&rows.state).into()),
                (1, (&rows.labels).into()),
            ],
            written: 1,
            words: &[count as u32, 0, 0, 0],
            groups: Groups::Line(count.div_ceil(THREADS)),
        })
    }

    /// Replaces the logits of a chunk by `(softmax - one_hot(label)) * scale`, zero in ignored rows.
    /// Every chunk was observed.
    ///
    /// # Errors
    /// As [`Recorder::softmax_observe`].
    pub fn softmax_cross_entropy_backward(
        &mut self,
        logits: &Tensor,
        rows: &LossRows,
        first: usize,
        scale: f64,
    ) -> Result<()> {
        let op = "softmax_cross_entropy_backward";
        let arrays = [
            (0, logits.into()),
            (2, (&rows.state).into()),
            (1, (&rows.labels).into()),
        ];
        self.loss_rows(op, "backward", logits, rows, first, scale as f32, &arrays)
    }

    #[allow(clippy::too_many_arguments)] // what both directions share
    fn loss_rows(
        &mut self,
        op: &'static str,
        entry: &'static str,
        logits: &Tensor,
        rows: &LossRows,
        first: usize,
        scale: f32,
        arrays: &[(usize, Binding<'_>)],
    ) -> Result<()> {
        let count = rows.labels.len();
        same(op, "rows of logits", logits.rows(), count)?;
        shaped(op, "state", &rows.state, [count, 3])?;
        let known = u32::try_from(first);
        same(
            op,
            "classes before the chunk",
            known.unwrap_or(0) as usize,
            first,
        )?;
        self.run(&Call {
            op,
            key: Key::of(File::SoftmaxCrossEntropy, entry),
            arrays,
            written: 1,
            words: &[
                count as u32,
                logits.width() as u32,
                first as u32,
                scale.to_bits(),
            ],
            groups: Groups::Line(count),
        })
    }
}
