//! The sizes of a LLaMA-architecture model, read from GGUF metadata.
//!
//! Whatever would change the arithmetic and is not implemented is refused here by name;
//! nothing is ever ignored.

use graft_kernels::ops::attention::AttentionShape;
use graft_kernels::ops::rope::{RopeLayout, RopeOptions, RopeTable};

use super::{ModelError, Site, SiteKind};
use crate::gguf::Metadata;

/// The sizes and constants of a language model. Letters as everywhere: W width, H heads,
/// K kv heads, D head width, F feed-forward width, V vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaShape {
    /// W.
    pub width: usize,
    /// Transformer layers.
    pub layers: usize,
    /// H.
    pub heads: usize,
    /// K; H is a multiple of it.
    pub kv_heads: usize,
    /// D.
    pub head_width: usize,
    /// F.
    pub feed_forward: usize,
    /// V.
    pub vocabulary: usize,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// Epsilon of every RMS norm.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Positions are divided by this (linear scaling); 1 for none.
    pub rope_scale: f32,
}

impl LlamaShape {
    /// Width of all queries: H·D.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Width of all keys, and of all values: K·D.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Query heads that share one key/value head: H / K.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The rotation angles of positions `0..positions`; `factors`, `[D / 2]` or none, divide the frequencies.
    pub fn rope_table(&self, factors: &[f32], positions: usize) -> RopeTable {
        let options = RopeOptions {
            layout: RopeLayout::Interleaved,
            dims: self.head_width,
            base: self.rope_base as f64,
            scale: 1.0 / self.rope_scale as f64,
            factors,
        };
        RopeTable::new(&options, positions)
    }

    /// Heads and mask of its attention.
    pub fn attention(&self) -> AttentionShape {
        AttentionShape {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_width: self.head_width,
            scale: 1.0 / (self.head_width as f32).sqrt(),
            causal: true,
        }
    }

    /// The widest input of a linear layer.
    pub fn widest_input(&self) -> usize {
        self.width.max(self.query_width()).max(self.feed_forward)
    }

    /// `(outputs, inputs)` of a linear layer.
    pub fn linear(&self, kind: SiteKind) -> (usize, usize) {
        match kind {
            SiteKind::Q => (self.query_width(), self.width),
            SiteKind::K | SiteKind::V => (self.kv_width(), self.width),
            SiteKind::O => (self.width, self.query_width()),
            SiteKind::Gate | SiteKind::Up => (self.feed_forward, self.width),
            SiteKind::Down => (self.width, self.feed_forward),
        }
    }

    /// `(outputs, inputs)` of the matrix at a site; `None` outside of this language model.
    pub fn sizes(&self, site: Site) -> Option<(usize, usize)> {
        match site {
            Site::Embedding | Site::Output => Some((self.vocabulary, self.width)),
            Site::Layer { layer, linear } => (layer < self.layers).then(|| self.linear(linear)),
            Site::Tower { .. } | Site::Projector(_) => None,
        }
    }

    /// Reads the keys of architecture `llama`; the vocabulary is the embedding's row count.
    ///
    /// # Errors
    /// Another architecture, a missing or absurd size, or a feature that is not implemented.
    pub fn from_metadata(metadata: &Metadata, vocabulary: usize) -> Result<Self, ModelError> {
        if metadata.opt_str("general.type")? == Some("adapter") {
            return Err(ModelError::IsAdapter);
        }
        let architecture = metadata.str("general.architecture")?;
        if architecture == "clip" {
            return Err(ModelError::IsVision);
        }
        if architecture != "llama" {
            return Err(ModelError::Architecture(architecture.to_owned()));
        }
        refuse_unsupported(metadata)?;
        let size = |key: &'static str| -> Result<usize, ModelError> {
            in_range(key, metadata.u32(key)?, 1..=MOST)
        };
        let optional = |key: &'static str, default: usize| -> Result<usize, ModelError> {
            match metadata.opt_u32(key)? {
                Some(value) => in_range(key, value, 1..=MOST),
                None => Ok(default),
            }
        };
        let width = size("llama.embedding_length")?;
        let heads = size("llama.attention.head_count")?;
        let kv_heads = optional("llama.attention.head_count_kv", heads)?;
        let head_width = optional("llama.attention.key_length", width / heads)?;
        let shape = Self {
            width,
            layers: size("llama.block_count")?,
            heads,
            kv_heads,
            head_width,
            feed_forward: size("llama.feed_forward_length")?,
            vocabulary,
            context_length: size("llama.context_length")?,
            norm_eps: metadata.f32("llama.attention.layer_norm_rms_epsilon")?,
            rope_base: metadata.opt_f32("llama.rope.freq_base")?.unwrap_or(1e4),
            rope_scale: linear_scale(metadata)?,
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(inconsistent(format!(
                "{heads} attention heads cannot share {kv_heads} key/value heads evenly"
            )));
        }
        if head_width == 0 || !head_width.is_multiple_of(2) {
            return Err(inconsistent(format!(
                "head width {head_width} is not a positive even number"
            )));
        }
        for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
            let found = optional(key, head_width)?;
            if found != head_width {
                return Err(ModelError::Unsupported {
                    key: key.to_owned(),
                    value: format!("{found}, where the head width is {head_width}"),
                });
            }
        }
        if !(shape.norm_eps > 0.0 && shape.norm_eps < 1.0 && shape.rope_base.is_finite())
            || shape.rope_base <= 1.0
        {
            return Err(inconsistent(format!(
                "norm epsilon {} or rotary base {} is out of range",
                shape.norm_eps, shape.rope_base
            )));
        }
        let window = optional("llama.attention.sliding_window", shape.context_length)?;
        if window < shape.context_length {
            return Err(ModelError::Unsupported {
                key: "llama.attention.sliding_window".to_owned(),
                value: format!(
                    "{window}, below the context length {}",
                    shape.context_length
                ),
            });
        }
        Ok(shape)
    }
}

