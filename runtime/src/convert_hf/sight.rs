//! The vision half: vision tower and projector as an mmproj file, up to the feature layer.
//!
//! Only the blocks in front of the feature layer are stored, and no final norm: readers that take
//! the last stored block, or that apply a norm they find, then still see the right features.

use graft_kernels::QuantType;

use super::ConvertHfError;
use super::config::{Sight, TowerConfig};
use super::element::Planned;
use super::folder::{Folder, Keys};
use super::language::file_type;
use super::names::{Part, Tensors};
use crate::gguf::{Array, Metadata, Value};

/// Modules of a block of the tower, GGUF's names for them, and outputs and inputs by `Axis`.
const LINEARS: [(&str, &str, Axis, Axis); 6] = [
    ("self_attn.q_proj", "attn_q", Axis::Width, Axis::Width),
    ("self_attn.k_proj", "attn_k", Axis::Width, Axis::Width),
    ("self_attn.v_proj", "attn_v", Axis::Width, Axis::Width),
    ("self_attn.out_proj", "attn_out", Axis::Width, Axis::Width),
    ("mlp.fc1", "ffn_up", Axis::FeedForward, Axis::Width),
    ("mlp.fc2", "ffn_down", Axis::Width, Axis::FeedForward),
];
const NORMS: [(&str, &str); 2] = [("layer_norm1", "ln1"), ("layer_norm2", "ln2")];

#[derive(Clone, Copy)]
enum Axis {
    Width,
    FeedForward,
}

impl Sight {
    /// The tower's sizes: the configuration's, or what the tensors imply.
    pub(super) fn tower(&self, tensors: &Tensors<'_>) -> Result<TowerConfig, ConvertHfError> {
        match &self.tower {
            Some(tower) => Ok(tower.clone()),
            None => implied(self, tensors),
        }
    }

    /// The projector's tensors: from features of `inputs` floats to a model of `width`.
    pub(super) fn projector<'c>(
        &self,
        tensors: &mut Tensors<'c>,
        inputs: usize,
        width: usize,
        quant_type: QuantType,
    ) -> Result<Vec<Planned<'c>>, ConvertHfError> {
        let mut plan = Vec::new();
        for (module, name, inputs) in [("linear_1", "mm.0", inputs), ("linear_2", "mm.2", width)] {
            let weight = format!("{module}.weight");
            let source = tensors.take(Part::Projector, &weight, &[width, inputs])?;
            plan.push(Planned::kept(format!("{name}.weight"), source, quant_type));
            let bias = format!("{module}.bias");
            plan.push(if self.projector_bias {
                let source = tensors.take(Part::Projector, &bias, &[width])?;
                Planned::kept(format!("{name}.bias"), source, quant_type)
            } else {
                Planned::made(format!("{name}.bias"), vec![0.0; width])
            });
        }
        Ok(plan)
    }
}

/// Blocks in front of the hidden state `layer`; state 0 is what enters the first block.
pub(super) fn feature_blocks(layer: i64, layers: usize) -> Result<usize, ConvertHfError> {
    let from_start = if layer < 0 {
        layer.saturating_add(layers as i64 + 1)
    } else {
        layer
    };
    match usize::try_from(from_start) {
        Ok(blocks) if (1..=layers).contains(&blocks) => Ok(blocks),
        _ => Err(ConvertHfError::Inconsistent(format!(
            "feature layer {layer} of a vision tower of {layers} blocks"
        ))),
    }
}

/// The sizes of a tower that is in the checkpoint without its configuration: OpenAI's CLIP models
/// all have heads of 64 and quick GELU; the rest follows from the tensors.
fn implied(sight: &Sight, tensors: &Tensors<'_>) -> Result<TowerConfig, ConvertHfError> {
    let name = sight.tower_name.clone().unwrap_or("not named".into());
    let elsewhere = || ConvertHfError::TowerElsewhere {
        tower: name.clone(),
    };
    let shape = |tensor: &str| tensors.shape(Part::Tower, tensor);
    let openai = name.starts_with("openai/clip-vit-");
    match (
        shape("embeddings.patch_embedding.weight"),
        shape("embeddings.position_embedding.weight"),
        shape("encoder.layers.0.mlp.fc1.weight"),
    ) {
        (Some(&[width, _, patch, _]), Some(&[positions, _]), Some(&[feed_forward, _]))
            if openai && patch <= 1 << 12 && positions > 1 && positions <= 1 << 20 =>
        {
            let grid = (positions - 1).isqrt();
            let block = |i: usize| format!("encoder.layers.{i}.layer_norm1.weight");
            let layers = (0..).take_while(|&i| tensors.has(Part::Tower, &block(i)));
            Ok(TowerConfig {
                image_size: grid * patch,
                patch,
                width,
                heads: width / 64,
                feed_forward,
                layers: layers.count(),
                norm_eps: 1e-5,
                quick_gelu: true,
            })
        }
        _ => Err(elsewhere()),
    }
}

