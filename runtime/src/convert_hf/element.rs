//! One tensor from the checkpoint to a GGUF file, a few rows at a time: decode, reorder, encode.

use graft_kernels::{QuantType, blocks};

use super::checkpoint::Source;
use super::{ConvertHfError, ConvertOptions, Progress};
use crate::Result;
use crate::gguf::{TensorDeclaration, Writer};

/// A tensor of the file to be: its place in the directory and where its values come from.
#[derive(Debug)]
pub(super) struct Planned<'c> {
    pub(super) declaration: TensorDeclaration,
    pub(super) values: Values<'c>,
}

/// Where values come from.
#[derive(Debug)]
pub(super) enum Values<'c> {
    /// The checkpoint, in its order.
    Kept(Source<'c>),
    /// The checkpoint, the rows of each of so many heads in GGUF's rotary order.
    Rotary(Source<'c>, usize),
    /// The converter.
    Made(Vec<f32>),
}

impl<'c> Planned<'c> {
    /// A checkpoint's tensor under GGUF's name. Vectors are always stored as F32: they are few,
    /// and norms and biases are where rounding hurts.
    pub(super) fn kept(name: String, source: Source<'c>, quant_type: QuantType) -> Self {
        let quant_type = if source.shape.len() < 2 {
            QuantType::F32
        } else {
            quant_type
        };
        Self {
            declaration: TensorDeclaration {
                name,
                shape: source.shape.iter().rev().copied().collect(),
                quant_type,
            },
            values: Values::Kept(source),
        }
    }

    /// The same, reordered for `heads` rotated heads.
    pub(super) fn rotary(mut self, heads: usize) -> Self {
        if let Values::Kept(source) = self.values {
            self.values = Values::Rotary(source, heads);
        }
        self
    }

    /// A vector that the converter computed.
    pub(super) fn made(name: String, values: Vec<f32>) -> Self {
        Self {
            declaration: TensorDeclaration {
                name,
                shape: vec![values.len()],
                quant_type: QuantType::F32,
            },
            values: Values::Made(values),
        }
    }

    /// Bytes it takes in the file.
    pub(super) fn bytes(&self) -> Result<u64> {
        Ok(self.declaration.bytes()? as u64)
    }

    /// Writes the values as the writer's next tensor.
    pub(super) fn write(&self, writer: &mut Writer, report: &mut Report<'_>) -> Result<()> {
        let (source, heads) = match &self.values {
            Values::Made(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                writer.write_tensor(&bytes)?;
                return report.advance(&self.declaration.name, bytes.len());
            }
            Values::Kept(source) => (source, None),
            Values::Rotary(source, heads) => (source, Some(*heads)),
        };
        let to = self.declaration.quant_type;
        let elements: usize = source.shape.iter().product();
        // Rows matter only where they change places; other tensors are cut anywhere.
        let (rows, width) = match heads {
            Some(_) => (source.shape[0], elements / source.shape[0]),
            None => (elements.div_ceil(FLOATS), FLOATS),
        };
        let from_bytes = source.quant_type.block_bytes();
        let together = (FLOATS / width).max(1);
        let mut floats = vec![0.0; together * width];
        let mut encoded = vec![0; floats.len() * to.block_bytes()];
        for first in (0..rows).step_by(together) {
            let mut filled = 0;
            for row in first..rows.min(first + together) {
                let at = heads.map_or(row, |heads| rotated(row, rows / heads)) * width;
                let end = (at + width).min(elements);
                let bytes = &source.bytes[at * from_bytes..end * from_bytes];
                let out = &mut floats[filled..filled + end - at];
                blocks::decode(source.quant_type, bytes, out);
                filled += out.len();
            }
            let floats = &floats[..filled];
            check(source.name, floats, to)?;
            let encoded = &mut encoded[..filled * to.block_bytes()];
            blocks::encode(to, floats, encoded).map_err(|_| unencodable(to))?;
            writer.write_part(encoded)?;
            report.advance(&self.declaration.name, encoded.len())?;
        }
        Ok(())
    }
}

/// Floats converted at once: enough to keep the calls few, little enough to stay in the cache.
const FLOATS: usize = 1 << 16;
/// Halfway between the largest F16 number and the next, which rounds to infinity.
const BEYOND_F16: f32 = 65520.0;

/// The types a checkpoint can be converted to.
pub(super) fn check_target(quant_type: QuantType) -> Result<(), ConvertHfError> {
    match quant_type {
        QuantType::F32 | QuantType::F16 | QuantType::BF16 => Ok(()),
        found => Err(ConvertHfError::QuantType { found }),
    }
}

fn unencodable(found: QuantType) -> ConvertHfError {
    ConvertHfError::QuantType { found }
}

fn check(tensor: &str, floats: &[f32], to: QuantType) -> Result<(), ConvertHfError> {
    let limit = match to {
        QuantType::F16 => BEYOND_F16,
        _ => f32::INFINITY,
    };
    // The common case is one pass without branches; NaN compares false with everything.
    if floats.iter().all(|v| v.abs() < limit) {
        return Ok(());
    }
    let tensor = tensor.to_owned();
    match floats.iter().find(|v| !v.is_finite()) {
        Some(&value) => Err(ConvertHfError::NotFinite { tensor, value }),
        None => Err(ConvertHfError::TooLarge {
            tensor,
            value: floats
                .iter()
                .copied()
                .fold(0.0, |m: f32, v| if v.abs() > m.abs() { v } else { m }),
            quant_type: to,
        }),
    }
}

/// The checkpoint's row that becomes row `row`: a head's halves (`x_0 … x_n/2 | y_0 … y_n/2`)
/// become pairs (`x_0 y_0 x_1 y_1 …`), which is how GGUF's rotary embedding turns them.
fn rotated(row: usize, head_width: usize) -> usize {
    let (head, within) = (row / head_width, row % head_width);
    head * head_width + within % 2 * (head_width / 2) + within / 2
}

/// Tells the caller how far the conversion is, and stops it on request.
pub(super) struct Report<'o> {
    pub(super) options: &'o ConvertOptions<'o>,
    pub(super) written: u64,
    pub(super) total: u64,
}

impl Report<'_> {
    fn advance(&mut self, tensor: &str, bytes: usize) -> Result<()> {
        self.options.cancel.check()?;
        self.written += bytes as u64;
        if let Some(progress) = self.options.progress {
            progress(Progress {
                tensor,
                written: self.written,
                total: self.total,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::rotated;

    #[test]
    fn halves_of_two_heads_become_pairs() {
        let order: Vec<usize> = (0..16).map(|row| rotated(row, 8)).collect();
        assert_eq!(
            order,
            [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
        );
    }
}
