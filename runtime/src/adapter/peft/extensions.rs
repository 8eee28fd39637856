//! Which keys of `adapter_config.json` change what an adapter computes, and why graft refuses them.
//!
//! Every key is in one of three lists: read elsewhere, harmless, or refused with its own sentence. A
//! key in none of them is refused as well: it may be of next year's PEFT and mean anything.

use serde_json::{Map, Value};

/// Keys that change nothing in what a trained adapter computes: how it was begun or trained, or who
/// made it.
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "parent_library",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "velora_config",
];

/// Keys that are read as numbers or places, or looked at below.
const READ: &[&str] = &[
    "peft_type",
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "bias",
    "init_lora_weights",
];

/// Keys that change the result, what they mean, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    (
        "use_dora",
        "DoRA divides every row of the changed weights by its norm, which cannot be done beside a \
         frozen quantized base; merge it into the float base with PEFT's merge_and_unload and \
         convert that, or train a plain LoRA",
    ),
    (
        "modules_to_save",
        "whole trained modules are no part of a LoRA adapter; merge everything into the float base \
         with PEFT's merge_and_unload and convert that, or train without modules_to_save",
    ),
    (
        "target_parameters",
        "it adapts parameters by their own names, such as those of experts; graft adapts linear \
         layers only: train with target_modules instead",
    ),
    (
        "alora_invocation_tokens",
        "an activated LoRA acts only from these tokens on, and graft's adapters act everywhere; \
         train a plain LoRA (it cannot be merged either)",
    ),
    (
        "trainable_token_indices",
        "trained rows of the embedding are no part of a LoRA adapter; merge everything into the \
         float base with PEFT's merge_and_unload and convert that, or train without them",
    ),
    (
        "lora_bias",
        "biases of B are added to the layer's result, and LLaMA's linear layers have none that \
         could hold them; train with lora_bias false",
    ),
    (
        "fan_in_fan_out",
        "it is for transposed layers (Conv1D), which no LLaMA model has; is this an adapter of \
         another model? If not, set it to false: PEFT does so itself when it loads the adapter",
    ),
    (
        "layer_replication",
        "the adapter's model has some layers of the base several times; merge it with PEFT's \
         merge_and_unload and convert the whole model",
    ),
    (
        "use_qalora",
        "QALoRA averages groups of inputs before A; train a plain LoRA",
    ),
    (
        "use_bdlora",
        "block-diagonal factors are stored in a form of their own; train a plain LoRA",
    ),
    (
        "kasa_config",
        "KaSA takes singular values out of the base and puts a diagonal between A and B; merge it \
         into the float base with PEFT's merge_and_unload and convert that",
    ),
    (
        "monteclora_config",
        "it adds samples of a learned distribution to the factors; train a plain LoRA",
    ),
    (
        "arrow_config",
        "it sends each token to a few of several adapters; load one of them by itself",
    ),
];

/// Beginnings that leave the base as it was.
const BASE_KEPT: &[&str] = &["gaussian", "eva", "orthogonal", "mica"];

/// Beginnings that take the adapter's first value out of the base, by how their names begin.
const BASE_CHANGED: &[&str] = &["pissa", "olora", "corda", "lora_ga"];

/// Refuses what graft cannot represent.
///
/// # Errors
/// A sentence: the key, what it means, and what to do instead.
pub(super) fn refuse(keys: &Map<String, Value>) -> Result<(), String> {
    if let Some(bias) = keys.get("bias")
        && !off(bias)
        && bias != "none"
    {
        return Err(format!(
            "bias is {}: trained biases are no part of a LoRA adapter, and LLaMA's linear layers \
             have none; train with bias \"none\"",
            short(bias)
        ));
    }
    if let Some(beginning) = keys.get("init_lora_weights") {
        refuse_beginning(beginning)?;
    }
    for (key, value) in keys {
        let known = READ.contains(&key.as_str()) || HARMLESS.contains(&key.as_str());
        if known || off(value) {
            continue;
        }
        let advice = REFUSED.iter().find(|(refused, _)| refused == key);
        let advice = advice.map_or(
            "graft does not know this key, which may change what the adapter computes; train a \
             plain LoRA, or remove the key if you know that it does not",
            |&(_, advice)| advice,
        );
        return Err(format!("{key} is {}: {advice}", short(value)));
    }
    Ok(())
}

fn refuse_beginning(value: &Value) -> Result<(), String> {
    let name = match value {
        Value::Null | Value::Bool(_) => return Ok(()),
        Value::String(name) => name.to_lowercase(),
        _ => String::new(),
    };
    if BASE_KEPT.contains(&name.as_str()) {
        return Ok(());
    }
    let advice = if BASE_CHANGED.iter().any(|known| name.starts_with(known)) {
        "this beginning changes the base model's weights, so the adapter fits no base that you \
         have; save it again with path_initial_model_for_weight_conversion, which makes a plain \
         LoRA of it"
    } else if name == "loftq" {
        "LoftQ changes the base model's weights: it was trained beside rounded ones of its own; \
         merge it into those with PEFT's merge_and_unload and convert that"
    } else {
        "graft does not know this beginning, which may change the base model's weights; train with \
         init_lora_weights true"
    };
    Err(format!("init_lora_weights is {}: {advice}", short(value)))
}

/// Whether a value says that its key is not used.
fn off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A value for messages; a file may hold a long one.
fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
