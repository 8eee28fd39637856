//! A float model to a block type: tensor by tensor, rows in parallel, under a name of its own only
//! when complete.
//!
//! Memory: the largest tensor as written, and a million weights in f32 per worker. The
//! input is mapped and read once from beginning to end.

mod encode;
mod error;
mod mix;
#[cfg(test)]
mod tests;

use std::path::Path;

use graft_kernels::QuantType;

pub use encode::RoundingError;
use encode::encode_rows;
pub(crate) use encode::{Added, Addition, decode_rows};
pub use error::QuantizeError;
pub use mix::Mix;

use crate::Result;
use crate::cancel::Cancel;
use crate::gguf::{Gguf, Metadata, Tensor, TensorDeclaration, TensorInfo, Value, Writer};
use crate::threads::Pool;

/// The revision of the block formats; llama.cpp writes it to `general.quantization_version`.
const QUANTIZATION_VERSION: u32 = 2;

/// How to work.
#[derive(Clone, Copy, Default)]
pub struct QuantizeOptions<'a> {
    /// Workers; 0 means one per core.
    pub threads: usize,
    /// Told after every tensor.
    pub progress: Option<&'a dyn Fn(Progress<'_>)>,
    /// Stops the work when raised.
    pub cancel: Option<&'a Cancel>,
    /// Convert tensors that are in a block type already, adding the new error to the old.
    pub allow_requantize: bool,
}

impl std::fmt::Debug for QuantizeOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuantizeOptions")
            .field("threads", &self.threads)
            .field("cancel", &self.cancel)
            .field("allow_requantize", &self.allow_requantize)
            .finish_non_exhaustive()
    }
}

/// How far the work is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The tensor just written.
    pub tensor: &'a str,
    /// Weights written so far.
    pub weights: u64,
    /// Weights of the whole file.
    pub of: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Every tensor, in the order of the file.
    pub tensors: Vec<TensorReport>,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors now.
    pub bytes_after: u64,
}

impl Report {
    /// Bits per weight over the whole file.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: u64 = self.tensors.iter().map(|t| t.weights).sum();
        8.0 * self.bytes_after as f64 / weights.max(1) as f64
    }

    /// The tensor that lost most, relative to its weights.
    pub fn worst(&self) -> Option<&TensorReport> {
        let relative = |t: &&TensorReport| t.error.relative();
        self.tensors
            .iter()
            .max_by(|a, b| relative(a).total_cmp(&relative(b)))
    }
}

/// What became of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type before.
    pub from: QuantType,
    /// Its type now.
    pub to: QuantType,
    /// Its number of weights.
    pub weights: u64,
    /// What that has cost; zero for a tensor that was copied.
    pub error: RoundingError,
}

/// Writes the model or vision file `input` to `output` with its matrices stored as `mix` says;
/// metadata and order are kept. `output` appears whole or not at all.
///
/// # Errors
/// If `input` cannot be read or is no llama or clip file, if a matrix that would change is in a
/// block type already (see [`QuantizeOptions::allow_requantize`]), holds what is not finite or does
/// not fit the type, if the disk refuses, or the flag is raised.
pub fn quantize(
    input: &Path,
    output: &Path,
    mix: Mix,
    options: &QuantizeOptions<'_>,
) -> Result<Report> {
    let gguf = Gguf::open(input)?;
    let types = mix.types(gguf.metadata(), gguf.tensors())?;
    let changed = || {
        let pairs = gguf.tensors().iter().zip(&types);
        pairs.filter(|(info, to)| info.quant_type != **to)
    };
    if !options.allow_requantize
        && let Some((info, _)) = changed().find(|(info, _)| info.quant_type.block_len() > 1)
    {
        return Err(QuantizeError::AlreadyQuantized {
            tensor: info.name.clone(),
            found: info.quant_type,
        }
        .into());
    }
    let metadata = metadata_of(&gguf, mix);
    let (report, _) = rewrite(&gguf, &metadata, &types, output, options, &|_| None)?;
    Ok(report)
}

