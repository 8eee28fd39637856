//! Writes random models of any shape and storage as GGUF.

use std::path::Path;

use graft::gguf::{Metadata, TensorDeclaration, Value, Writer};
use graft_kernels::{QuantType, blocks};

/// Sizes of a model; the letters are the house's.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub feed_forward: usize,
    pub vocabulary: usize,
}

impl Sizes {
    /// Name and shape, fastest axis first, of every tensor.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self {
            width: w,
            feed_forward: f,
            vocabulary: v,
            ..
        } = *self;
        let kv = w / self.heads * self.kv_heads;
        let mut all = vec![
            ("token_embd".to_owned(), vec![w, v]),
            ("output_norm".to_owned(), vec![w]),
            ("output".to_owned(), vec![w, v]),
        ];
        for layer in 0..self.layers {
            for (name, shape) in [
                ("attn_norm", vec![w]),
                ("attn_q", vec![w, w]),
                ("attn_k", vec![w, kv]),
                ("attn_v", vec![w, kv]),
                ("attn_output", vec![w, w]),
                ("ffn_norm", vec![w]),
                ("ffn_gate", vec![w, f]),
                ("ffn_up", vec![w, f]),
                ("ffn_down", vec![f, w]),
            ] {
                all.push((format!("blk.{layer}.{name}"), shape));
            }
        }
        for (name, _) in &mut all {
            name.push_str(".weight");
        }
        all
    }

    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", Value::String("llama".into()));
        for (key, value) in [
            ("embedding_length", self.width),
            ("block_count", self.layers),
            ("feed_forward_length", self.feed_forward),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("context_length", 2048),
        ] {
            metadata.insert(format!("llama.{key}"), Value::U32(value as u32));
        }
        let eps = "llama.attention.layer_norm_rms_epsilon";
        metadata.insert(eps, Value::F32(1e-5));
        metadata
    }
}

/// Writes one file per storage: matrices as each of `storages` says of their name, all holding
/// what the first of them can represent; norms are F32.
pub fn write(paths: &[&Path], sizes: &Sizes, storages: &[&dyn Fn(&str) -> QuantType]) {
    let mut files: Vec<Writer> = paths
        .iter()
        .zip(storages)
        .map(|(path, storage)| {
            let declare = |(name, shape): (String, Vec<usize>)| TensorDeclaration {
                quant_type: if shape.len() == 1 {
                    QuantType::F32
                } else {
                    storage(&name)
                },
                name,
                shape,
            };
            let tensors: Vec<_> = sizes.tensors().into_iter().map(declare).collect();
            Writer::create(path, &sizes.metadata(), &tensors).unwrap()
        })
        .collect();
    let mut seed = 1u64;
    for (name, shape) in sizes.tensors() {
        let count: usize = shape.iter().product();
        let spread = 1.0 / (shape[0] as f32).sqrt();
        let mut weights: Vec<f32> = (0..count).map(|_| spread * uniform(&mut seed)).collect();
        if shape.len() == 1 {
            weights.iter_mut().for_each(|w| *w = 1.0 + 0.3 * *w);
        }
        for (i, (file, storage)) in files.iter_mut().zip(storages).enumerate() {
            let ty = if shape.len() == 1 {
                QuantType::F32
            } else {
                storage(&name)
            };
            let mut bytes = vec![0; ty.row_bytes(count).unwrap()];
            blocks::encode(ty, &weights, &mut bytes).unwrap();
            file.write_tensor(&bytes).unwrap();
            if i == 0 {
                blocks::decode(ty, &bytes, &mut weights);
            }
        }
    }
    for file in files {
        file.finish().unwrap();
    }
}

/// The next of a repeatable sequence of values with mean 0 and variance 1.
pub fn uniform(seed: &mut u64) -> f32 {
    *seed = seed
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    ((*seed >> 40) as f32 / (1 << 23) as f32 - 1.0) * 3f32.sqrt()
}
