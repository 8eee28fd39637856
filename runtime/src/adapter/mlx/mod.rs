//! Adapters as folders of mlx-lm, Apple's trainer: in only.
//!
//! ```text
//! adapter_config.json    fine_tune_type "lora", num_layers, lora_parameters {rank, scale, keys, …}
//! adapters.safetensors   model.layers.<N>.self_attn.q_proj.lora_a   [inputs, R]
//!                                                         .lora_b   [R, outputs]
//! ```
//! Both matrices are PEFT's transposed, and `scale` is the whole factor of `B A`: nothing is divided
//! by the rank.

mod config;

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use super::folder::{CONFIG, Matrix, Places, check_layer, config_text, io, name_of, wrong};
use super::{Adapter, BaseIdentity, peft};
use crate::error::Result;
use crate::model::LlamaShape;
use config::Config;

/// The name of the file with the matrices.
pub(super) const TENSORS: &str = "adapters.safetensors";

/// Reads a folder that mlx-lm saved, for a language model of this shape.
///
/// # Errors
/// If a file is missing or malformed, if it is no plain LoRA (the sentence says what), or if it does
/// not fit the shape.
pub fn read(folder: &Path, shape: &LlamaShape) -> Result<Adapter> {
    let config_path = folder.join(CONFIG);
    let config =
        Config::parse(&config_text(folder)?).map_err(|reason| wrong(&config_path, reason))?;
    let path = folder.join(TENSORS);
    let bytes = fs::read(&path).map_err(io("read", &path))?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|e| wrong(&path, format!("it is not a safetensors file: {e}")))?;
    let refuse = |reason: String| wrong(&path, reason);
    let mut places = Places::default();
    for (name, view) in tensors.tensors() {
        let (module, half) = module_of(&name).map_err(refuse)?;
        let site = peft::site_of(module).map_err(refuse)?;
        check_layer(&name, site, shape).map_err(refuse)?;
        if let Some(reason) = config.why_not(module, site, shape.layers) {
            let reason = format!(
                "{name} is in {TENSORS}, but {reason}, so mlx-lm would not load it; correct one of the two"
            );
            return Err(wrong(&config_path, reason));
        }
        let matrix = Matrix::read(&name, &view).map_err(refuse)?;
        places.add(site, module, half, matrix.transposed())?;
    }
    let pairs = places.pairs(shape, |_| (config.rank, config.scale));
    let pairs = pairs.map_err(refuse)?;
    let base = BaseIdentity {
        fingerprint: None,
        name: config.base_model.clone(),
    };
    let alpha = config.scale * config.rank as f32;
    Ok(Adapter::new(name_of(folder), base, alpha, pairs)?)
}

/// The module of a tensor, and 0 for its A or 1 for its B.
fn module_of(name: &str) -> Result<(&str, usize), String> {
    for (half, end) in [".lora_a", ".lora_b"].into_iter().enumerate() {
        if let Some(module) = name.strip_suffix(end) {
            return Ok((module, half));
        }
    }
    let advice = if name.ends_with(".m") {
        "it belongs to a DoRA adapter, which is not supported; fuse it with mlx_lm.fuse and convert \
         the model"
    } else {
        "it is no part of a plain LoRA adapter, and nothing is silently ignored"
    };
    Err(format!("{name}: {advice}"))
}
