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
        let (from, to) = (source.quant_type, self.declaration.quant_type);
        let elements: usize = source.shape.iter().product();
        // Rows change places only within their head; other tensors are cut anywhere.
        let together = match heads {
            Some(heads) => elements / heads,
            None => FLOATS.min(elements),
        };
        let width = source.shape.last().copied().unwrap_or(1);
        let mut stored = vec![0; together * from.block_bytes()];
        let mut floats = vec![0.0; together];
        let mut ordered = vec![0.0; heads.map_or(0, |_| together)];
        let mut encoded = vec![0; together * to.block_bytes()];
        for at in (0..elements).step_by(together) {
            let count = together.min(elements - at);
            let stored = &mut stored[..count * from.block_bytes()];
            source.read(at * from.block_bytes(), stored)?;
            let mut floats = &mut floats[..count];
            blocks::decode(from, stored, floats);
            if heads.is_some() {
                for (row, out) in ordered.chunks_exact_mut(width).enumerate() {
                    let old = paired(row, count / width);
                    out.copy_from_slice(&floats[old * width..][..width]);
                }
                floats = &mut ordered;
            }
            check(source.name, floats, to)?;
            let encoded = &mut encoded[..count * to.block_bytes()];
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

/// The checkpoint's row of a head that becomes its row `row`: halves (`x_0 … x_n | y_0 … y_n`)
/// become pairs (`x_0 y_0 x_1 y_1 …`), which is how GGUF's rotary embedding turns them.
fn paired(row: usize, head_width: usize) -> usize {
    row % 2 * (head_width / 2) + row / 2
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
    use super::paired;

    #[test]
    fn halves_of_a_head_become_pairs() {
        let order: Vec<usize> = (0..8).map(|row| paired(row, 8)).collect();
        assert_eq!(order, [0, 4, 1, 5, 2, 6, 3, 7]);
    }
}
