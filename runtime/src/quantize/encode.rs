//! One tensor's weights to bytes of another type, rows in parallel, with the error that made.

use graft_kernels::{Kernels, QuantType, blocks};
use rayon::prelude::*;

use super::QuantizeError;
use crate::Result;
use crate::cancel::Cancel;
use crate::gguf::Tensor;
use crate::threads::Pool;

/// About how many weights a worker takes at once; also the f32 memory it needs.
const PIECE: usize = 1 << 18;

/// What storing weights in a type has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoundingError {
    /// Root of the mean square of the weights.
    pub weight_rms: f64,
    /// Root of the mean square of stored minus wanted, per weight.
    pub rms: f64,
    /// Largest of their differences.
    pub largest: f64,
}

impl RoundingError {
    /// `rms / weight_rms`; 0 where all weights are 0.
    pub fn relative(&self) -> f64 {
        if self.weight_rms == 0.0 {
            return 0.0;
        }
        self.rms / self.weight_rms
    }
}

/// Bytes of a tensor and what making them has cost.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    pub error: RoundingError,
}

/// Encodes `rows` rows of `width` weights as `quant_type`. `fill(first, out)` writes the wanted
/// weights of whole rows from row `first` on. Results do not depend on the number of workers.
///
/// # Errors
/// A weight that is not finite, or that the type cannot represent; a type that is only read; the
/// raised flag.
///
/// # Panics
/// If a row does not fill whole blocks: the caller has declared the tensor with this type before.
pub(super) fn encode_rows(
    pool: &Pool,
    cancel: &Cancel,
    tensor: &str,
    quant_type: QuantType,
    (rows, width): (usize, usize),
    fill: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> Result<Encoded> {
    let row_bytes = quant_type.row_bytes(width);
    let row_bytes = row_bytes.expect("the tensor was declared with whole blocks");
    let mut bytes = vec![0; rows * row_bytes];
    let piece = (PIECE / width).max(1);
    let sums: Vec<Sums> = pool.run(|| {
        bytes
            .par_chunks_mut(piece * row_bytes)
            .enumerate()
            .map_init(
                || (Vec::new(), Vec::new()),
                |(wanted, stored), (i, out)| {
                    cancel.check()?;
                    let len = out.len() / row_bytes * width;
                    wanted.resize(len, 0.0);
                    stored.resize(len, 0.0);
                    let first = i * piece;
                    fill(first, wanted);
                    let at = |place: usize| first * width + place;
                    if let Some(place) = wanted.iter().position(|w| !w.is_finite()) {
                        let (tensor, index) = (tensor.to_owned(), at(place));
                        return Err(QuantizeError::NotFinite { tensor, index }.into());
                    }
                    blocks::encode(quant_type, wanted, out).map_err(|source| {
                        let tensor = tensor.to_owned();
                        QuantizeError::Unwritten { tensor, source }
                    })?;
                    Kernels::detect().decode(quant_type, out, stored);
                    if let Some(place) = stored.iter().position(|w| !w.is_finite()) {
                        return Err(QuantizeError::OutOfRange {
                            tensor: tensor.to_owned(),
                            index: at(place),
                            value: wanted[place],
                            quant_type,
                        }
                        .into());
                    }
                    Ok(Sums::of(wanted, stored))
                },
            )
            .collect::<Result<_>>()
    })?;
    let count = (rows * width) as f64;
    let total = sums.into_iter().fold(Sums::default(), Sums::plus);
    Ok(Encoded {
        bytes,
        error: RoundingError {
            weight_rms: (total.weight / count).sqrt(),
            rms: (total.difference / count).sqrt(),
            largest: total.largest,
        },
    })
}

/// Writes the weights of whole rows of `tensor`, from row `first` on.
pub(crate) fn decode_rows(tensor: Tensor<'_>, first: usize, out: &mut [f32]) {
    let (width, quant_type) = (tensor.info.shape[0], tensor.info.quant_type);
    let row = quant_type.row_bytes(width);
    let row = row.expect("the reader checked that rows are whole blocks");
    let bytes = &tensor.data[first * row..(first + out.len() / width) * row];
    Kernels::detect().decode(quant_type, bytes, out);
}

/// Sums of squares.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    weight: f64,
    difference: f64,
    largest: f64,
}

impl Sums {
    fn of(wanted: &[f32], stored: &[f32]) -> Self {
        let mut sums = Self::default();
        for (&w, &s) in wanted.iter().zip(stored) {
            let (w, difference) = (f64::from(w), f64::from(s) - f64::from(w));
            sums.weight += w * w;
            sums.difference += difference * difference;
            sums.largest = sums.largest.max(difference.abs());
        }
        sums
    }

    fn plus(self, other: Self) -> Self {
        Self {
            weight: self.weight + other.weight,
            difference: self.difference + other.difference,
            largest: self.largest.max(other.largest),
        }
    }
}
