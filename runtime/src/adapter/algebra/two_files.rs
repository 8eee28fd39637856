//! The weights of two model files side by side, decoded piece by piece.

use std::path::Path;

use rayon::prelude::*;

use crate::Result;
use crate::adapter::AdapterError;
use crate::cancel::Cancel;
use crate::gguf::{Gguf, Tensor};
use crate::model::ModelError;
use crate::quantize::decode_rows;

/// About how many weights a worker takes at once.
const PIECE: usize = 1 << 16;

/// Two open files with tensors of the same names and shapes. Its work runs in the caller's pool and
/// gives the same bits for any number of threads.
pub(super) struct TwoFiles<'a> {
    pub base: (&'a Path, &'a Gguf),
    pub tuned: (&'a Path, &'a Gguf),
    pub cancel: &'a Cancel,
}

/// Sums of squares.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Squares {
    /// Of the base's weights.
    pub base: f64,
    /// Of tuned minus base.
    pub difference: f64,
}

/// One tensor of both files.
#[derive(Clone, Copy)]
struct Both<'a> {
    base: Tensor<'a>,
    tuned: Tensor<'a>,
}

impl TwoFiles<'_> {
    /// Writes tuned minus base of a matrix into `out`, row after row.
    ///
    /// # Errors
    /// If a file lacks the tensor or holds a weight that is not finite, or the flag is raised.
    pub fn subtract(&self, name: &str, out: &mut [f32]) -> Result<Squares> {
        let both = self.both(name)?;
        let rows = both.rows_of_a_piece();
        let pieces = out.par_chunks_mut(rows * both.width()).enumerate();
        let squares = pieces.map_init(Vec::new, |base, (i, out)| {
            self.piece(both, i * rows, out, base)
        });
        let squares = squares.collect::<Result<Vec<_>>>()?;
        self.release(name);
        Ok(Squares::sum(&squares))
    }

    /// The same without keeping the difference.
    ///
    /// # Errors
    /// As [`TwoFiles::subtract`].
    pub fn compare(&self, name: &str) -> Result<Squares> {
        let both = self.both(name)?;
        let (width, rows) = both.base.info.rows();
        let piece = both.rows_of_a_piece();
        let pieces = (0..rows.div_ceil(piece)).into_par_iter();
        let squares = pieces.map_init(
            || (Vec::new(), Vec::new()),
            |(out, base), i| {
                let first = i * piece;
                out.resize(piece.min(rows - first) * width, 0.0);
                self.piece(both, first, out, base)
            },
        );
        let squares = squares.collect::<Result<Vec<_>>>()?;
        self.release(name);
        Ok(Squares::sum(&squares))
    }

    /// Whether both have the tensor, in one shape.
    pub fn alike(&self, name: &str) -> bool {
        let shape = |gguf: &'_ Gguf| gguf.tensor(name).map(|tensor| tensor.info.shape.clone());
        let base = shape(self.base.1);
        base.is_some() && base == shape(self.tuned.1)
    }

    fn both(&self, name: &str) -> Result<Both<'_>> {
        match (self.base.1.tensor(name), self.tuned.1.tensor(name)) {
            (Some(base), Some(tuned)) => Ok(Both { base, tuned }),
            _ => Err(ModelError::MissingTensor(name.to_owned()).into()),
        }
    }

    /// Whole rows from `first` on.
    fn piece(
        &self,
        both: Both<'_>,
        first: usize,
        out: &mut [f32],
        base: &mut Vec<f32>,
    ) -> Result<Squares> {
        self.cancel.check()?;
        base.resize(out.len(), 0.0);
        decode_rows(both.tuned, first, out);
        decode_rows(both.base, first, base);
        let name = &both.base.info.name;
        check_finite(self.tuned.0, name, first * both.width(), out)?;
        check_finite(self.base.0, name, first * both.width(), base)?;
        out.iter_mut().zip(&*base).for_each(|(t, b)| *t -= b);
        Ok(Squares {
            base: square(base),
            difference: square(out),
        })
    }

    /// The memory of a tensor that was read through.
    fn release(&self, name: &str) {
        for gguf in [self.base.1, self.tuned.1] {
            if let Some(index) = gguf.position(name) {
                gguf.release(index, 0..gguf.data(index).len());
            }
        }
    }
}

impl Both<'_> {
    fn width(self) -> usize {
        self.base.info.shape[0]
    }

    fn rows_of_a_piece(self) -> usize {
        (PIECE / self.width()).max(1)
    }
}

impl Squares {
    /// In the order of the pieces, whoever made them.
    fn sum(pieces: &[Self]) -> Self {
        pieces.iter().fold(Self::default(), |sum, piece| Self {
            base: sum.base + piece.base,
            difference: sum.difference + piece.difference,
        })
    }
}

fn check_finite(path: &Path, tensor: &str, first: usize, values: &[f32]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(place) => Err(AdapterError::WeightNotFinite {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
            index: first + place,
        }
        .into()),
        None => Ok(()),
    }
}

/// Frobenius norm of a matrix in f32.
pub(super) fn norm(values: &[f32]) -> f64 {
    let squares: Vec<f64> = values.par_chunks(PIECE).map(square).collect();
    squares.into_iter().sum::<f64>().sqrt()
}

fn square(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
}
