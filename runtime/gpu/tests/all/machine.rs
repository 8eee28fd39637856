//! The device that tests run on.

use std::sync::OnceLock;

use graft_gpu::{Device, DeviceOptions, GpuError};

/// Software will do, every index is checked.
pub fn options() -> DeviceOptions {
    DeviceOptions {
        software: true,
        budget: Some(256 << 20),
        checked: true,
        ..DeviceOptions::default()
    }
}

/// The device that most tests share. Where there is none, says so and gives `None`, or fails if
/// `GPU_REQUIRED` is 1.
pub fn device() -> Option<Device> {
    static SHARED: OnceLock<Option<Device>> = OnceLock::new();
    SHARED.get_or_init(|| open(&options())).clone()
}

/// A device of its own, for a test that changes it.
pub fn open(options: &DeviceOptions) -> Option<Device> {
    let required = std::env::var("GPU_REQUIRED").is_ok_and(|v| v == "1");
    match Device::open(options) {
        Ok(device) => Some(device),
        Err(GpuError::NoAdapter) if !required => {
            eprintln!("no graphics device here: NOT CHECKED (GPU_REQUIRED=1 makes this a failure)");
            None
        }
        Err(other) => panic!("{other}"),
    }
}
