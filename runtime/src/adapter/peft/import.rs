//! A PEFT folder to an adapter.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use graft_kernels::{QuantType, blocks};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::config::Config;
use super::{CONFIG, Layout, TENSORS, WRAPPER, io, rows};
use crate::adapter::{Adapter, AdapterError, BaseIdentity, LoraPair};
use crate::error::{Error, Result};
use crate::model::{LlamaShape, Site};

/// No configuration is longer than this.
const LONGEST_CONFIG: u64 = 1 << 20;

/// Reads a folder that PEFT saved, for a language model of this shape.
///
/// # Errors
/// If a file is missing or malformed, if the adapter does anything that graft's do not (the
/// sentence says what), or if it does not fit the shape.
pub fn read(folder: &Path, shape: &LlamaShape) -> Result<Adapter> {
    let config = Config::parse(&config_text(folder)?)
        .map_err(|reason| wrong(&folder.join(CONFIG), reason))?;
    refuse_other_files(folder)?;
    let path = folder.join(TENSORS);
    let bytes = fs::read(&path).map_err(io("read", &path))?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|e| wrong(&path, format!("it is not a safetensors file: {e}")))?;
    let refuse = |reason: String| wrong(&path, reason);
    // Sites in order, each with its module's path and its two matrices.
    let mut sites: BTreeMap<Site, (String, [Option<Matrix>; 2])> = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let (module, half) = module_of(&name).map_err(refuse)?;
        let site = site_of(module).map_err(refuse)?;
        if site.layer >= shape.layers {
            return Err(refuse(format!(
                "{name} adapts layer {}, but the model has {} layers",
                site.layer, shape.layers
            )));
        }
        let matrix = Matrix::read(&name, &view).map_err(refuse)?;
        let entry = sites.entry(site);
        let (known, halves) = entry.or_insert_with(|| (module.to_owned(), [None, None]));
        if known != module || halves[half].replace(matrix).is_some() {
            return Err(AdapterError::Twice { site }.into());
        }
    }
    let pairs = sites.into_iter().map(|(site, (module, halves))| {
        let [Some(a), Some(b)] = halves else {
            return Err(refuse(format!(
                "{module} has only one of lora_A and lora_B; the file is incomplete"
            )));
        };
        let pair = pair(
            a,
            b,
            site,
            shape,
            config.rank(&module),
            config.scale(&module),
        );
        Ok((
            site,
            pair.map_err(|reason| refuse(format!("{module}: {reason}")))?,
        ))
    });
    let pairs: Vec<_> = pairs.collect::<Result<_>>()?;
    let base = BaseIdentity {
        fingerprint: None,
        name: config.base_model.clone(),
    };
    let name = folder.file_name();
    let name = name.map_or_else(|| "adapter".into(), |n| n.to_string_lossy().into_owned());
    Ok(Adapter::new(name, base, config.stated_alpha(), pairs)?)
}

/// Length of the file with a folder's values, in bytes.
pub(in crate::adapter) fn file_bytes(folder: &Path) -> Result<u64> {
    let path = folder.join(TENSORS);
    Ok(fs::metadata(&path).map_err(io("read", &path))?.len())
}

fn config_text(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(CONFIG);
    let length = fs::metadata(&path).map_err(io("read", &path))?.len();
    if length > LONGEST_CONFIG {
        return Err(wrong(&path, format!("{length} bytes are no configuration")));
    }
    fs::read(&path).map_err(io("read", &path))
}

/// Weights in other files would be lost without a word.
fn refuse_other_files(folder: &Path) -> Result<()> {
    let projector = folder.join("non_lora_trainables.bin");
    if projector.exists() {
        let reason = "it holds trained weights beside the adapter (LLaVA's projector); convert \
                      them into an mmproj file, use that with the adapter, and move this file away";
        return Err(wrong(&projector, reason.into()));
    }
    let pickle = folder.join("adapter_model.bin");
    if !folder.join(TENSORS).exists() && pickle.exists() {
        let reason = "pickled weights can run code and are not read; load the adapter with PEFT \
                      and save it again (save_pretrained writes safetensors)";
        return Err(wrong(&pickle, reason.into()));
    }
    Ok(())
}

