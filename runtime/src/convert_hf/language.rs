//! The language model: which tensors it has, under which names, and what GGUF says of it.

use graft_kernels::QuantType;

use super::ConvertHfError;
use super::config::LanguageConfig;
use super::element::Planned;
use super::names::{Part, Tensors};
use crate::gguf::{Metadata, Value};

/// Modules of a layer and GGUF's names for them.
const LINEARS: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];
const NORMS: [(&str, &str); 2] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
];

impl LanguageConfig {
    /// The file's tensors, in the order they are written.
    pub(super) fn plan<'c>(
        &self,
        tensors: &mut Tensors<'c>,
        quant_type: QuantType,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Planned<'c>>, ConvertHfError> {
        let matrix = [self.vocabulary, self.width];
        let mut take = |name: String, gguf: String, shape: &[usize]| {
            let source = tensors.take(Part::Language, &name, shape)?;
            Ok::<_, ConvertHfError>(Planned::kept(gguf, source, quant_type))
        };
        let mut plan = vec![take(
            "embed_tokens.weight".into(),
            "token_embd.weight".into(),
            &matrix,
        )?];
        for layer in 0..self.layers {
            for (module, name) in NORMS {
                plan.push(take(
                    format!("layers.{layer}.{module}.weight"),
                    format!("blk.{layer}.{name}.weight"),
                    &[self.width],
                )?);
            }
            for (module, name) in LINEARS {
                let planned = take(
                    format!("layers.{layer}.{module}.weight"),
                    format!("blk.{layer}.{name}.weight"),
                    &self.linear(name),
                )?;
                plan.push(match name {
                    "attn_q" => planned.rotary(self.heads),
                    "attn_k" => planned.rotary(self.kv_heads),
                    _ => planned,
                });
            }
        }
        plan.push(take(
            "norm.weight".into(),
            "output_norm.weight".into(),
            &[self.width],
        )?);
        if let Some(factors) = &self.rope.factors {
            plan.push(Planned::made("rope_freqs.weight".into(), factors.clone()));
        }
        if !self.tied {
            plan.push(take(
                "lm_head.weight".into(),
                "output.weight".into(),
                &matrix,
            )?);
        } else if tensors.leave_out(Part::Language, |name| name == "lm_head.weight") > 0 {
            notes.push(
                "lm_head.weight was left out: the configuration ties the output to the embedding"
                    .into(),
            );
        }
        Ok(plan)
    }

    /// Outputs and inputs of a linear layer, by its name in GGUF.
    fn linear(&self, name: &str) -> [usize; 2] {
        let (queries, keys) = (
            self.heads * self.head_width,
            self.kv_heads * self.head_width,
        );
        match name {
            "attn_q" => [queries, self.width],
            "attn_k" | "attn_v" => [keys, self.width],
            "attn_output" => [self.width, queries],
            "ffn_down" => [self.width, self.feed_forward],
            _ => [self.feed_forward, self.width],
        }
    }

    /// What the file says of the model, the vocabulary apart.
    pub(super) fn metadata(&self, name: &str, quant_type: QuantType) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", Value::String("llama".into()));
        metadata.insert("general.type", Value::String("model".into()));
        metadata.insert("general.name", Value::String(name.into()));
        metadata.insert("general.file_type", Value::U32(file_type(quant_type)));
        let head = self.head_width;
        for (key, size) in [
            ("block_count", self.layers),
            ("context_length", self.context_length),
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_forward),
            ("vocab_size", self.vocabulary),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", head),
            ("attention.value_length", head),
            ("rope.dimension_count", head),
        ] {
            // Sizes are at most 2^24, see `Keys::size`.
            metadata.insert(format!("llama.{key}"), Value::U32(size as u32));
        }
        let float = |metadata: &mut Metadata, key: &str, value| {
            metadata.insert(format!("llama.{key}"), Value::F32(value));
        };
        float(
            &mut metadata,
            "attention.layer_norm_rms_epsilon",
            self.norm_eps,
        );
        float(&mut metadata, "rope.freq_base", self.rope.base);
        if self.rope.scale != 1.0 {
            metadata.insert("llama.rope.scaling.type", Value::String("linear".into()));
            float(&mut metadata, "rope.scaling.factor", self.rope.scale);
        }
        metadata
    }
}

/// The number `general.file_type` has for files of mostly this type.
pub(super) fn file_type(quant_type: QuantType) -> u32 {
    match quant_type {
        QuantType::F32 => 0,
        QuantType::F16 => 1,
        _ => 32,
    }
}