impl TowerConfig {
    /// Refuses sizes that make no tower.
    pub(super) fn check(&self) -> Result<(), ConvertHfError> {
        let Self {
            image_size,
            patch,
            width,
            heads,
            ..
        } = *self;
        let whole = patch > 0 && image_size.is_multiple_of(patch) && image_size <= 1 << 14;
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            let reason = format!("a vision tower with the norm epsilon {}", self.norm_eps);
            return Err(ConvertHfError::Inconsistent(reason));
        }
        if !whole || heads == 0 || !width.is_multiple_of(heads) {
            return Err(ConvertHfError::Inconsistent(format!(
                "a vision tower of width {width} with {heads} heads, for images of {image_size} in \
                 patches of {patch}"
            )));
        }
        Ok(())
    }

    /// The tensors of the embedding and the first `blocks` blocks; what comes behind is left out.
    pub(super) fn plan<'c>(
        &self,
        tensors: &mut Tensors<'c>,
        blocks: usize,
        quant_type: QuantType,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Planned<'c>>, ConvertHfError> {
        let (w, f, p) = (self.width, self.feed_forward, self.patch);
        let mut take = |name: String, gguf: String, shape: &[usize], quant_type| {
            let source = tensors.take(Part::Tower, &name, shape)?;
            Ok::<_, ConvertHfError>(Planned::kept(gguf, source, quant_type))
        };
        let embedding = |name: &str| format!("embeddings.{name}");
        // Convolutions of llama.cpp know F32 and F16 only.
        let patches = match quant_type {
            QuantType::BF16 => QuantType::F32,
            other => other,
        };
        let positions = (self.image_size / p).pow(2) + 1;
        let mut plan = vec![
            take(
                embedding("class_embedding"),
                "v.class_embd".into(),
                &[w],
                QuantType::F32,
            )?,
            take(
                embedding("patch_embedding.weight"),
                "v.patch_embd.weight".into(),
                &[w, 3, p, p],
                patches,
            )?,
            take(
                embedding("position_embedding.weight"),
                "v.position_embd.weight".into(),
                &[positions, w],
                QuantType::F32,
            )?,
        ];
        for leaf in ["weight", "bias"] {
            plan.push(take(
                format!("pre_layrnorm.{leaf}"),
                format!("v.pre_ln.{leaf}"),
                &[w],
                QuantType::F32,
            )?);
        }
        let size = |axis| match axis {
            Axis::Width => w,
            Axis::FeedForward => f,
        };
        for block in 0..blocks {
            let (hf, gguf) = (format!("encoder.layers.{block}"), format!("v.blk.{block}"));
            for (module, name) in NORMS {
                for leaf in ["weight", "bias"] {
                    plan.push(take(
                        format!("{hf}.{module}.{leaf}"),
                        format!("{gguf}.{name}.{leaf}"),
                        &[w],
                        QuantType::F32,
                    )?);
                }
            }
            for (module, name, outputs, inputs) in LINEARS {
                plan.push(take(
                    format!("{hf}.{module}.weight"),
                    format!("{gguf}.{name}.weight"),
                    &[size(outputs), size(inputs)],
                    quant_type,
                )?);
                plan.push(take(
                    format!("{hf}.{module}.bias"),
                    format!("{gguf}.{name}.bias"),
                    &[size(outputs)],
                    QuantType::F32,
                )?);
            }
        }
        let unneeded = |name: &str| {
            let block = name.strip_prefix("encoder.layers.");
            let block = block.and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            name.starts_with("post_layernorm.")
                || block.is_some_and(|block| (blocks..self.layers).contains(&block))
        };
        if tensors.leave_out(Part::Tower, unneeded) > 0 {
            notes.push(format!(
                "features are taken after block {blocks} of {} of the vision tower; what comes \
                 behind was left out",
                self.layers
            ));
        }
        Ok(plan)
    }

    /// What the file says of the tower, image normalisation apart.
    pub(super) fn metadata(
        &self,
        name: &str,
        blocks: usize,
        quant_type: QuantType,
        width: usize,
    ) -> Metadata {
        let mut metadata = Metadata::new();
        let text = |text: &str| Value::String(text.into());
        metadata.insert("general.architecture", text("clip"));
        metadata.insert("general.type", text("mmproj"));
        metadata.insert("general.name", text(name));
        metadata.insert("general.description", text("image encoder for LLaVA"));
        metadata.insert("general.file_type", Value::U32(file_type(quant_type)));
        metadata.insert("clip.has_text_encoder", Value::Bool(false));
        metadata.insert("clip.has_vision_encoder", Value::Bool(true));
        metadata.insert("clip.has_llava_projector", Value::Bool(true));
        metadata.insert("clip.projector_type", text("mlp"));
        metadata.insert("clip.use_gelu", Value::Bool(!self.quick_gelu));
        for (key, size) in [
            ("image_size", self.image_size),
            ("patch_size", self.patch),
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_forward),
            ("projection_dim", width),
            ("attention.head_count", self.heads),
            ("block_count", blocks),
        ] {
            // Sizes are at most 2^24, see `Keys::size`.
            metadata.insert(format!("clip.vision.{key}"), Value::U32(size as u32));
        }
        metadata.insert(
            "clip.vision.attention.layer_norm_epsilon",
            Value::F32(self.norm_eps),
        );
        metadata.insert(
            "clip.vision.feature_layer",
            Value::Array(Array::I32(vec![blocks as i32])),
        );
        metadata
    }
}

