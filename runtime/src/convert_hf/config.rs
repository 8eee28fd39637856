//! What `config.json` says of a model: sizes and constants, with the defaults of transformers.
//!
//! Settings that would change the arithmetic and that graft does not compute are refused by name.

use serde_json::{Value, json};

use super::ConvertHfError;
use super::folder::{Folder, Keys};
use super::rope::Rope;

/// A configuration file's contents.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) language: LanguageConfig,
    /// How images are seen, for models that see.
    pub(super) sight: Option<Sight>,
    /// Token ids of the configuration; the tokenizer's own come first.
    pub(super) special: Keys,
}

/// Sizes and constants of the language model.
#[derive(Debug)]
pub(super) struct LanguageConfig {
    pub(super) width: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_width: usize,
    pub(super) feed_forward: usize,
    /// Rows of the embedding.
    pub(super) vocabulary: usize,
    pub(super) context_length: usize,
    /// What the context was cut to, where the model attends through a window.
    pub(super) window: bool,
    pub(super) norm_eps: f32,
    pub(super) rope: Rope,
    /// Whether the embedding is the output matrix too.
    pub(super) tied: bool,
}

/// How a LLaVA sees.
#[derive(Debug)]
pub(super) struct Sight {
    /// The hidden state that becomes the features; negative counts from the end.
    pub(super) feature_layer: i64,
    /// The tower's sizes, where this configuration has them.
    pub(super) tower: Option<TowerConfig>,
    /// Where the tower came from, where only its name is known.
    pub(super) tower_name: Option<String>,
    /// Why images cannot be seen as graft does it; a language model alone can still be converted.
    pub(super) refused: Option<ConvertHfError>,
    pub(super) projector_bias: bool,
}

/// Sizes and constants of a vision tower.
#[derive(Clone, Debug)]
pub(super) struct TowerConfig {
    pub(super) image_size: usize,
    pub(super) patch: usize,
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) feed_forward: usize,
    pub(super) layers: usize,
    pub(super) norm_eps: f32,
    pub(super) quick_gelu: bool,
}

impl Config {
    pub(super) fn read(folder: &Folder) -> Result<Self, ConvertHfError> {
        let Some(top) = folder.json("config.json")? else {
            return Err(ConvertHfError::MissingFile {
                folder: folder.path.clone(),
                file: "config.json".into(),
                hint: "it is no Hugging Face checkpoint, or its download is incomplete",
            });
        };
        if top.get("quantization_config").is_some() {
            return Err(top.unsupported(
                "quantization_config",
                "; convert the unquantized checkpoint and quantize the result",
            ));
        }
        match architecture(&top)?.as_str() {
            "LlamaForCausalLM" | "LLaMAForCausalLM" | "MistralForCausalLM" => Ok(Self {
                language: LanguageConfig::read(&top, None)?,
                sight: None,
                special: top,
            }),
            "LlavaForConditionalGeneration" => {
                let text = top.object("text_config")?;
                let text = text.ok_or_else(|| top.unsupported("text_config", ""))?;
                text.only("model_type", &[json!("llama"), json!("mistral")])?;
                Ok(Self {
                    language: LanguageConfig::read(&text, Some(&top))?,
                    sight: Some(Sight::nested(&top)?),
                    special: text,
                })
            }
            "LlavaLlamaForCausalLM" | "LlavaMistralForCausalLM" => Ok(Self {
                language: LanguageConfig::read(&top, None)?,
                sight: Some(Sight::original(&top)?),
                special: top,
            }),
            found => Err(ConvertHfError::Architecture {
                found: found.to_owned(),
            }),
        }
    }
}

/// The class that wrote the checkpoint, or what its model type implies.
fn architecture(top: &Keys) -> Result<String, ConvertHfError> {
    if let Some([Value::String(name), ..]) = top.array("architectures")? {
        return Ok(name.clone());
    }
    Ok(match top.str("model_type")?.as_deref() {
        Some("llama" | "mistral") => "LlamaForCausalLM".into(),
        Some("llava") if top.get("text_config").is_some() => "LlavaForConditionalGeneration".into(),
        Some("llava" | "llava_llama") => "LlavaLlamaForCausalLM".into(),
        Some(other) => other.to_owned(),
        None => "not named".into(),
    })
}

