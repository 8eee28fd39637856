//! Numbers to compute with, and arrays of a device that hold them.

use graft_gpu::{Arena, Device, Ids, Matrix, Part, Recorder, Tensor};
use graft_kernels::{QuantType, blocks};

/// Pseudo-random numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between -1 and 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }

    /// Any bits that decode to finite weights.
    pub fn blocks(&mut self, ty: QuantType, weights: usize) -> (Vec<u8>, Vec<f32>) {
        let (mut bytes, mut decoded) = (vec![], vec![]);
        let mut block = vec![0.0; ty.block_len()];
        while decoded.len() < weights {
            let any: Vec<u8> = (0..ty.block_bytes())
                .map(|_| (self.bits() >> 50) as u8)
                .collect();
            blocks::decode(ty, &any, &mut block);
            if block.iter().all(|w| w.is_finite()) {
                bytes.extend(&any);
                decoded.extend(&block);
            }
        }
        (bytes, decoded)
    }

    /// A matrix of weights between -1 and 1, and what it decodes to.
    pub fn matrix(&mut self, ty: QuantType, weights: usize) -> (Vec<u8>, Vec<f32>) {
        let wanted = self.floats(weights);
        let mut bytes = vec![0; ty.row_bytes(weights).unwrap()];
        if blocks::encode(ty, &wanted, &mut bytes).is_err() {
            // Only IQ4_XS: any bits, with d = 2^-12.
            bytes
                .iter_mut()
                .for_each(|b| *b = (self.bits() >> 50) as u8);
            let blocks = bytes.chunks_exact_mut(ty.block_bytes());
            blocks.for_each(|block| block[..2].copy_from_slice(&0x0c00_u16.to_le_bytes()));
        }
        let mut decoded = vec![0.0; weights];
        blocks::decode(ty, &bytes, &mut decoded);
        (bytes, decoded)
    }
}

/// Memory for one test.
pub struct Bench {
    pub device: Device,
    floats: Arena,
    weights: Arena,
}

impl Bench {
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            floats: device.arena(Part::LayerBuffers, 16 << 20).unwrap(),
            weights: device.arena(Part::Weights, 8 << 20).unwrap(),
        }
    }

    /// An array of these floats, in rows of `width`. It begins at a float of its own, so that kernels
    /// which forget an offset are found out.
    pub fn tensor(&self, values: &[f32], width: usize) -> Tensor {
        let rows = values.len() / width;
        let spare = self.floats.tensor(1, values.len() + 3).unwrap();
        let column = spare.reshape(values.len() + 3, 1).unwrap();
        let column = column.slice(3..values.len() + 3).unwrap();
        let tensor = column.reshape(rows, width).unwrap();
        self.record(|recorder| recorder.write(&tensor, values));
        tensor
    }

    pub fn ids(&self, values: &[i32], below: usize) -> Ids {
        let ids = self.floats.ids(values.len()).unwrap();
        self.record(|recorder| recorder.write_ids(&ids, values, below));
        ids
    }

    pub fn matrix(&self, ty: QuantType, rows: usize, inputs: usize, bytes: &[u8]) -> Matrix {
        let matrix = self.weights.matrix(ty, rows, inputs).unwrap();
        self.record(|recorder| recorder.write_matrix(&matrix, bytes));
        matrix
    }

    /// Records, and submits.
    pub fn record(&self, commands: impl FnOnce(&mut Recorder) -> graft_gpu::Result<()>) {
        let mut recorder = Recorder::new(&self.device).unwrap();
        commands(&mut recorder).unwrap();
        recorder.submit().unwrap();
    }

    pub fn read(&self, tensor: &Tensor) -> Vec<f32> {
        let mut values = vec![f32::NAN; tensor.len()];
        self.device.read(tensor, &mut values).unwrap();
        values
    }
}

/// Fails unless every number is within `tolerance` of what it should be, relative to the greatest.
#[track_caller]
pub fn near(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    let greatest = want.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (got - want).abs();
        assert!(
            off <= tolerance * greatest + 1e-37,
            "{what}: number {i} is {got} instead of {want}; the greatest is {greatest}"
        );
    }
}
