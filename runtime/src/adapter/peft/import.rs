//! A PEFT folder to an adapter.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use super::config::Config;
use super::{Layout, TENSORS, WRAPPER};
use crate::adapter::folder::{
    CONFIG, Matrix, Places, check_layer, config_text, io, name_of, wrong,
};
use crate::adapter::{Adapter, BaseIdentity};
use crate::error::Result;
use crate::model::{LlamaShape, Site};

/// Reads a folder that PEFT saved, for a language model of this shape.
///
/// # Errors
/// If a file is missing or malformed, if the adapter does anything that graft's do not (the
/// sentence says what), or if it does not fit the shape.
pub fn read(folder: &Path, shape: &LlamaShape) -> Result<Adapter> {
    let config_path = folder.join(CONFIG);
    let config =
        Config::parse(&config_text(folder)?).map_err(|reason| wrong(&config_path, reason))?;
    refuse_other_files(folder)?;
    let path = folder.join(TENSORS);
    let bytes = fs::read(&path).map_err(io("read", &path))?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|e| wrong(&path, format!("it is not a safetensors file: {e}")))?;
    let refuse = |reason: String| wrong(&path, reason);
    let mut places = Places::default();
    for (name, view) in tensors.tensors() {
        let (module, half) = module_of(&name).map_err(refuse)?;
        let site = site_of(module).map_err(refuse)?;
        check_layer(&name, site, shape).map_err(refuse)?;
        if let Some(reason) = config.why_not(module) {
            let reason = format!(
                "{name} is in {TENSORS}, but {reason}, so PEFT would not use it; correct one of the two"
            );
            return Err(wrong(&config_path, reason));
        }
        let matrix = Matrix::read(&name, &view).map_err(refuse)?;
        places.add(site, module, half, matrix)?;
    }
    let pairs = places.pairs(shape, |module| (config.rank(module), config.scale(module)));
    let pairs = pairs.map_err(refuse)?;
    let base = BaseIdentity {
        fingerprint: None,
        name: config.base_model.clone(),
    };
    let alpha = config.stated_alpha();
    Ok(Adapter::new(name_of(folder), base, alpha, pairs)?)
}

/// Weights in other files would be lost without a word.
fn refuse_other_files(folder: &Path) -> Result<()> {
    let projector = folder.join("non_lora_trainables.bin");
    if projector.exists() {
        let reason = "it holds trained weights beside the adapter (LLaVA's projector); \
                      docs/scripts/llava_bin_to_safetensors.py makes an mmproj file of them and a \
                      folder of the adapter, to be used together";
        return Err(wrong(&projector, reason.into()));
    }
    let pickle = folder.join("adapter_model.bin");
    if !folder.join(TENSORS).exists() && pickle.exists() {
        let reason = "pickled weights can run code and are not read; \
                      docs/scripts/llava_bin_to_safetensors.py makes a folder with safetensors of \
                      them, and so does PEFT's save_pretrained";
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

/// The place of a module, such as `model.layers.0.self_attn.q_proj`.
pub(in crate::adapter) fn site_of(module: &str) -> Result<Site, String> {
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
