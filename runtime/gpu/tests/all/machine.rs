//! The device that tests run on.

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

/// A device for one test: what staging it has is not for the tests beside it. Where there is none, says so
/// and gives `None`, or fails if `GPU_REQUIRED` is 1.
pub fn device() -> Option<Device> {
    open(&options())
}

/// As [`device`], with other options.
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
