//! Reads golden models and their expected numbers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graft::gguf::Gguf;
use graft::model::{Model, ModelOptions};

/// Named arrays from a safetensors file; integers become floats.
pub struct Golden(HashMap<String, Vec<f32>>);

impl Golden {
    /// The numbers beside the language model `<name>.gguf`.
    #[allow(dead_code)] // not every test that includes this file
    pub fn read(name: &str) -> Self {
        Self::open(&folder("llama").join(format!("{name}.safetensors")))
    }

    /// The numbers in a file.
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
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
    #[allow(dead_code)] // not every test that includes this file
    pub fn tokens(&self) -> Vec<u32> {
        self.get("tokens").iter().map(|&t| t as u32).collect()
    }
}

/// Opens a golden model with a number of threads.
#[allow(dead_code)] // not every test that includes this file
pub fn open(name: &str, threads: usize) -> Arc<Model> {
    let path = folder("llama").join(format!("{name}.gguf"));
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

/// The golden files of a part.
pub fn folder(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(part)
}
