//! Models of real shape with random weights: for speed, never for quality.

use std::path::Path;
use std::sync::Arc;

use graft::Result;
use graft::gguf::{Array, Metadata, TensorDeclaration, Value, Writer};
use graft::model::{Model, ModelOptions};
use graft_kernels::{QuantType, blocks};

use crate::{no_such, quant_type, random, random_vision};

/// Sizes of a LLaMA, in the letters of the house.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Name on the command line.
    pub name: &'static str,
    /// Model width W.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads H.
    pub heads: usize,
    /// Key/value heads K.
    pub kv_heads: usize,
    /// Feed-forward width F.
    pub feed_forward: usize,
    /// Vocabulary V.
    pub vocabulary: usize,
}

/// The shapes benchmarks are quoted at.
pub const SHAPES: [Shape; 4] = [
    Shape {
        name: "160m",
        width: 768,
        layers: 12,
        heads: 12,
        kv_heads: 12,
        feed_forward: 2048,
        vocabulary: 32_000,
    },
    Shape {
        name: "1b1",
        width: 2048,
        layers: 22,
        heads: 32,
        kv_heads: 4,
        feed_forward: 5632,
        vocabulary: 32_000,
    },
    Shape {
        name: "7b",
        width: 4096,
        layers: 32,
        heads: 32,
        kv_heads: 32,
        feed_forward: 11_008,
        vocabulary: 32_000,
    },
    Shape {
        name: "13b",
        width: 5120,
        layers: 40,
        heads: 40,
        kv_heads: 40,
        feed_forward: 13_824,
        vocabulary: 32_000,
    },
];

impl Shape {
    /// Weights in the layers' linear maps: a token's forward multiplies with each once.
    pub fn linear_weights(&self) -> usize {
        let maps = self.linear_maps().into_iter();
        self.layers
            * maps
                .map(|(inputs, outputs)| inputs * outputs)
                .sum::<usize>()
    }

    /// Inputs and outputs of a layer's linear maps: queries, keys and values first.
    fn linear_maps(&self) -> [(usize, usize); 7] {
        let (w, f, kv) = (
            self.width,
            self.feed_forward,
            self.width / self.heads * self.kv_heads,
        );
        [(w, w), (w, kv), (w, kv), (w, w), (w, f), (w, f), (f, w)]
    }

    /// Floating-point operations in the products of a LoRA update on one sequence whose positions are all learned:
    /// with the base, forward and back, with pairs of rank `rank` on every linear layer, and in causal attention. The
    /// forward of `again` layers counts twice. Not counted are what needs no products (norms, activations, softmax,
    /// the optimizer) and what is computed again in any case (`A x`, scores).
    pub fn lora_update_flop(&self, tokens: usize, rank: usize, again: usize) -> f64 {
        let of = |maps: &[(usize, usize)]| {
            let frozen: usize = maps.iter().map(|(inputs, outputs)| inputs * outputs).sum();
            let low_rank: usize = maps.iter().map(|(inputs, outputs)| inputs + outputs).sum();
            (2 * tokens * frozen, 2 * tokens * rank * low_rank)
        };
        let maps = self.linear_maps();
        let (frozen, low_rank) = of(&maps);
        let attention = 2 * tokens * (tokens + 1) * self.width;
        let forward = frozen + low_rank + attention;
        let backward = frozen + 2 * low_rank + 2 * attention;
        // Nothing below the first layer wants what its queries, keys and values would hand down.
        let (unwanted, _) = of(&maps[..3]);
        let unwanted = unwanted + 2 * tokens * rank * 3 * self.width;
        let head = 4 * tokens * self.width * self.vocabulary;
        (self.layers * (forward + backward) + again * forward + head - unwanted) as f64
    }
}

/// A model of the named shape and type, written to the folder unless it is there already; 0
/// threads are as many as the machine has cores. "7b:2" is the shape with two layers.
///
/// A shape or type that is not there ends the program: the words come from whoever runs it.
///
/// # Errors
/// If the file cannot be written or read.
///
/// # Panics
/// If a number of layers is none.
pub fn open(folder: &str, shape: &str, ty: &str, threads: usize) -> Result<(Shape, Arc<Model>)> {
    open_with_vision(folder, shape, ty, threads, false)
}

/// The same, with a vision half if it is to see.
///
/// # Errors
/// As [`open`].
///
/// # Panics
/// As [`open`].
pub fn open_with_vision(
    folder: &str,
    shape: &str,
    ty: &str,
    threads: usize,
    sees: bool,
) -> Result<(Shape, Arc<Model>)> {
    let (name, layers) = shape.split_once(':').unwrap_or((shape, ""));
    let known = SHAPES.iter().find(|s| s.name == name);
    let mut of = *known.unwrap_or_else(|| no_such("shape", name, &SHAPES.map(|s| s.name)));
    if !layers.is_empty() {
        of.layers = layers.parse().expect("a number of layers");
    }
    let ty = quant_type(ty);
    std::fs::create_dir_all(folder).expect("the folder can be made");
    let path = Path::new(folder).join(format!("{}-{ty}.gguf", shape.replace(':', "x")));
    if !path.exists() {
        write(&path, &of, ty)?;
    }
    let mmproj = match sees {
        true => Some(random_vision::path(folder, of.width, "F16")?),
        false => None,
    };
    let options = ModelOptions {
        threads,
        mmproj,
        ..ModelOptions::default()
    };
    Ok((of, Model::open(&path, &options)?))
}

