//! Floats rounded to BF16 and back, for what is kept long: half the memory, and half the way to the processor.

use super::File;
use super::elementwise::THREADS;
use crate::recorder::{Call, Groups, shaped};
use crate::shader::Key;
use crate::{Arena, Recorder, Result, Tensor};

/// BF16 numbers `[rows, width]`, two to a word, every row in words of its own.
#[derive(Clone, Debug)]
pub struct Bf16Tensor {
    /// `[rows, width / 2]`, rounded up. Not numbers: a float whose bits are those of a pair, for
    /// [`Recorder::read`] and [`Recorder::write`].
    pub words: Tensor,
    width: usize,
}

impl Bf16Tensor {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.words.rows()
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }
}

impl Arena {
    /// BF16 numbers `[rows, width]`; takes what [`Arena::tensor`] takes for half the width, rounded up.
    ///
    /// # Errors
    /// As [`Arena::tensor`].
    pub fn bf16_tensor(&self, rows: usize, width: usize) -> Result<Bf16Tensor> {
        let words = self.tensor(rows, width.div_ceil(2))?;
        Ok(Bf16Tensor { words, width })
    }
}

impl Recorder {
    /// Writes `x` rounded to nearest to `y`, of the same shape.
    ///
    /// # Errors
    /// If shapes differ, arrays overlap, or the device refuses.
    pub fn to_bf16(&mut self, y: &Bf16Tensor, x: &Tensor) -> Result<()> {
        self.convert("to_bf16", "forward", y, x)
    }

    /// Writes the floats that `x` stands for to `y`, of the same shape.
    ///
    /// # Errors
    /// As [`Recorder::to_bf16`].
    pub fn from_bf16(&mut self, y: &Tensor, x: &Bf16Tensor) -> Result<()> {
        self.convert("from_bf16", "back", x, y)
    }

    fn convert(
        &mut self,
        op: &'static str,
        entry: &'static str,
        halves: &Bf16Tensor,
        floats: &Tensor,
    ) -> Result<()> {
        shaped(
            op,
            "the floats' side",
            floats,
            [halves.rows(), halves.width],
        )?;
        let at_once = self.rows_at_once(floats.width());
        for first in (0..floats.rows()).step_by(at_once) {
            let rows = first..floats.rows().min(first + at_once);
            let (words, floats) = (halves.words.slice(rows.clone())?, floats.slice(rows)?);
            let mut arrays = [(0, (&words).into()), (1, (&floats).into())];
            if entry == "back" {
                arrays.reverse();
            }
            self.run(&Call {
                op,
                key: Key::of(File::Bf16, entry),
                arrays: &arrays,
                written: 1,
                words: &[floats.rows() as u32, floats.width() as u32],
                groups: Groups::Line(words.len().div_ceil(THREADS)),
            })?;
        }
        Ok(())
    }
}
