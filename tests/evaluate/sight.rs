//! A tiny model that reads and sees, made on the spot: the weights of a golden model, a vocabulary
//! of letters, and a vision tower of one block with repeatable weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use graft::gguf::{Array, Gguf, Metadata, TensorDeclaration, Value, Writer};
use graft::model::{Model, ModelOptions};
use graft_kernels::QuantType;

/// Width of the golden model.
const WIDTH: usize = 32;
/// Width of the tower, its hidden layer, and pixels of an image's and a patch's side.
const TOWER: (usize, usize, usize, usize) = (8, 16, 8, 4);

/// Writes both files into `folder` and opens them.
pub fn model(folder: &Path) -> Arc<Model> {
    let text = folder.join("text.gguf");
    let golden = golden("grouped_heads.gguf");
    write_with_vocabulary(&golden, &text);
    let mmproj = folder.join("mmproj.gguf");
    write_tower(&mmproj);
    let options = ModelOptions {
        mmproj: Some(mmproj),
        threads: 2,
        ..ModelOptions::default()
    };
    Model::open(&text, &options).unwrap()
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden/llama")
        .join(name)
}

fn write_with_vocabulary(from: &Path, to: &Path) {
    let gguf = Gguf::open(from).unwrap();
    let mut metadata: Metadata = gguf.metadata().clone();
    let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?:'-\u{2581}";
    let mut texts: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    texts.extend(letters.chars().map(String::from));
    let kinds = (0..texts.len()).map(|i| [2, 3, 3].get(i).copied().unwrap_or(1));
    let kinds = Array::I32(kinds.collect());
    let scores = (0..texts.len()).map(|i| -(i as f32)).collect();
    for (key, value) in [
        ("model", Value::String("llama".into())),
        ("tokens", Value::Array(Array::String(texts))),
        ("token_type", Value::Array(kinds)),
        ("scores", Value::Array(Array::F32(scores))),
        ("bos_token_id", Value::U32(1)),
        ("eos_token_id", Value::U32(2)),
    ] {
        metadata.insert(format!("tokenizer.ggml.{key}"), value);
    }
    let tensors: Vec<_> = gguf
        .tensors()
        .iter()
        .map(|t| TensorDeclaration {
            name: t.name.clone(),
            shape: t.shape.clone(),
            quant_type: t.quant_type,
        })
        .collect();
    let mut writer = Writer::create(to, &metadata, &tensors).unwrap();
    (0..tensors.len()).for_each(|i| writer.write_tensor(gguf.data(i)).unwrap());
    writer.finish().unwrap();
}

fn write_tower(path: &Path) {
    let (width, hidden, side, patch) = TOWER;
    let vision = |key: &str, value: Value| (format!("clip.vision.{key}"), value);
    let size = |key: &str, n: usize| vision(key, Value::U32(n as u32));
    let channels = |key: &str| vision(key, Value::Array(Array::F32(vec![0.5; 3])));
    let metadata: Metadata = [
        ("general.architecture".into(), Value::String("clip".into())),
        size("image_size", side),
        size("patch_size", patch),
        size("embedding_length", width),
        size("attention.head_count", 2),
        size("feed_forward_length", hidden),
        size("block_count", 1),
        vision("attention.layer_norm_epsilon", Value::F32(1e-5)),
        channels("image_mean"),
        channels("image_std"),
    ]
    .into_iter()
    .collect();
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("v.patch_embd.weight".into(), vec![patch, patch, 3, width]),
        ("v.class_embd".into(), vec![width]),
        (
            "v.position_embd.weight".into(),
            vec![width, (side / patch).pow(2) + 1],
        ),
    ];
    for norm in ["v.pre_ln", "v.blk.0.ln1", "v.blk.0.ln2"] {
        tensors.push((format!("{norm}.weight"), vec![width]));
        tensors.push((format!("{norm}.bias"), vec![width]));
    }
    for (linear, inputs, outputs) in [
        ("v.blk.0.attn_q", width, width),
        ("v.blk.0.attn_k", width, width),
        ("v.blk.0.attn_v", width, width),
        ("v.blk.0.attn_out", width, width),
        ("v.blk.0.ffn_up", width, hidden),
        ("v.blk.0.ffn_down", hidden, width),
        ("mm.0", width, WIDTH),
        ("mm.2", WIDTH, WIDTH),
    ] {
        tensors.push((format!("{linear}.weight"), vec![inputs, outputs]));
        tensors.push((format!("{linear}.bias"), vec![outputs]));
    }
    let declared: Vec<_> = tensors
        .into_iter()
        .map(|(name, shape)| TensorDeclaration {
            name,
            shape,
            quant_type: QuantType::F32,
        })
        .collect();
    let mut writer = Writer::create(path, &metadata, &declared).unwrap();
    for (i, tensor) in declared.iter().enumerate() {
        let values = (0..tensor.shape.iter().product()).map(|n: usize| {
            let wave = ((n * 37 + i * 11) % 101) as f32 / 101.0 - 0.5;
            // What an image looks like must reach the answer, so what carries it is strong.
            match tensor.name.as_str() {
                "v.patch_embd.weight" | "mm.0.weight" | "mm.2.weight" => 8.0 * wave,
                _ => wave,
            }
        });
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        writer.write_tensor(&bytes).unwrap();
    }
    writer.finish().unwrap();
}
