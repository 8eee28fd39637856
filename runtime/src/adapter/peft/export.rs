//! An adapter to a folder that PEFT loads.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

use super::{Layout, TENSORS, WRAPPER};
use crate::Result;
use crate::adapter::folder::{CONFIG, io, rows};
use crate::adapter::pair::transposed;
use crate::adapter::{Adapter, AdapterError};
use crate::atomic_file::without_temporary_name;
use crate::model::{LlamaShape, Site, SiteKind};

/// What the folder says about the model it is for.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// The class it will be loaded into.
    pub layout: Layout,
    /// `base_model_name_or_path`; PEFT's own loaders need it, unless the model is given to them.
    pub base_model: Option<String>,
}

/// Writes `adapter`, made for a language model of this shape, as a folder; it appears whole or not
/// at all. The files hold f32.
///
/// # Errors
/// If the adapter does not fit the shape, `folder` exists and is not empty, or the disk refuses.
pub fn write(
    folder: &Path,
    adapter: &Adapter,
    shape: &LlamaShape,
    options: &ExportOptions,
) -> Result<()> {
    adapter
        .check_shape(shape)
        .map_err(|reason| AdapterError::DoesNotFit {
            adapter: adapter.name().to_owned(),
            made_for: adapter.base().name.clone().unwrap_or_default(),
            found: "the model it is exported for".into(),
            reason,
        })?;
    let config = serde_json::to_vec_pretty(&config(adapter, shape, options));
    let config = config.expect("plain values become JSON");
    let tensors = tensors(adapter, shape, options.layout)?;
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty());
    let partial = tempfile::Builder::new()
        .prefix(".graft-")
        .suffix(".partial")
        .tempdir_in(parent.unwrap_or(Path::new(".")))
        .map_err(|e| io("create", folder)(without_temporary_name(e)))?;
    for (name, bytes) in [(CONFIG, config), (TENSORS, tensors)] {
        let path = partial.path().join(name);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(io("write", &folder.join(name)))?;
    }
    // Temporary folders are private; this one becomes an ordinary folder.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(partial.path(), open).map_err(io("write", folder))?;
    }
    if folder.exists() {
        // Refuses a folder that is not empty.
        fs::remove_dir(folder).map_err(io("replace", folder))?;
    }
    fs::rename(partial.path(), folder).map_err(io("write", folder))?;
    // The folder has its final name now; there is nothing temporary left to delete.
    let _ = partial.keep();
    Ok(())
}

fn tensors(adapter: &Adapter, shape: &LlamaShape, layout: Layout) -> Result<Vec<u8>> {
    let mut arrays = Vec::new();
    for (site, pair) in adapter.iter() {
        let (rank, inputs, outputs) = (pair.rank(), pair.inputs(), pair.outputs());
        let halves = match site {
            // The other way round, as it is looked up.
            Site::Embedding => [
                (
                    ".lora_embedding_A",
                    [rank, outputs],
                    transposed(&pair.b, rank),
                ),
                (
                    ".lora_embedding_B",
                    [inputs, rank],
                    transposed(&pair.a, inputs),
                ),
            ],
            _ => [
                (".lora_A.weight", [rank, inputs], pair.a.to_vec()),
                (
                    ".lora_B.weight",
                    [outputs, rank],
                    rows::to_hf(pair.b.to_vec(), rank, shape, site),
                ),
            ],
        };
        for (half, sizes, values) in halves {
            let name = format!("{WRAPPER}{}{half}", layout.module(site));
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            arrays.push((name, sizes, bytes));
        }
    }
    let views = arrays.iter().map(|(name, sizes, bytes)| {
        let view = TensorView::new(Dtype::F32, sizes.to_vec(), bytes);
        (name, view.expect("four bytes per value"))
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| {
        let (path, reason) = (PathBuf::from(TENSORS), e.to_string());
        AdapterError::InFolder { path, reason }.into()
    })
}

fn config(adapter: &Adapter, shape: &LlamaShape, options: &ExportOptions) -> Value {
    let rank = most_common(adapter.iter().map(|(_, pair)| pair.rank())).unwrap_or(1);
    // PEFT divides alpha by the rank; in f64 both ways are exact.
    let alpha_of = |scale: f32, rank: usize| f64::from(scale) * rank as f64;
    let alpha = most_common(
        adapter
            .iter()
            .map(|(_, pair)| alpha_of(pair.scale, pair.rank()).to_bits()),
    );
    let alpha = f64::from_bits(alpha.unwrap_or_default());
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for (site, pair) in adapter.iter() {
        let name = options.layout.module(site);
        if pair.rank() != rank {
            ranks.insert(name.clone(), pair.rank().into());
        }
        let own = alpha_of(pair.scale, pair.rank());
        if own != alpha {
            alphas.insert(name, number(own));
        }
    }
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": options.base_model,
        "inference_mode": true,
        "r": rank,
        "lora_alpha": number(alpha),
        "lora_dropout": 0.0,
        "target_modules": targets(adapter, shape, options.layout),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "use_rslora": false,
        "use_dora": false,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
    })
}

/// Names PEFT may match anywhere where that hits the right modules, otherwise whole paths: `q_proj`
/// alone would be found in LLaVA's vision tower as well.
fn targets(adapter: &Adapter, shape: &LlamaShape, layout: Layout) -> Vec<String> {
    let adapted = |kind: &SiteKind| {
        let mut sites = adapter.iter().filter_map(|(site, _)| site.in_layer());
        sites.any(|(_, linear)| linear == *kind)
    };
    let kinds: Vec<SiteKind> = SiteKind::ALL.into_iter().filter(adapted).collect();
    let in_layers = adapter.iter().all(|(site, _)| site.in_layer().is_some());
    let everywhere = in_layers && adapter.iter().count() == kinds.len() * shape.layers;
    if everywhere && layout == Layout::CausalLm {
        return kinds.iter().map(|kind| kind.hf_name().into()).collect();
    }
    let paths = adapter.iter().map(|(site, _)| layout.module(site));
    paths.collect()
}

/// Integers without a fraction, as PEFT writes them.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e9 {
        return (value as i64).into();
    }
    value.into()
}

fn most_common<T: Copy + Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_insert(0) += 1);
    let most = counts.into_iter().max_by_key(|&(_, count)| count);
    most.map(|(value, _)| value)
}
