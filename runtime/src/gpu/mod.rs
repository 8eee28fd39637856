//! The upper layers of a model on a graphics device, through the kernels of `graft-gpu`.
//!
//! ```text
//! placement   how many layers fit a budget
//! weights     a layer's matrices and norms in the device's memory
//! pairs       adapters there
//! buffers     what a pass writes
//! layer       a layer, forward and backward
//! gradients   a layer's gradients, and their way to the processor
//! sequence    keys and values of one sequence, and its passes
//! encoder     vision tower and projector
//! loss        the loss of training and its gradient
//! slots       what lies inside layers between forward and backward
//! training    passes that learn
//! layers      all of it, as the model sees it
//! ```
//! What is computed is what [`crate::model::Layer`] computes, in f32 throughout.

mod buffers;
mod encoder;
mod gradients;
mod layer;
mod layers;
mod loss;
mod pairs;
mod placement;
mod sequence;
mod slots;
mod training;
mod weights;

pub use graft_gpu::{
    AdapterKind, AdapterReport, Arithmetic, Product, Trial, adapters, cache_folder,
};
pub use layers::GpuLayers;

use graft_gpu::GpuError;

use crate::device::DeviceError;

impl From<GpuError> for crate::Error {
    fn from(error: GpuError) -> Self {
        let text = error.to_string();
        Self::Device(match error {
            GpuError::Lost { .. } => DeviceError::Lost(text),
            GpuError::OutOfMemory { .. } | GpuError::Budget { .. } | GpuError::Arena { .. } => {
                DeviceError::NoMemory(text)
            }
            _ => DeviceError::Refused(text),
        })
    }
}
