//! Adapters as GGUF files: llama.cpp's LoRA format, in and out.
//!
//! ```text
//! general.type "adapter"   general.architecture "llama"   adapter.type "lora"   adapter.lora.alpha f32
//! blk.N.<linear>.weight.lora_a   [inputs, R]     (fastest axis first)
//! blk.N.<linear>.weight.lora_b   [R, outputs]
//! ```
//! R is taken from each pair; the factor is `alpha / R`, or 1 where alpha is 0. graft adds
//! `graft.base.fingerprint` and `graft.base.name`, which other readers ignore.
//!
//! A projector that was trained together with an adapter is not in its file: llama.cpp refuses
//! adapters with any other tensor. It goes into an mmproj file of its own beside the adapter
//! ([`crate::model::Vision::write_with_projector`]), which every runtime reads.

use std::path::Path;
use std::sync::Arc;

use graft_kernels::QuantType;
use half::{bf16, f16};

use super::{Adapter, AdapterError, BaseIdentity, LoraPair, Values};
use crate::gguf::{Gguf, Metadata, TensorDeclaration, TensorInfo, Value, Writer};
use crate::model::Site;

const ALPHA: &str = "adapter.lora.alpha";
const FINGERPRINT: &str = "graft.base.fingerprint";
const BASE_NAME: &str = "graft.base.name";
const A: &str = ".weight.lora_a";
const B: &str = ".weight.lora_b";

/// Reads an adapter file.
///
/// # Errors
/// If it cannot be read, is no LoRA adapter for a llama model, or any tensor in it is unpaired, of
/// unfitting shape, not finite, or at a place graft does not adapt.
pub fn read(path: &Path) -> Result<Adapter, AdapterError> {
    let name = path
        .file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    from_gguf(&Arc::new(Gguf::open(path)?), &name, path)
}

/// The adapter in an open file; `name` is its name where the file has none.
///
/// # Errors
/// As [`read`].
pub fn from_gguf(gguf: &Arc<Gguf>, name: &str, path: &Path) -> Result<Adapter, AdapterError> {
    let metadata = gguf.metadata();
    for (key, expected) in [
        ("general.type", "adapter"),
        ("general.architecture", "llama"),
        ("adapter.type", "lora"),
    ] {
        let found = metadata.opt_str(key)?.unwrap_or("missing");
        if found != expected {
            let (path, found) = (path.into(), found.into());
            return Err(AdapterError::NotAnAdapter {
                path,
                key,
                found,
                expected,
            });
        }
    }
    if metadata.get("adapter.alora.invocation_tokens").is_some() {
        return Err(AdapterError::Unsupported {
            what: "an activated LoRA (adapter.alora.invocation_tokens)".into(),
            advice: "train a plain LoRA adapter",
        });
    }
    let alpha = metadata.opt_f32(ALPHA)?.unwrap_or(0.0);
    let mut pairs = Vec::new();
    for info in gguf.tensors() {
        if let Some(place) = info.name.strip_suffix(B) {
            let partner = format!("{place}{A}");
            if gguf.position(&partner).is_none() {
                let tensor = info.name.clone();
                return Err(AdapterError::Half { tensor, partner });
            }
            continue;
        }
        let place = info.name.strip_suffix(A);
        let Some(site) = place
            .and_then(Site::parse)
            .filter(|s| s.in_layer().is_some())
        else {
            return Err(AdapterError::UnknownTensor {
                tensor: info.name.clone(),
            });
        };
        let partner = format!("{site}{B}");
        let (Some(a), Some(b)) = (gguf.position(&info.name), gguf.position(&partner)) else {
            return Err(AdapterError::Half {
                tensor: info.name.clone(),
                partner,
            });
        };
        pairs.push((site, pair(gguf, [a, b], alpha)?));
    }
    let base = BaseIdentity {
        fingerprint: metadata.opt_str(FINGERPRINT)?.map(str::to_owned),
        name: metadata.opt_str(BASE_NAME)?.map(str::to_owned),
    };
    let name = metadata.opt_str("general.name")?.unwrap_or(name);
    Adapter::new(name, base, alpha, pairs)
}

