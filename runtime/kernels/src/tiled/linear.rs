//! A frozen linear layer whose weight stays as the file stores it, for many tokens.
//!
//! `y = x W^T` and `dx (+)= dy W`: a tile of the weight is decoded into a panel that fits the
//! second-level cache and multiplied with every token before the next is decoded, so decoding
//! costs one over the number of tokens of the arithmetic. `ops/linear.rs` says what is computed.

use std::ops::Range;

use crate::panel::Before;
use crate::product::{Mat, MatMut};
use crate::{Kernels, QuantType};

/// Floats of a panel: 512 KiB, half of a large core's second-level cache or all of a small one's.
const PANEL: usize = 128 * 1024;
/// Weights of a row that are decoded before the next row: whole blocks of every type.
const RUN: usize = 256;
/// Rows that are on their way while one is decoded for a gradient: runs of rows that lie far apart are
/// nothing that a processor foresees.
const ROWS_AHEAD: usize = 8;
/// From one decoded row to the next; a multiple of a page apart they would share cache sets.
const RUN_STRIDE: usize = RUN + 16;
/// Most columns of `dx` that [`Kernels::linear_backward`] takes.
pub const MOST_COLS: usize = 1024;

/// Floats of scratch that the methods here need.
pub const SCRATCH: usize = PANEL + crate::panel::WIDE * RUN_STRIDE;

/// A matrix `[outputs, inputs]` as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// How its elements are stored.
    pub quant_type: QuantType,
    /// Its rows, one after the other.
    pub bytes: &'a [u8],
    /// Elements of a row, whole blocks.
    pub inputs: usize,
}

impl<'a> Stored<'a> {
    /// Elements `cols`, whole blocks, of every row.
    pub(crate) fn columns(&self, cols: Range<usize>) -> Columns<'a> {
        let bytes = |weights| self.quant_type.row_bytes(weights).expect("whole blocks");
        Columns {
            quant_type: self.quant_type,
            rows: self.bytes,
            row_bytes: bytes(self.inputs),
            at: bytes(cols.start)..bytes(cols.end),
        }
    }
}

/// The same elements of every row of a stored matrix.
pub(crate) struct Columns<'a> {
    quant_type: QuantType,
    rows: &'a [u8],
    row_bytes: usize,
    /// Where they lie in a row.
    at: Range<usize>,
}

impl Columns<'_> {
    /// Decodes those of a row, and asks for those of the row that lies `ahead` rows behind it, in another piece
    /// perhaps.
    pub(crate) fn decode(&self, kernels: &Kernels, out: &mut [f32], row: usize, ahead: usize) {
        let bytes = &self.rows[row * self.row_bytes..][self.at.clone()];
        kernels.ask_for(bytes, ahead * self.row_bytes);
        kernels.decode(self.quant_type, bytes, out);
    }
}

impl Kernels {
    /// [`ops::linear::forward`](crate::ops::linear::forward): writes `y` `[T, outputs]` from `x` `[T, inputs]` and
    /// `bias` `[outputs]`, which may be empty. Efficient for outputs in multiples of 64, 64 to 512
    /// of them. `scratch` holds at least [`SCRATCH`] floats.
    ///
    /// # Panics
    /// If sizes contradict each other, or the columns of `x` or `y` are not adjacent.
    pub fn linear_forward(
        &self,
        mut y: MatMut<'_>,
        x: Mat<'_>,
        weight: &Stored<'_>,
        bias: &[f32],
        scratch: &mut [f32],
    ) {
        let (outputs, inputs) = (y.cols(), weight.inputs);
        let depth = PANEL / outputs.next_multiple_of(self.strip()) / RUN * RUN;
        assert!(depth > 0, "{outputs} outputs at once");
        for from in (0..inputs).step_by(depth) {
            let depth = depth.min(inputs - from);
            let panel = self.forward_panel(scratch, weight, (outputs, from..from + depth));
            let before = Before::first(from, bias);
            self.product_panel_onto(y.reborrow(), before, x.col_range(from, depth), panel);
        }
    }

