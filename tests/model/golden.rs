//! Reads golden models and their expected numbers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use graft::gguf::Gguf;
use graft::model::{Model, ModelOptions};

/// Named arrays from a safetensors file; integers become floats.
pub struct Golden(HashMap<String, Vec<f32>>);

impl Golden {
    /// The numbers beside `<name>.gguf`.
    pub fn read(name: &str) -> Self {
        let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let array = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let words = view.data().chunks_exact(4).map(|b| b.try_into().unwrap());
            let values = match view.dtype() {
                safetensors::Dtype::F32 => words.map(f32::from_le_bytes).collect(),
                safetensors::Dtype::I32 => words.map(|b| i32::from_le_bytes(b) as f32).collect(),
                other => panic!("{name} is {other:?}"),
            };
            (name, values)
        };
        Self(file.tensors().into_iter().map(array).collect())
    }

    /// An array by name.
    pub fn get(&self, name: &str) -> &[f32] {
        self.0.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The tokens.
    pub fn tokens(&self) -> Vec<u32> {
        self.get("tokens").iter().map(|&t| t as u32).collect()
    }
}

/// Opens a golden model with a number of threads.
#[allow(dead_code)] // not every test that includes this file
pub fn open(name: &str, threads: usize) -> Arc<Model> {
    let path = folder().join(format!("{name}.gguf"));
    let gguf = Arc::new(Gguf::open(&path).unwrap());
    Model::new(
        gguf,
        &ModelOptions {
            threads,
            ..ModelOptions::default()
        },
    )
    .unwrap()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/llama")
}