/// The module of a tensor, and 0 for its A or 1 for its B.
fn module_of(name: &str) -> Result<(&str, usize), String> {
    let path = name.strip_prefix(WRAPPER).unwrap_or(name);
    let split = |half: &str| {
        let (module, rest) = path.split_once(half)?;
        let inner = rest.strip_suffix("weight")?.strip_prefix('.')?;
        // Trainers that save by hand leave the adapter's name in: `.lora_A.default.weight`.
        let plain = inner.is_empty() || inner.find('.') == Some(inner.len() - 1);
        plain.then_some(module)
    };
    for (half, marker) in [".lora_A", ".lora_B"].into_iter().enumerate() {
        if let Some(module) = split(marker) {
            return Ok((module, half));
        }
    }
    let advice = if name.contains("lora_magnitude_vector") {
        "it belongs to a DoRA adapter, which is not supported; merge it with PEFT instead"
    } else if name.contains("lora_embedding") {
        "adapted embeddings are not supported; train without them"
    } else {
        "it is no part of a plain LoRA adapter, and nothing is silently ignored"
    };
    Err(format!("{name}: {advice}"))
}

fn site_of(module: &str) -> Result<Site, String> {
    let site = Layout::ALL
        .into_iter()
        .map(Layout::layers)
        .chain(["layers"]) // adapters of a bare LlamaModel
        .find_map(|layers| module.strip_prefix(layers)?.strip_prefix('.'))
        .and_then(Site::parse_hf);
    site.ok_or_else(|| {
        let what = if module.contains("vision_tower") {
            "an adapter of the vision tower; train again with target modules of the language model only"
        } else if module.contains("projector") {
            "an adapter of the projector; merge it into the base with PEFT and convert that"
        } else if module.contains("lm_head") || module.contains("embed_tokens") {
            "an adapter of the embeddings or the output; train again without it"
        } else {
            "at no place that graft adapts; is this an adapter of a LLaMA model?"
        };
        format!("{module} is {what}")
    })
}

/// `[rows, columns]`.
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn read(name: &str, view: &TensorView<'_>) -> Result<Self, String> {
        let &[rows, columns] = view.shape() else {
            return Err(format!(
                "{name} has shape {:?}, not a matrix's",
                view.shape()
            ));
        };
        let quant_type = match view.dtype() {
            Dtype::F32 => QuantType::F32,
            Dtype::F16 => QuantType::F16,
            Dtype::BF16 => QuantType::BF16,
            other => return Err(format!("{name} is {other:?}; save it as F32, F16 or BF16")),
        };
        // The safetensors reader has checked that the data is as long as the shape says.
        let mut values = vec![0.0; view.data().len() / quant_type.block_bytes()];
        blocks::decode(quant_type, view.data(), &mut values);
        Ok(Self {
            rows,
            columns,
            values,
        })
    }
}

fn pair(
    a: Matrix,
    b: Matrix,
    site: Site,
    shape: &LlamaShape,
    rank: usize,
    scale: f32,
) -> Result<LoraPair, String> {
    let (outputs, inputs) = shape.linear(site.linear);
    if (a.rows, b.columns) != (rank, rank) {
        return Err(format!(
            "the configuration says rank {rank}, the tensors {} and {}",
            a.rows, b.columns
        ));
    }
    if (b.rows, a.columns) != (outputs, inputs) {
        return Err(format!(
            "it is {inputs} to {outputs} in the model, {} to {} in the adapter; is this another base?",
            a.columns, b.rows
        ));
    }
    let b = rows::to_gguf(b.values, rank, shape, site.linear);
    LoraPair::new(a.values, b, rank, scale).ok_or_else(|| "it is empty".into())
}

fn wrong(path: &Path, reason: String) -> Error {
    let path = path.to_owned();
    AdapterError::Peft { path, reason }.into()
}
