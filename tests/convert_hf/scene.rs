//! Checkpoint folders for tests: copies of the golden ones, with something changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graft::convert_hf::{ConvertOptions, Converted, convert};
use graft_kernels::QuantType;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// A tensor: type, shape, bytes.
pub type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// A folder of its own with a checkpoint in it.
pub struct Scene(tempfile::TempDir);

#[allow(dead_code)] // not every test that includes this file uses every change
impl Scene {
    /// A folder without anything.
    pub fn empty() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(scene.folder()).unwrap();
        scene
    }

    /// A copy of a golden checkpoint.
    pub fn golden(name: &str) -> Self {
        let scene = Self::empty();
        for file in std::fs::read_dir(golden(name)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), scene.folder().join(file.file_name())).unwrap();
        }
        scene
    }

    /// The checkpoint's folder.
    pub fn folder(&self) -> PathBuf {
        self.0.path().join("checkpoint")
    }

    /// Where the text model goes.
    pub fn out(&self) -> PathBuf {
        self.0.path().join("model.gguf")
    }

    /// Where the vision half goes.
    pub fn mmproj(&self) -> PathBuf {
        self.0.path().join("mmproj.gguf")
    }

    /// Replaces or adds a file.
    pub fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.folder().join(name), bytes).unwrap();
        self
    }

    /// Removes a file.
    pub fn without(self, name: &str) -> Self {
        std::fs::remove_file(self.folder().join(name)).unwrap();
        self
    }

    /// Changes a JSON file.
    pub fn json(self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let path = self.folder().join(name);
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        self.file(name, value.to_string())
    }

    /// Changes the tensors of `model.safetensors`.
    pub fn tensors(self, change: impl FnOnce(&mut BTreeMap<String, Stored>)) -> Self {
        let path = self.folder().join("model.safetensors");
        let mut tensors = BTreeMap::new();
        if let Ok(bytes) = std::fs::read(path) {
            let read = SafeTensors::deserialize(&bytes).unwrap();
            for (name, t) in read.tensors() {
                tensors.insert(name, (t.dtype(), t.shape().to_vec(), t.data().to_vec()));
            }
        }
        change(&mut tensors);
        let views = tensors.iter().map(|(name, (dtype, shape, data))| {
            (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        self.file("model.safetensors", bytes)
    }

    /// Renames the tensors of `model.safetensors`.
    pub fn renamed(self, name: impl Fn(&str) -> String) -> Self {
        self.tensors(|tensors| {
            let old = std::mem::take(tensors);
            tensors.extend(old.into_iter().map(|(old, t)| (name(&old), t)));
        })
    }

    /// Converts, with a vision half or without.
    pub fn convert(&self, quant_type: QuantType, sees: bool) -> graft::Result<Converted> {
        self.convert_with(&options(quant_type), sees)
    }

    /// Converts with these options.
    pub fn convert_with(&self, o: &ConvertOptions<'_>, sees: bool) -> graft::Result<Converted> {
        let mmproj = self.mmproj();
        convert(
            &self.folder(),
            &self.out(),
            sees.then_some(mmproj.as_path()),
            o,
        )
    }
}

/// The defaults, but for the type.
pub fn options(quant_type: QuantType) -> ConvertOptions<'static> {
    ConvertOptions {
        quant_type,
        ..ConvertOptions::default()
    }
}

/// A golden file or folder.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden/convert_hf")
        .join(name)
}
