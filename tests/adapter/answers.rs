//! What a model with adapters answers.

use std::path::PathBuf;
use std::sync::Arc;

use graft::adapter::Attached;
use graft::kv_cache::KvCache;
use graft::model::{Inference, Model, ModelOptions};

/// Opens a model file with two threads.
pub fn open(path: &std::path::Path) -> Arc<Model> {
    let options = ModelOptions {
        threads: 2,
        ..ModelOptions::default()
    };
    Model::open(path, &options).unwrap()
}

/// The folder of golden files.
pub fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Logits `[T, V]` of a sequence.
pub fn logits(model: &Model, attached: &Attached, tokens: &[u32]) -> Vec<f32> {
    let llama = model.llama();
    let shape = llama.shape();
    let mut kv = KvCache::new(shape, tokens.len()).unwrap();
    let mut inference = Inference::new(llama, 64, tokens.len()).unwrap();
    let mut rows = vec![0.0; tokens.len() * shape.width];
    llama.embed_adapted(&mut rows, tokens, attached).unwrap();
    let made_by = attached.made_by();
    llama
        .forward(&mut rows, &mut kv, attached, made_by, &mut inference)
        .unwrap();
    let mut normed = vec![0.0; rows.len()];
    let mut inv_rms = vec![0.0; tokens.len()];
    llama.final_norm(&mut normed, &mut inv_rms, &rows);
    let mut logits = vec![0.0; tokens.len() * shape.vocabulary];
    inference
        .logits(llama, &mut logits, &normed, attached)
        .unwrap();
    logits
}