    /// The panel of columns `cols`, at most as many as fit, of the first `outputs` rows of a weight.
    pub(crate) fn forward_panel<'s>(
        &self,
        scratch: &'s mut [f32],
        weight: &Stored<'_>,
        (outputs, cols): (usize, Range<usize>),
    ) -> &'s [f32] {
        let (from, depth, strip) = (cols.start, cols.len(), self.strip());
        let len = self.panel_len(depth, outputs);
        let (panel, decoded) = scratch.split_at_mut(len);
        {
            let strips = panel.chunks_exact_mut(depth * strip);
            for (row, panel) in (0..outputs).step_by(strip).zip(strips) {
                let rows = strip.min(outputs - row);
                let runs = (from..from + depth).step_by(RUN);
                for (col, panel) in runs.zip(panel.chunks_mut(RUN * strip)) {
                    let cols = RUN.min(from + depth - col);
                    let weight = weight.columns(col..col + cols);
                    for (i, out) in decoded.chunks_mut(RUN_STRIDE).take(rows).enumerate() {
                        weight.decode(self, &mut out[..cols], row + i, strip);
                    }
                    let decoded = Mat::strided(decoded, rows, cols, RUN_STRIDE, 1);
                    self.pack_panel(panel, decoded.t());
                }
            }
        }
        panel
    }

    /// [`ops::linear::backward`](crate::ops::linear::backward) for some columns: writes to `dx`
    /// `[T, cols]`, or adds to it, what `dy` `[T, outputs]` and columns `first..first + cols` of the weight make;
    /// both are whole blocks. `scratch` holds at least [`SCRATCH`] floats.
    ///
    /// # Panics
    /// If sizes contradict each other, there are more than [`MOST_COLS`] columns, or the columns
    /// of `dx` or `dy` are not adjacent.
    pub fn linear_backward(
        &self,
        mut dx: MatMut<'_>,
        accumulate: bool,
        dy: Mat<'_>,
        weight: &Stored<'_>,
        first: usize,
        scratch: &mut [f32],
    ) {
        let (cols, strip) = (dx.cols(), self.strip());
        assert!(cols <= MOST_COLS, "{cols} columns at once");
        let (panel, decoded) = scratch.split_at_mut(PANEL);
        let decoded = &mut decoded[..cols];
        let weight = weight.columns(first..first + cols);
        // A row goes to as many places as there are strips; an odd height keeps these from sharing cache sets.
        let most = PANEL / cols.next_multiple_of(strip) - 1;
        let outputs = dy.cols();
        let depth = outputs.div_ceil(outputs.div_ceil(most).max(1));
        let height = depth | 1;
        let panel = &mut panel[..self.panel_len(height, cols)];
        for from in (0..outputs).step_by(depth.max(1)) {
            let depth = depth.min(outputs - from);
            for row in 0..depth {
                weight.decode(self, decoded, from + row, ROWS_AHEAD);
                self.pack_row(panel, height, row, decoded);
            }
            let accumulate = accumulate || from > 0;
            self.product_panel(dx.reborrow(), accumulate, dy.col_range(from, depth), panel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks;
    use crate::ops::linear as reference;
    use crate::vector::tests::{assert_close, random};

    #[test]
    fn decoded_tiles_agree_with_the_reference() {
        let mut scratch = vec![f32::NAN; SCRATCH];
        for (ty, tokens, inputs, outputs) in [
            (QuantType::F32, 9, 70, 33),
            (QuantType::Q8_0, 13, 1056, 200),
            (QuantType::Q4K, 20, 768, 64),
        ] {
            let weights = random(1, outputs * inputs);
            let row_bytes = ty.row_bytes(inputs).expect("whole blocks");
            let mut bytes = vec![0; outputs * row_bytes];
            blocks::encode(ty, &weights, &mut bytes).expect("an encoder");
            let mut decoded = vec![0.0; outputs * inputs];
            blocks::decode(ty, &bytes, &mut decoded);
            let (x, dy) = (random(2, tokens * inputs), random(3, tokens * outputs));
            let wide = |x: &[f32]| x.iter().map(|&x| x as f64).collect::<Vec<_>>();
            let (w64, x64, dy64) = (wide(&decoded), wide(&x), wide(&dy));
            let mut dx64 = vec![1.0; tokens * inputs];
            let bias = random(4, outputs);
            let bias64 = wide(&bias);
            let forward = |bias: &[f64]| {
                let mut y64 = vec![0.0; tokens * outputs];
                reference::forward(&mut y64, &x64, &w64, bias, inputs);
                y64
            };
            let [y64, biased64] = [&[], &bias64[..]].map(forward);
            reference::backward(&mut dx64, &dy64, &w64, inputs);
            let weight = Stored {
                quant_type: ty,
                bytes: &bytes,
                inputs,
            };
            for kernels in Kernels::available() {
                let (mut y, mut dx) = (vec![f32::NAN; y64.len()], vec![1.0; dx64.len()]);
                let mut written = vec![f32::NAN; dx64.len()];
                let x = Mat::new(&x, tokens, inputs);
                for (bias, want) in [(&[][..], &y64), (&bias, &biased64)] {
                    let y_view = MatMut::new(&mut y, tokens, outputs);
                    kernels.linear_forward(y_view, x, &weight, bias, &mut scratch);
                    assert_close(&y, want, 2e-6);
                }
                let dy = Mat::new(&dy, tokens, outputs);
                let block = ty.block_len();
                let half = (inputs / 2).next_multiple_of(block);
                for (dx, accumulate) in [(&mut dx, true), (&mut written, false)] {
                    let mut dx = MatMut::new(dx, tokens, inputs);
                    for (first, cols) in [(0, half), (half, inputs - half)] {
                        let part = dx.col_range(first, cols);
                        kernels.linear_backward(part, accumulate, dy, &weight, first, &mut scratch);
                    }
                }
                assert_close(&dx, &dx64, 2e-6);
                let new: Vec<f64> = dx64.iter().map(|dx| dx - 1.0).collect();
                assert_close(&written, &new, 2e-6);
            }
        }
    }
}
