//! Arrays that numpy wrote: `tests/golden/algebra/make.py`.

use safetensors::SafeTensors;

use crate::answers::golden;

/// Arrays that numpy wrote.
pub struct Numpy(Vec<u8>);

impl Numpy {
    /// Reads the file.
    pub fn open() -> Self {
        Self(std::fs::read(golden().join("algebra/values.safetensors")).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).unwrap().data().to_vec()
    }

    /// An array of f32.
    pub fn singles(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        let words = bytes.as_chunks::<4>().0.iter();
        words.map(|&b| f32::from_le_bytes(b)).collect()
    }

    /// An array of f64.
    pub fn doubles(&self, name: &str) -> Vec<f64> {
        let bytes = self.bytes(name);
        let words = bytes.as_chunks::<8>().0.iter();
        words.map(|&b| f64::from_le_bytes(b)).collect()
    }
}
