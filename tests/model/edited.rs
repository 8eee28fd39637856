//! GGUF files taken apart, changed and put together again.

use std::path::Path;

use graft::gguf::{Gguf, Metadata, TensorDeclaration, Writer};
use graft_kernels::QuantType;

/// Tensors as declared, and their data.
pub type Tensors = Vec<(TensorDeclaration, Vec<u8>)>;

/// Everything in a file.
pub struct Edited {
    pub metadata: Metadata,
    pub tensors: Tensors,
}

impl Edited {
    /// The parts of a file.
    pub fn read(path: &Path) -> Self {
        let gguf = Gguf::open(path).unwrap();
        let part = |(i, info): (usize, &graft::gguf::TensorInfo)| {
            let declaration = TensorDeclaration {
                name: info.name.clone(),
                shape: info.shape.clone(),
                quant_type: info.quant_type,
            };
            (declaration, gguf.data(i).to_vec())
        };
        Self {
            metadata: gguf.metadata().clone(),
            tensors: gguf.tensors().iter().enumerate().map(part).collect(),
        }
    }

    /// A tensor by name.
    #[allow(dead_code)] // not every test that includes this file
    pub fn tensor(&mut self, name: &str) -> &mut (TensorDeclaration, Vec<u8>) {
        let named = self.tensors.iter_mut().find(|(t, _)| t.name == name);
        named.unwrap_or_else(|| panic!("no {name}"))
    }

    /// Adds a tensor of floats.
    #[allow(dead_code)] // not every test that includes this file
    pub fn add(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let declaration = TensorDeclaration {
            name: name.into(),
            shape: shape.to_vec(),
            quant_type: QuantType::F32,
        };
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.push((declaration, data));
    }

    /// Writes the parts as a file.
    pub fn write(&self, path: &Path) {
        let declarations: Vec<_> = self.tensors.iter().map(|(d, _)| d.clone()).collect();
        let mut writer = Writer::create(path, &self.metadata, &declarations).unwrap();
        for (_, data) in &self.tensors {
            writer.write_tensor(data).unwrap();
        }
        writer.finish().unwrap();
    }
}
