//! Graphics devices: our own kernels in WGSL, run through Vulkan, Metal or Direct3D 12.
//!
//! [`adapters`] lists what there is, [`Device::open`] opens one under a byte budget, and
//! [`Device::arena`] sets memory aside for a [`Part`], from which arrays are cut:
//!
//! ```text
//! let device = Device::open(&DeviceOptions::default())?;
//! let buffers = device.arena(Part::LayerBuffers, bytes)?;    // refused here or never
//! let x: Tensor = buffers.tensor(tokens, width)?;            // floats [tokens, width]
//! let w: Matrix = weights.matrix(ty, rows, inputs)?;         // stored blocks, as in a GGUF file
//! device.memory().parts                                      // for a table
//! ```
//!
//! Nothing here panics on what it is given: a wrong shape, a full budget, a driver that refuses and a
//! device that is lost are [`GpuError`]s.

mod adapter;
mod arena;
mod device;
mod error;
mod failure;
mod heaps;
mod ledger;
mod tensor;

pub use adapter::{AdapterFeatures, AdapterKind, AdapterLimits, AdapterReport, Heap, adapters};
pub use arena::Arena;
pub use device::{Choice, Device, DeviceOptions};
pub use error::{GpuError, Result};
pub use ledger::{MemoryReport, Part};
pub use tensor::{Ids, Matrix, Tensor};
