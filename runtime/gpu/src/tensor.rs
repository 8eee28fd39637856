//! Arrays on a device: floats, row numbers, stored matrices. All are views; nothing here moves.

use std::ops::Range;
use std::sync::Arc;

use graft_kernels::QuantType;

use crate::arena::ArenaRange;
use crate::{GpuError, Result};

/// Floats `[rows, width]`, rows one after the other; clones are the same floats.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) range: Arc<ArenaRange>,
    /// First float, counted from the range's.
    pub(crate) first: usize,
    rows: usize,
    width: usize,
}

impl Tensor {
    pub(crate) fn new(range: Arc<ArenaRange>, rows: usize, width: usize) -> Self {
        Self {
            range,
            first: 0,
            rows,
            width,
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Floats of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All floats.
    pub fn len(&self) -> usize {
        self.rows * self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the rows.
    ///
    /// # Errors
    /// If there are not as many.
    pub fn slice(&self, rows: Range<usize>) -> Result<Self> {
        if rows.start > rows.end || rows.end > self.rows {
            return Err(GpuError::Shape {
                op: "slice",
                what: format!("rows {rows:?} of {}", self.rows),
            });
        }
        Ok(Self {
            range: self.range.clone(),
            first: self.first + rows.start * self.width,
            rows: rows.len(),
            width: self.width,
        })
    }

    /// The same floats as rows of another width.
    ///
    /// # Errors
    /// If they are not as many.
    pub fn reshape(&self, rows: usize, width: usize) -> Result<Self> {
        if rows.checked_mul(width) != Some(self.len()) {
            return Err(GpuError::Shape {
                op: "reshape",
                what: format!("{} floats as {rows} rows of {width}", self.len()),
            });
        }
        Ok(Self {
            rows,
            width,
            ..self.clone()
        })
    }

    /// Its first byte in its buffer.
    pub(crate) fn at(&self) -> u64 {
        self.range.start + 4 * self.first as u64
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> u64 {
        4 * self.len() as u64
    }
}

/// Row numbers or labels, `[len]`. [`crate::Recorder::write_ids`] says what they may be.
#[derive(Clone, Debug)]
pub struct Ids {
    pub(crate) tensor: Tensor,
}

impl Ids {
    pub(crate) fn new(tensor: Tensor) -> Self {
        Self { tensor }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.tensor.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensor.is_empty()
    }

    /// Some of them.
    ///
    /// # Errors
    /// If there are not as many.
    pub fn slice(&self, range: Range<usize>) -> Result<Self> {
        let all = self.tensor.reshape(self.len(), 1)?;
        let some = all.slice(range)?;
        some.reshape(1, some.len()).map(Self::new)
    }
}

/// A stored matrix `[rows, inputs]` of any block type, as a file has it; clones are the same matrix.
///
/// A matrix of more bytes than kernels can see lies in several pieces of whole rows.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub(crate) ty: QuantType,
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) row_bytes: usize,
    pub(crate) pieces: Vec<Piece>,
}

/// Rows of a matrix that lie together.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) rows: Range<usize>,
    pub(crate) range: Arc<ArenaRange>,
}

impl Matrix {
    /// How its weights are stored.
    pub fn ty(&self) -> QuantType {
        self.ty
    }

    /// Rows: outputs of a linear layer.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> usize {
        self.rows * self.row_bytes
    }

    /// How many pieces it lies in.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }
}
