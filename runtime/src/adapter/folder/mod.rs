//! Adapters as folders of other trainers: whose it is, and what those of PEFT and mlx-lm share.
//!
//! Both hold a configuration in JSON and matrices in a safetensors file. Both train Hugging Face's
//! models, whose query and key rows stand in another order than GGUF's: B's rows of those two are
//! reordered (`rows`).

mod matrix;
pub(super) mod rows;

pub(super) use matrix::{Matrix, Places};

use std::fs;
use std::path::Path;

use super::{Adapter, AdapterError, mlx, peft};
use crate::error::{Error, Result};
use crate::model::{LlamaShape, Site};

/// The configuration's name in every folder.
pub(super) const CONFIG: &str = "adapter_config.json";

/// No configuration is longer than this.
const LONGEST_CONFIG: u64 = 1 << 20;

/// Reads a folder that PEFT or mlx-lm saved, for a language model of this shape; its files say whose it
/// is.
///
/// # Errors
/// As [`peft::read`] and [`mlx::read`]; if it holds the files of both.
pub fn read(folder: &Path, shape: &LlamaShape) -> Result<Adapter> {
    if is_mlx(folder)? {
        mlx::read(folder, shape)
    } else {
        peft::read(folder, shape)
    }
}

/// Length of the file with a folder's values, in bytes.
pub(super) fn file_bytes(folder: &Path) -> Result<u64> {
    let name = if is_mlx(folder)? {
        mlx::TENSORS
    } else {
        peft::TENSORS
    };
    let path = folder.join(name);
    Ok(fs::metadata(&path).map_err(io("read", &path))?.len())
}

fn is_mlx(folder: &Path) -> Result<bool> {
    let has = |name: &str| folder.join(name).exists();
    let mlx = has(mlx::TENSORS);
    if mlx && has(peft::TENSORS) {
        let reason = format!(
            "it holds {} of mlx-lm and {} of PEFT; move the one that {CONFIG} is not about away",
            mlx::TENSORS,
            peft::TENSORS
        );
        return Err(wrong(folder, reason));
    }
    Ok(mlx)
}

/// The configuration's bytes.
///
/// # Errors
/// If it cannot be read or is too long to be one.
pub(super) fn config_text(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(CONFIG);
    let length = fs::metadata(&path).map_err(io("read", &path))?.len();
    if length > LONGEST_CONFIG {
        return Err(wrong(&path, format!("{length} bytes are no configuration")));
    }
    fs::read(&path).map_err(io("read", &path))
}

/// Refuses a layer that the model does not have.
pub(super) fn check_layer(
    name: &str,
    site: Site,
    shape: &LlamaShape,
) -> std::result::Result<(), String> {
    match site.in_layer() {
        Some((layer, _)) if layer >= shape.layers => Err(format!(
            "{name} adapts layer {layer}, but the model has {} layers",
            shape.layers
        )),
        _ => Ok(()),
    }
}

/// The name that a folder gives its adapter.
pub(super) fn name_of(folder: &Path) -> String {
    let name = folder.file_name();
    name.map_or_else(|| "adapter".into(), |n| n.to_string_lossy().into_owned())
}

pub(super) fn wrong(path: &Path, reason: String) -> Error {
    let path = path.to_owned();
    AdapterError::InFolder { path, reason }.into()
}

pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
