//! One tensor's weights to bytes of another type, rows in parallel, with the error that made.

use graft_kernels::{Kernels, QuantType, blocks};
use rayon::prelude::*;

use super::QuantizeError;
use crate::Result;
use crate::cancel::Cancel;
use crate::gguf::Tensor;
use crate::threads::Pool;

/// About how many weights a worker takes at once, and no flag stops it meanwhile: some 20 ms where blocks are looked for
/// near old ones. Also the f32 memory it needs.
const PIECE: usize = 1 << 16;

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

/// What is added to a tensor before it is stored: adds to the weights of whole rows, from the row
/// given on.
pub(crate) type Addition<'a> = Box<dyn Fn(usize, &mut [f32]) + Sync + 'a>;

/// Bytes of a tensor and what making them has cost.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    pub error: RoundingError,
    /// What became of the addition, where there was one.
    pub added: Option<Added>,
}

/// How much of an addition the stored weights hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Added {
    /// Root of the mean square of what was added, per weight.
    pub rms: f64,
    /// The part of stored minus old that lies along the addition, over the addition: 1 where rounding
    /// fell evenly to both sides, 0 where it took everything back.
    pub kept: f64,
}

/// Encodes a tensor's weights, after the addition, as `quant_type`. Where that is the type they are
/// in, blocks are looked for near the old ones. Results do not depend on the number of workers.
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
    tensor: Tensor<'_>,
    quant_type: QuantType,
    addition: Option<&Addition<'_>>,
) -> Result<Encoded> {
    let (width, rows) = tensor.info.rows();
    let name = || tensor.info.name.clone();
    let row_bytes = quant_type.row_bytes(width);
    let row_bytes = row_bytes.expect("the tensor was declared with whole blocks");
    let mut bytes = vec![0; rows * row_bytes];
    let piece = (PIECE / width).max(1);
    let sums: Vec<Sums> = pool.run(|| {
        bytes
            .par_chunks_mut(piece * row_bytes)
            .enumerate()
            .map_init(Weights::default, |weights, (i, out)| {
                cancel.check()?;
                let first = i * piece;
                weights.read(tensor, first, out.len() / row_bytes * width, addition);
                let Weights { wanted, stored, .. } = weights;
                let at = |place: usize| first * width + place;
                if let Some(place) = wanted.iter().position(|w| !w.is_finite()) {
                    let (tensor, index) = (name(), at(place));
                    return Err(QuantizeError::NotFinite { tensor, index }.into());
                }
                let encoded = if quant_type == tensor.info.quant_type {
                    let near = &tensor.data[first * row_bytes..][..out.len()];
                    blocks::encode_near(quant_type, wanted, near, out)
                } else {
                    blocks::encode(quant_type, wanted, out)
                };
                encoded.map_err(|source| QuantizeError::Unwritten {
                    tensor: name(),
                    source,
                })?;
                Kernels::detect().decode(quant_type, out, stored);
                if let Some(place) = stored.iter().position(|w| !w.is_finite()) {
                    return Err(QuantizeError::OutOfRange {
                        tensor: name(),
                        index: at(place),
                        value: wanted[place],
                        quant_type,
                    }
                    .into());
                }
                Ok(weights.sums())
            })
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
        added: addition.map(|_| Added {
            rms: (total.added / count).sqrt(),
            kept: if total.added > 0.0 {
                total.along / total.added
            } else {
                1.0
            },
        }),
    })
}

/// Weights of some rows, as a worker needs them.
#[derive(Default)]
struct Weights {
    old: Vec<f32>,
    /// Empty where nothing is added.
    added: Vec<f32>,
    wanted: Vec<f32>,
    stored: Vec<f32>,
}

impl Weights {
    fn read(
        &mut self,
        tensor: Tensor<'_>,
        first: usize,
        len: usize,
        addition: Option<&Addition<'_>>,
    ) {
        self.stored.resize(len, 0.0);
        self.wanted.resize(len, 0.0);
        let Some(add) = addition else {
            decode_rows(tensor, first, &mut self.wanted);
            return;
        };
        self.old.resize(len, 0.0);
        decode_rows(tensor, first, &mut self.old);
        // The sum of all terms first, so that the weight is rounded once.
        self.added.clear();
        self.added.resize(len, 0.0);
        add(first, &mut self.added);
        let sum = self.old.iter().zip(&self.added).map(|(w, a)| w + a);
        self.wanted.iter_mut().zip(sum).for_each(|(w, s)| *w = s);
    }

    fn sums(&self) -> Sums {
        let mut sums = Sums::of(&self.wanted, &self.stored);
        for ((a, old), stored) in self.added.iter().zip(&self.old).zip(&self.stored) {
            let (a, moved) = (f64::from(*a), f64::from(*stored) - f64::from(*old));
            sums.added += a * a;
            sums.along += moved * a;
        }
        sums
    }
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
    added: f64,
    /// Of (stored - old) · added.
    along: f64,
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
            added: self.added + other.added,
            along: self.along + other.along,
        }
    }
}
