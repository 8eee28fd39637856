//! The graphics device of tests, and small models that it runs beside the processor.

use std::path::PathBuf;
use std::sync::Arc;

use graft::device::{DeviceChoice, DeviceOptions, TrainingRoom};
use graft::model::{Model, ModelOptions};
use graft_kernels::QuantType;

use super::random::{self, Sizes};

pub const SIZES: Sizes = Sizes {
    width: 256,
    layers: 3,
    heads: 4,
    kv_heads: 2,
    feed_forward: 512,
    vocabulary: 96,
};

/// The first device there is, software or not; where there is none, says so and gives `None`, or fails if
/// `GPU_REQUIRED` is 1.
pub fn device() -> Option<DeviceOptions> {
    let required = std::env::var("GPU_REQUIRED").is_ok_and(|v| v == "1");
    if graft::gpu::adapters().is_empty() {
        assert!(!required, "no graphics device here");
        eprintln!("no graphics device here: NOT CHECKED (GPU_REQUIRED=1 makes this a failure)");
        return None;
    }
    Some(DeviceOptions {
        device: DeviceChoice::Gpu(Some("0".into())),
        memory: Some(64 << 20),
        context_length: 64,
        ..DeviceOptions::CPU
    })
}

/// The kernels that `GRAFT_GPU_KERNELS` has devices take; "f32" if none.
#[allow(dead_code)] // not every test that includes this file
pub fn kernels() -> String {
    let named = std::env::var("GRAFT_GPU_KERNELS").ok();
    named.unwrap_or_else(|| "f32".to_owned())
}

/// Runs a test of the same program again, with devices that take other kernels.
#[allow(dead_code)] // not every test that includes this file
pub fn again(test: &str, kernels: &str) {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(program);
    command.args(["--exact", test, "--nocapture"]);
    let output = command.env("GRAFT_GPU_KERNELS", kernels).output().unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    println!("{kernels}: {text}");
    assert!(output.status.success(), "{kernels}: {text}{errors}");
    assert!(text.contains("1 passed"), "{kernels}: {text}");
}

/// Every block type but IQ4_XS, which graft reads and does not write: the device's own tests have it.
#[allow(dead_code)] // not every test that includes this file
pub fn types() -> impl Iterator<Item = QuantType> {
    QuantType::ALL
        .into_iter()
        .filter(|&ty| ty != QuantType::IQ4XS)
}

/// The same for training.
#[allow(dead_code)] // not every test that includes this file
pub fn training(options: &DeviceOptions) -> DeviceOptions {
    DeviceOptions {
        training: Some(TrainingRoom {
            tokens: 24,
            rank: 8,
        }),
        ..options.clone()
    }
}

/// A random model in two files: stored as asked for, and decoded.
pub struct Models {
    folder: tempfile::TempDir,
}

impl Models {
    pub fn write(storage: &dyn Fn(&str) -> QuantType) -> Self {
        Self::of(&SIZES, storage)
    }

    pub fn of(sizes: &Sizes, storage: &dyn Fn(&str) -> QuantType) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let models = Self { folder };
        let (stored, decoded) = (models.path("stored"), models.path("decoded"));
        random::write(&[&stored, &decoded], sizes, &[storage, &|_| QuantType::F32]);
        models
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    #[allow(dead_code)] // not every test that includes this file
    pub fn open(&self, name: &str, device: &DeviceOptions) -> Arc<Model> {
        let options = ModelOptions {
            threads: 2,
            device: device.clone(),
            ..ModelOptions::default()
        };
        Model::open(&self.path(name), &options).unwrap()
    }
}