/// Writes `gguf` with other metadata and `types`, tensor by tensor; `addition` says what is added to
/// which. A tensor that keeps its type and gets no addition is copied. The second list says what became
/// of each tensor's addition.
///
/// # Errors
/// As [`quantize`], but for tensors in a block type.
pub(crate) fn rewrite<'a>(
    gguf: &Gguf,
    metadata: &Metadata,
    types: &[QuantType],
    output: &Path,
    options: &QuantizeOptions<'_>,
    addition: &dyn Fn(&TensorInfo) -> Option<Addition<'a>>,
) -> Result<(Report, Vec<Option<Added>>)> {
    let pairs = || gguf.tensors().iter().zip(types);
    let declarations: Vec<_> = pairs()
        .map(|(info, &quant_type)| TensorDeclaration {
            name: info.name.clone(),
            shape: info.shape.clone(),
            quant_type,
        })
        .collect();
    let pool = Pool::new(options.threads)?;
    let never = Cancel::new();
    let cancel = options.cancel.unwrap_or(&never);
    let mut writer = Writer::create(output, metadata, &declarations)?;
    let mut report = Report {
        tensors: Vec::with_capacity(types.len()),
        bytes_before: 0,
        bytes_after: 0,
    };
    let of = pairs().map(|(info, _)| info.elements() as u64).sum();
    let (mut weights, mut added) = (0, Vec::with_capacity(types.len()));
    for (index, (info, &to)) in pairs().enumerate() {
        cancel.check()?;
        let tensor = Tensor {
            info,
            data: gguf.data(index),
        };
        let addition = addition(info);
        let (written, error) = if info.quant_type == to && addition.is_none() {
            write(&mut writer, tensor.data, cancel)?;
            added.push(None);
            (info.bytes, RoundingError::default())
        } else {
            let encoded = encode_rows(&pool, cancel, tensor, to, addition.as_ref())?;
            write(&mut writer, &encoded.bytes, cancel)?;
            added.push(encoded.added);
            (encoded.bytes.len(), encoded.error)
        };
        weights += info.elements() as u64;
        report.bytes_before += info.bytes as u64;
        report.bytes_after += written as u64;
        report.tensors.push(TensorReport {
            name: info.name.clone(),
            from: info.quant_type,
            to,
            weights: info.elements() as u64,
            error,
        });
        if let Some(progress) = options.progress {
            let tensor = &info.name;
            progress(Progress {
                tensor,
                weights,
                of,
            });
        }
    }
    writer.finish()?;
    Ok((report, added))
}

/// Writes the data of the next tensor, unless the flag is raised meanwhile: a large one takes a disk a while.
fn write(writer: &mut Writer, data: &[u8], cancel: &Cancel) -> Result<()> {
    const AT_ONCE: usize = 4 << 20;
    let (parts, rest) = data.as_chunks::<AT_ONCE>();
    for part in parts {
        cancel.check()?;
        writer.write_part(part)?;
    }
    match rest.is_empty() && !parts.is_empty() {
        true => Ok(()),
        false => writer.write_part(rest),
    }
}

/// The file's own metadata, with the new type in it.
pub(crate) fn metadata_of(gguf: &Gguf, mix: Mix) -> Metadata {
    let mut metadata = joined_metadata(gguf);
    metadata.insert("general.file_type", Value::U32(mix.file_type()));
    metadata.insert(
        "general.quantization_version",
        Value::U32(QUANTIZATION_VERSION),
    );
    metadata
}

/// The file's own metadata; that of a split model without what says that it is split, because what
/// is written is one file.
pub(crate) fn joined_metadata(gguf: &Gguf) -> Metadata {
    let mut metadata = gguf.metadata().clone();
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(key);
    }
    metadata
}