/// No real model has a size above this; products of two sizes stay far from overflow.
const MOST: u32 = 1 << 24;

fn in_range(
    key: &'static str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<usize, ModelError> {
    if !range.contains(&value) {
        return Err(inconsistent(format!(
            "metadata key {key} is {value}; it must lie in {} to {}",
            range.start(),
            range.end()
        )));
    }
    Ok(value as usize)
}

fn inconsistent(reason: String) -> ModelError {
    ModelError::Inconsistent(reason)
}

/// Factor by which positions are divided: `rope.scaling.*`, or the older `rope.scale_linear`.
fn linear_scale(metadata: &Metadata) -> Result<f32, ModelError> {
    let kind = metadata.opt_str("llama.rope.scaling.type")?;
    let factor = match metadata.opt_f32("llama.rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => metadata.opt_f32("llama.rope.scale_linear")?,
    };
    let scale = match (kind, factor) {
        (Some("none"), _) | (_, None) => 1.0,
        (Some("linear") | None, Some(factor)) => factor,
        (Some(other), _) => {
            return Err(ModelError::Unsupported {
                key: "llama.rope.scaling.type".to_owned(),
                value: other.to_owned(),
            });
        }
    };
    // llama.cpp reads 0 as "not scaled".
    match scale {
        0.0 => Ok(1.0),
        scale if scale.is_finite() && scale > 0.0 => Ok(scale),
        scale => Err(inconsistent(format!("rotary scaling factor is {scale}"))),
    }
}

/// Keys that change the arithmetic of other members of the family.
fn refuse_unsupported(metadata: &Metadata) -> Result<(), ModelError> {
    let unsupported = |key: &str, value: String| {
        Err(ModelError::Unsupported {
            key: key.to_owned(),
            value,
        })
    };
    for key in ["llama.expert_count", "llama.expert_used_count"] {
        if let Some(experts) = metadata.opt_u32(key)?.filter(|&n| n > 0) {
            return unsupported(key, experts.to_string());
        }
    }
    if let Some(kind) = metadata.opt_str("llama.rope.scaling.type")?
        && !matches!(kind, "none" | "linear")
    {
        return unsupported("llama.rope.scaling.type", kind.to_owned());
    }
    for (key, neutral) in [
        ("llama.attention.scale", 0.0),
        ("llama.attention.clamp_kqv", 0.0),
        ("llama.attention.max_alibi_bias", 0.0),
        ("llama.attn_logit_softcapping", 0.0),
        ("llama.final_logit_softcapping", 0.0),
        ("llama.embedding_scale", 1.0),
        ("llama.residual_scale", 1.0),
        ("llama.logit_scale", 1.0),
    ] {
        if let Some(value) = metadata.opt_f32(key)?.filter(|&v| v != neutral && v != 0.0) {
            return unsupported(key, value.to_string());
        }
    }
    for (key, neutral) in [
        ("llama.attention.causal", true),
        ("llama.use_parallel_residual", false),
    ] {
        if let Some(value) = metadata.opt_bool(key)?.filter(|&v| v != neutral) {
            return unsupported(key, value.to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
impl LlamaShape {
    /// A shape with every dimension different, for tests.
    pub(crate) fn tiny() -> Self {
        Self {
            width: 24,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_width: 8,
            feed_forward: 40,
            vocabulary: 19,
            context_length: 64,
            norm_eps: 1e-5,
            rope_base: 1e4,
            rope_scale: 1.0,
        }
    }
}