/// The file that says how images are prepared.
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
/// Mean and standard deviation of the images CLIP saw, by channel.
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Adds how images are normalised, after a check that they are prepared as the tower wants them.
pub(super) fn add_normalisation(
    metadata: &mut Metadata,
    folder: &Folder,
    tower: &TowerConfig,
) -> Result<(), ConvertHfError> {
    let mut add = |mean, std| {
        metadata.insert("clip.vision.image_mean", Value::Array(Array::F32(mean)));
        metadata.insert("clip.vision.image_std", Value::Array(Array::F32(std)));
    };
    let keys = match folder.json(PREPROCESSOR)? {
        Some(keys) => Some(keys),
        None => match folder.json("processor_config.json")? {
            Some(keys) => keys.object("image_processor")?,
            None => None,
        },
    };
    let Some(keys) = keys else {
        add(
            CLIP_MEAN.map(|v| v as f32).into(),
            CLIP_STD.map(|v| v as f32).into(),
        );
        return Ok(());
    };
    if let Some(size) = image_side(&keys)?
        && size != tower.image_size
    {
        return Err(ConvertHfError::Inconsistent(format!(
            "images are prepared with {size} pixels a side, the vision tower sees {}",
            tower.image_size
        )));
    }
    let channels = |key: &str, default: [f64; 3]| -> Result<Vec<f32>, ConvertHfError> {
        let Some(values) = keys.array(key)? else {
            return Ok(default.map(|v| v as f32).into());
        };
        let values: Option<Vec<f32>> = values.iter().map(|v| Some(v.as_f64()? as f32)).collect();
        values
            .filter(|v| v.len() == 3 && v.iter().all(|x| x.is_finite()))
            .ok_or_else(|| keys.unsupported(key, "; three numbers are needed"))
    };
    let (mean, std) = (
        channels("image_mean", CLIP_MEAN)?,
        channels("image_std", CLIP_STD)?,
    );
    if std.iter().any(|&v| v <= 0.0) {
        return Err(keys.unsupported("image_std", "; positive numbers are needed"));
    }
    add(mean, std);
    Ok(())
}

/// Pixels a side after the crop, where the file says so: a number, or height and width.
fn image_side(keys: &Keys) -> Result<Option<usize>, ConvertHfError> {
    match keys.get("crop_size") {
        Some(v) if v.is_object() => {
            let crop = keys.object("crop_size")?;
            crop.map_or(Ok(None), |crop| crop.size("height"))
        }
        Some(_) => keys.size("crop_size"),
        None => Ok(None),
    }
}
