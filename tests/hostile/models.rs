//! Files that are GGUF but no model graft can run are refused with a sentence that says why;
//! nothing that would change the results is ignored.

#[path = "../model/edited.rs"]
mod edited;

use std::path::Path;

use edited::{Edited, Tensors};
use graft::gguf::{Array, Metadata, TensorDeclaration, Value};
use graft::model::{Model, ModelOptions};
use graft_kernels::QuantType;

/// What opening a good model says after something was done to it; empty if it opened.
fn verdict(spoil: impl FnOnce(&mut Metadata, &mut Tensors)) -> String {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/llama/grouped_heads.gguf");
    let mut edited = Edited::read(&good);
    spoil(&mut edited.metadata, &mut edited.tensors);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spoilt.gguf");
    edited.write(&path);
    let options = ModelOptions {
        threads: 1,
        ..ModelOptions::default()
    };
    match Model::open(&path, &options) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

fn with_key(key: &str, value: Value) -> String {
    verdict(|metadata, _| {
        metadata.insert(key, value);
    })
}

fn tensor<'a>(tensors: &'a mut Tensors, name: &str) -> &'a mut (TensorDeclaration, Vec<u8>) {
    tensors.iter_mut().find(|(t, _)| t.name == name).unwrap()
}

#[track_caller]
fn assert_says(verdict: &str, parts: &[&str]) {
    for part in parts {
        assert!(verdict.contains(part), "{verdict:?} does not say {part:?}");
    }
}

#[test]
fn the_unspoilt_model_opens() {
    assert_eq!(verdict(|_, _| {}), "");
}

#[test]
fn another_architecture_is_named() {
    let said = with_key("general.architecture", Value::String("qwen2".into()));
    assert_says(&said, &["\"qwen2\"", "\"llama\""]);
}

#[test]
fn features_that_would_change_the_results_are_refused() {
    for (key, value) in [
        ("llama.expert_count", Value::U32(8)),
        ("llama.rope.scaling.type", Value::String("yarn".into())),
        ("llama.rope.dimension_count", Value::U32(4)),
        ("llama.attention.value_length", Value::U32(4)),
        ("llama.attention.sliding_window", Value::U32(16)),
        ("llama.attention.scale", Value::F32(0.5)),
        ("llama.attention.causal", Value::Bool(false)),
        ("llama.logit_scale", Value::F32(2.0)),
    ] {
        assert_says(&with_key(key, value), &[key, "does not support"]);
    }
}

#[test]
fn neutral_values_of_such_features_are_not() {
    for (key, value) in [
        ("llama.expert_count", Value::U32(0)),
        ("llama.rope.scaling.type", Value::String("none".into())),
        ("llama.attention.sliding_window", Value::U32(64)),
        ("llama.logit_scale", Value::F32(1.0)),
    ] {
        assert_eq!(with_key(key, value), "");
    }
}

#[test]
fn missing_and_absurd_sizes_are_refused() {
    for key in [
        "llama.embedding_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "general.architecture",
    ] {
        let said = verdict(|metadata, _| {
            metadata.remove(key);
        });
        assert_says(&said, &[key]);
    }
    for (key, value) in [
        ("llama.block_count", Value::U32(0)),
        ("llama.attention.head_count", Value::U32(0)),
        ("llama.embedding_length", Value::U32(u32::MAX)),
        ("llama.context_length", Value::I32(-1)),
        (
            "llama.attention.head_count",
            Value::Array(Array::U32(vec![4, 4])),
        ),
    ] {
        assert_says(&with_key(key, value), &[key]);
    }
    let said = with_key("llama.attention.head_count_kv", Value::U32(3));
    assert_says(&said, &["4 attention heads", "3 key/value heads"]);
    let said = with_key(
        "llama.attention.layer_norm_rms_epsilon",
        Value::F32(f32::NAN),
    );
    assert_says(&said, &["epsilon NaN"]);
    let said = with_key("llama.rope.scale_linear", Value::F32(-1.0));
    assert_says(&said, &["scaling factor is -1"]);
}

#[test]
fn a_missing_tensor_is_named() {
    let said = verdict(|_, tensors| tensors.retain(|(t, _)| t.name != "blk.1.ffn_up.weight"));
    assert_says(&said, &["blk.1.ffn_up.weight", "missing"]);
    // More layers than tensors.
    let said = with_key("llama.block_count", Value::U32(3));
    assert_says(&said, &["blk.2.attn_q.weight", "missing"]);
}

#[test]
fn a_tensor_that_nothing_would_use_is_refused() {
    let said = verdict(|_, tensors| {
        let mut bias = tensor(tensors, "blk.0.attn_norm.weight").clone();
        bias.0.name = "blk.0.attn_q.bias".into();
        tensors.push(bias);
    });
    assert_says(&said, &["blk.0.attn_q.bias", "no part"]);
    // Fewer layers than tensors.
    let said = with_key("llama.block_count", Value::U32(1));
    assert_says(&said, &["blk.1."]);
}

#[test]
fn a_tensor_of_another_shape_is_refused_with_both() {
    let said = verdict(|_, tensors| {
        tensor(tensors, "blk.0.attn_k.weight").0.shape = vec![16, 32];
    });
    assert_says(&said, &["blk.0.attn_k.weight", "[16, 32]", "[32, 16]"]);
    let said = verdict(|_, tensors| {
        tensor(tensors, "output_norm.weight").0.shape = vec![16, 2];
    });
    assert_says(&said, &["output_norm.weight", "[16, 2]", "[32]"]);
}

#[test]
fn a_norm_in_a_block_type_is_refused() {
    let said = verdict(|_, tensors| {
        let (norm, data) = tensor(tensors, "output_norm.weight");
        norm.quant_type = QuantType::Q8_0;
        data.truncate(QuantType::Q8_0.block_bytes());
    });
    assert_says(&said, &["output_norm.weight", "Q8_0"]);
}

#[test]
fn a_rotary_factor_that_is_no_divisor_is_refused() {
    let said = verdict(|_, tensors| {
        let (mut factors, _) = tensor(tensors, "output_norm.weight").clone();
        factors.name = "rope_freqs.weight".into();
        factors.shape = vec![4];
        tensors.push((factors, vec![0; 16]));
    });
    assert_says(&said, &["rope_freqs.weight", "factor 0"]);
}

#[test]
fn more_tokens_than_embeddings_are_refused() {
    let said = verdict(|metadata, _| {
        let tokens: Vec<String> = (0..81).map(|i| format!("t{i}")).collect();
        metadata.insert("tokenizer.ggml.model", Value::String("llama".into()));
        metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
        metadata.insert(
            "tokenizer.ggml.scores",
            Value::Array(Array::F32(vec![0.0; 81])),
        );
        let mut kinds = vec![1; 81];
        kinds[0] = 2;
        metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    });
    assert_says(&said, &["81 tokens", "80"]);
}