fn pair(gguf: &Arc<Gguf>, tensors: [usize; 2], alpha: f32) -> Result<LoraPair, AdapterError> {
    let shape = |info: &TensorInfo, reason: &str| AdapterError::Shape {
        tensor: info.name.clone(),
        found: info.shape.clone(),
        reason: reason.into(),
    };
    let [a, b] = tensors.map(|tensor| &gguf.tensors()[tensor]);
    let (&[_, rank], &[b_rank, _]) = (&a.shape[..], &b.shape[..]) else {
        return Err(shape(a, "a low-rank pair is two matrices"));
    };
    if rank != b_rank {
        return Err(shape(b, &format!("its partner has rank {rank}")));
    }
    let scale = if alpha == 0.0 {
        1.0
    } else {
        alpha / rank as f32
    };
    let [a_values, b_values] = tensors.map(|tensor| Values::stored(gguf, tensor));
    LoraPair::new(a_values, b_values, rank, scale).ok_or_else(|| shape(a, "empty"))
}

/// Writes an adapter file; it appears whole or not at all.
///
/// A file has one alpha. Where a pair's own scale is not `alpha / R`, the difference is multiplied
/// into its B.
///
/// # Errors
/// If the disk refuses.
pub fn write(path: &Path, adapter: &Adapter) -> crate::Result<()> {
    write_as(path, adapter, QuantType::F32)
}

/// The same with the values stored as F32, F16 or BF16. Values that F16 cannot hold become infinite, which
/// [`read`] refuses.
///
/// # Errors
/// If the disk refuses, or for any other type.
pub fn write_as(path: &Path, adapter: &Adapter, quant_type: QuantType) -> crate::Result<()> {
    if quant_type.block_len() != 1 {
        return Err(AdapterError::Unsupported {
            what: format!("an adapter in {quant_type}"),
            advice: "choose F32, F16 or BF16",
        }
        .into());
    }
    let text = |s: &str| Value::String(s.to_owned());
    let mut metadata: Metadata = [
        ("general.type", text("adapter")),
        ("general.architecture", text("llama")),
        ("general.name", text(adapter.name())),
        ("adapter.type", text("lora")),
        (ALPHA, Value::F32(adapter.alpha())),
    ]
    .into_iter()
    .collect();
    if let Some(fingerprint) = &adapter.base().fingerprint {
        metadata.insert(FINGERPRINT, text(fingerprint));
    }
    if let Some(name) = &adapter.base().name {
        metadata.insert(BASE_NAME, text(name));
    }
    let declare = |name: String, shape: [usize; 2]| TensorDeclaration {
        name,
        shape: shape.into(),
        quant_type,
    };
    let declarations: Vec<_> = adapter
        .iter()
        .flat_map(|(site, pair)| {
            [
                declare(format!("{site}{A}"), [pair.inputs(), pair.rank()]),
                declare(format!("{site}{B}"), [pair.rank(), pair.outputs()]),
            ]
        })
        .collect();
    let mut writer = Writer::create(path, &metadata, &declarations)?;
    for (_, pair) in adapter.iter() {
        let stated = match adapter.alpha() {
            0.0 => 1.0,
            alpha => alpha / pair.rank() as f32,
        };
        writer.write_tensor(&bytes(quant_type, &pair.a, 1.0))?;
        writer.write_tensor(&bytes(quant_type, &pair.b, pair.scale / stated))?;
    }
    writer.finish()
}

fn bytes(quant_type: QuantType, values: &[f32], factor: f32) -> Vec<u8> {
    let scaled = values
        .iter()
        .map(|v| if factor == 1.0 { *v } else { v * factor });
    match quant_type {
        QuantType::F16 => scaled
            .flat_map(|v| f16::from_f32(v).to_le_bytes())
            .collect(),
        QuantType::BF16 => scaled
            .flat_map(|v| bf16::from_f32(v).to_le_bytes())
            .collect(),
        _ => scaled.flat_map(f32::to_le_bytes).collect(),
    }
}
