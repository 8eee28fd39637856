//! A PEFT folder to an adapter.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use super::config::Config;
use super::{TENSORS, WRAPPER, modules};
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
        let (module, half) = match part_of(&name).map_err(refuse)? {
            Part::Half(module, half) => (module, half),
            Part::Frozen => {
                check_frozen(&name, view.shape(), shape).map_err(refuse)?;
                continue;
            }
        };
        let site = modules::site_of(module).map_err(refuse)?;
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
    let outside = |site: &Site| matches!(site, Site::Embedding | Site::Output);
    if config.ties && pairs.iter().any(|(site, _)| outside(site)) {
        let reason = "ensure_weight_tying makes one pair of those of the embedding and the output, which graft \
                      keeps apart; train without it";
        return Err(wrong(&config_path, reason.into()));
    }
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

/// What a tensor of a folder is.
enum Part<'a> {
    /// A (0) or B (1) of a module.
    Half(&'a str, usize),
    /// A frozen matrix, which PEFT saves beside pairs of the embedding and the output.
    Frozen,
}

fn part_of(name: &str) -> Result<Part<'_>, String> {
    let path = name.strip_prefix(WRAPPER).unwrap_or(name);
    // Trainers that save by hand leave the adapter's name in: `.lora_A.default.weight`.
    let is_name = |text: &str| !text.is_empty() && !text.contains('.');
    let linear = |half: &str| {
        let (module, rest) = path.split_once(half)?;
        let inner = rest.strip_suffix("weight")?.strip_prefix('.')?;
        let plain = inner.is_empty() || inner.strip_suffix('.').is_some_and(is_name);
        plain.then_some(module)
    };
    let embedding = |half: &str| {
        let (module, rest) = path.split_once(half)?;
        let plain = rest.is_empty() || rest.strip_prefix('.').is_some_and(is_name);
        plain.then_some(module)
    };
    for (half, letter) in ["A", "B"].into_iter().enumerate() {
        let module = linear(&format!(".lora_{letter}"));
        let module = module.or_else(|| embedding(&format!(".lora_embedding_{letter}")));
        if let Some(module) = module {
            let looked_up = name.contains(".lora_embedding_");
            if looked_up != (modules::site_of(module)? == Site::Embedding) {
                return Err(format!(
                    "{name}: lora_embedding_{letter} belongs to the embedding and lora_{letter} to linear layers"
                ));
            }
            return Ok(Part::Half(module, half));
        }
    }
    if let Some(module) = path.strip_suffix(".base_layer.weight")
        && let Ok(Site::Embedding | Site::Output) = modules::site_of(module)
    {
        return Ok(Part::Frozen);
    }
    let advice = if name.contains("lora_magnitude_vector") {
        "it belongs to a DoRA adapter, which is not supported; merge it with PEFT instead"
    } else {
        "it is no part of a plain LoRA adapter, and nothing is silently ignored"
    };
    Err(format!("{name}: {advice}"))
}

/// The frozen matrix is the base's unless the vocabulary was changed before training.
fn check_frozen(name: &str, found: &[usize], shape: &LlamaShape) -> Result<(), String> {
    let expected = [shape.vocabulary, shape.width];
    match found == expected {
        true => Ok(()),
        false => Err(format!(
            "{name} is {found:?}, the model's is {expected:?}: the adapter was trained with another vocabulary; \
             convert the model that it was trained with"
        )),
    }
}