impl LanguageConfig {
    /// Reads the language model's object; `outer` is the object around it, if there is one.
    fn read(keys: &Keys, outer: Option<&Keys>) -> Result<Self, ConvertHfError> {
        keys.only("hidden_act", &[json!("silu"), json!("swish")])?;
        keys.only("partial_rotary_factor", &[json!(1), json!(1.0)])?;
        let width = keys.size("hidden_size")?.unwrap_or(4096);
        let heads = keys.size("num_attention_heads")?.unwrap_or(32);
        let kv_heads = keys.size("num_key_value_heads")?.unwrap_or(heads);
        let head_width = match keys.size("head_dim")? {
            Some(head_width) => head_width,
            None if width.is_multiple_of(heads) => width / heads,
            None => {
                return Err(ConvertHfError::Inconsistent(format!(
                    "hidden_size {width} is not a multiple of num_attention_heads {heads}"
                )));
            }
        };
        if !heads.is_multiple_of(kv_heads) || !head_width.is_multiple_of(2) {
            return Err(ConvertHfError::Inconsistent(format!(
                "{heads} attention heads of width {head_width} do not fit {kv_heads} key/value heads"
            )));
        }
        let mistral = keys.str("model_type")?.as_deref() == Some("mistral");
        let most = keys.size("max_position_embeddings")?.unwrap_or(2048);
        let window = keys.size("sliding_window")?.filter(|_| mistral);
        let context_length = window.map_or(most, |window| window.min(most));
        // LLaVA states at the top whether its matrices are tied; a plain model in its one object.
        let tied = match outer.map(|o| o.bool("tie_word_embeddings")).transpose()? {
            Some(Some(tied)) => tied,
            _ => keys.bool("tie_word_embeddings")?.unwrap_or(false),
        };
        Ok(Self {
            width,
            layers: keys.size("num_hidden_layers")?.unwrap_or(32),
            heads,
            kv_heads,
            head_width,
            feed_forward: keys.size("intermediate_size")?.unwrap_or(11008),
            vocabulary: keys.size("vocab_size")?.unwrap_or(32000),
            context_length,
            window: context_length < most,
            norm_eps: keys.float("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rope: Rope::read(keys, head_width)?,
            tied,
        })
    }
}

impl Sight {
    /// The layout of transformers: `vision_config` beside `text_config`.
    fn nested(top: &Keys) -> Result<Self, ConvertHfError> {
        let layer = match top.get("vision_feature_layer") {
            Some(Value::Array(layers)) => match layers.as_slice() {
                [one] => one.as_i64(),
                _ => None,
            },
            Some(layer) => layer.as_i64(),
            None => Some(-2),
        };
        let tower = match top.object("vision_config")? {
            Some(keys) => TowerConfig::read(&keys),
            None => Err(top.unsupported("vision_config", "")),
        };
        let refused = if layer.is_none() {
            Some(top.unsupported("vision_feature_layer", ""))
        } else {
            top.only("vision_feature_select_strategy", &[json!("default")])
                .and_then(|()| top.only("projector_hidden_act", &[json!("gelu")]))
                .err()
        };
        let (tower, refused) = match (tower, refused) {
            (Ok(tower), refused) => (Some(tower), refused),
            (Err(e), refused) => (None, refused.or(Some(e))),
        };
        Ok(Self {
            feature_layer: layer.unwrap_or(-2),
            tower,
            tower_name: None,
            refused,
            projector_bias: top.bool("multimodal_projector_bias")?.unwrap_or(true),
        })
    }

    /// The original layout: keys that begin with `mm_` beside the language model's.
    fn original(top: &Keys) -> Result<Self, ConvertHfError> {
        let needed = |key: &str, value: &str| match top.str(key)? {
            Some(found) if found == value => Ok(()),
            _ => Err(top.unsupported(key, "")),
        };
        let refused = top
            .only("mm_vision_select_feature", &[json!("patch")])
            .and_then(|()| needed("mm_projector_type", "mlp2x_gelu"))
            .and_then(|()| top.only("image_aspect_ratio", &[json!("pad"), json!("square")]))
            .and_then(|()| top.only("s2", &[json!(false)]))
            .and_then(|()| top.only("mm_use_im_start_end", &[json!(false)]));
        Ok(Self {
            feature_layer: top.integer("mm_vision_select_layer")?.unwrap_or(-2),
            tower: None,
            tower_name: top.str("mm_vision_tower")?,
            refused: refused.err(),
            projector_bias: true,
        })
    }
}

impl TowerConfig {
    /// Reads a `clip_vision_model`'s object.
    pub(super) fn read(keys: &Keys) -> Result<Self, ConvertHfError> {
        keys.only("model_type", &[json!("clip_vision_model")])?;
        keys.only("num_channels", &[json!(3)])?;
        keys.only("hidden_act", &[json!("quick_gelu"), json!("gelu")])?;
        let size = |key: &str, default: usize| Ok(keys.size(key)?.unwrap_or(default));
        Ok(Self {
            image_size: size("image_size", 224)?,
            patch: size("patch_size", 32)?,
            width: size("hidden_size", 768)?,
            heads: size("num_attention_heads", 12)?,
            feed_forward: size("intermediate_size", 3072)?,
            layers: size("num_hidden_layers", 12)?,
            norm_eps: keys.float("layer_norm_eps")?.unwrap_or(1e-5) as f32,
            quick_gelu: keys.str("hidden_act")?.as_deref() != Some("gelu"),
        })
    }

    /// The configuration in the folder of a CLIP model or a vision tower alone.
    pub(super) fn of_folder(folder: &Folder) -> Result<Self, ConvertHfError> {
        let Some(top) = folder.json("config.json")? else {
            return Err(ConvertHfError::MissingFile {
                folder: folder.path.clone(),
                file: "config.json".into(),
                hint: "the folder of a CLIP model is expected",
            });
        };
        match top.object("vision_config")? {
            Some(keys) => Self::read(&keys),
            None => Self::read(&top),
        }
    }
}