/// Writes a model whose linear layers are stored as `ty`, its output matrix and every third
/// `attn_v` and `ffn_down` as Q6_K if `ty` is Q4_K (as in files called Q4_K_M), and the embedding
/// as `ty`.
fn write(path: &Path, shape: &Shape, ty: QuantType) -> Result<()> {
    let Shape {
        width,
        feed_forward,
        vocabulary,
        ..
    } = *shape;
    let kv_width = width / shape.heads * shape.kv_heads;
    let finer = if ty == QuantType::Q4K {
        QuantType::Q6K
    } else {
        ty
    };
    let mut tensors = vec![];
    let mut declare = |name: String, shape: &[usize], quant_type| {
        tensors.push(TensorDeclaration {
            name,
            shape: shape.to_vec(),
            quant_type,
        });
    };
    declare("token_embd.weight".into(), &[width, vocabulary], ty);
    declare("output.weight".into(), &[width, vocabulary], finer);
    declare("output_norm.weight".into(), &[width], QuantType::F32);
    for layer in 0..shape.layers {
        let mut declare = |name: &str, shape: &[usize], ty| {
            declare(format!("blk.{layer}.{name}.weight"), shape, ty);
        };
        let some = if layer % 3 == 2 { finer } else { ty };
        declare("attn_norm", &[width], QuantType::F32);
        declare("ffn_norm", &[width], QuantType::F32);
        declare("attn_q", &[width, width], ty);
        declare("attn_k", &[width, kv_width], ty);
        declare("attn_v", &[width, kv_width], some);
        declare("attn_output", &[width, width], ty);
        declare("ffn_gate", &[width, feed_forward], ty);
        declare("ffn_up", &[width, feed_forward], ty);
        declare("ffn_down", &[feed_forward, width], some);
    }
    let mut writer = Writer::create(path, &metadata(shape), &tensors)?;
    for (seed, tensor) in (1..).zip(&tensors) {
        writer.write_tensor(&data(seed, tensor)?)?;
    }
    writer.finish()
}

/// Ones for norms; for matrices one encoded row of random weights, again and again, since a
/// product's speed does not depend on what the rows say.
fn data(seed: u64, tensor: &TensorDeclaration) -> Result<Vec<u8>> {
    let width = tensor.shape[0];
    if tensor.shape.len() == 1 {
        return Ok(1.0_f32.to_le_bytes().repeat(width));
    }
    let rows = tensor.shape[1];
    let mut weights = random(seed, 16 * width);
    weights.iter_mut().for_each(|w| *w *= 0.04);
    let mut encoded = vec![0; tensor.bytes()? / rows * 16];
    blocks::encode(tensor.quant_type, &weights, &mut encoded).expect("a type with an encoder");
    Ok(encoded.repeat(rows / 16))
}

/// What llama.cpp and graft both need to run it; the tokens are made up.
fn metadata(shape: &Shape) -> Metadata {
    let mut metadata = Metadata::new();
    let mut set = |key: &str, value| {
        metadata.insert(key, value);
    };
    let size = |n: usize| Value::U32(n as u32);
    set("general.architecture", Value::String("llama".into()));
    set(
        "general.name",
        Value::String(format!("random {}", shape.name)),
    );
    set("llama.context_length", size(4096));
    set("llama.embedding_length", size(shape.width));
    set("llama.block_count", size(shape.layers));
    set("llama.feed_forward_length", size(shape.feed_forward));
    set("llama.attention.head_count", size(shape.heads));
    set("llama.attention.head_count_kv", size(shape.kv_heads));
    set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    set(
        "llama.rope.dimension_count",
        size(shape.width / shape.heads),
    );
    set("llama.vocab_size", size(shape.vocabulary));
    let mut tokens = vec!["<unk>".to_owned(), "<s>".into(), "</s>".into()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let (control, bytes) = (3, tokens.len());
    tokens.extend((bytes..shape.vocabulary).map(|i| format!("t{i}")));
    let kind = |i| match i {
        0 => 2,
        i if i < control => 3,
        i if i < bytes => 6,
        _ => 1,
    };
    let kinds = (0..tokens.len()).map(kind).collect();
    let scores = (0..tokens.len()).map(|i| -(i as f32)).collect();
    set("tokenizer.ggml.model", Value::String("llama".into()));
    set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    set("tokenizer.ggml.bos_token_id", Value::U32(1));
    set("tokenizer.ggml.eos_token_id", Value::U32(2));
    metadata
}
