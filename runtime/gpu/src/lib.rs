//! Graphics devices: our own kernels in WGSL, run through Vulkan, Metal or Direct3D 12.
//!
//! [`adapters`] lists what there is, [`Device::open`] opens one under a byte budget, and
//! [`Device::arena`] sets memory aside for a [`Part`], from which arrays are cut. A [`Recorder`] takes
//! operators on them, in order, and submits them together; the names and shapes of the operators are
//! those of `graft_kernels::ops`.
//!
//! ```no_run
//! use graft_gpu::{Device, DeviceOptions, Part, Recorder};
//! use graft_kernels::QuantType;
//!
//! # fn layer(blocks: &[u8], x: &[f32], y: &mut [f32]) -> graft_gpu::Result<()> {
//! let device = Device::open(&DeviceOptions::default())?;
//! let weights = device.arena(Part::Weights, 64 << 20)?; // refused here or never
//! let buffers = device.arena(Part::LayerBuffers, 16 << 20)?;
//! let w = weights.matrix(QuantType::Q4K, 4096, 1024)?; // blocks, as a GGUF file has them
//! let x_there = buffers.tensor(32, 1024)?; // floats [tokens, width]
//! let y_there = buffers.tensor(32, 4096)?;
//!
//! let mut layer = Recorder::new(&device)?;
//! layer.write_matrix(&w, blocks)?;
//! layer.write(&x_there, x)?;
//! layer.linear(&y_there, &x_there, &w)?;
//! let result = layer.read(&y_there)?;
//! layer.submit()?; // nothing waits
//! result.wait(y)?;
//! for (part, bytes) in device.memory().parts {
//!     println!("{}: {bytes}", part.name());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What callers rely on:
//!
//! * Commands run in the order in which recorders are submitted, and within one as recorded. So an
//!   array may be dropped, and its place given to another, as soon as it was recorded.
//! * Uploads are copied when they are recorded; the ring waits by itself for slots that the device
//!   still reads. Another thread may record the next layer's uploads while a layer runs.
//! * Products round weights to f16 at most, where a device is faster for it; [`Recorder::round`] allows more, or
//!   nothing.
//! * Nothing depends on how often something ran: no kernel adds in an order that varies.
//! * Nothing here panics on what it is given: a wrong shape, a full budget, a driver that refuses and a
//!   device that is lost are [`GpuError`]s, and no wait is endless.

mod adapter;
mod arena;
mod arithmetic;
mod cache;
mod compiled;
mod device;
mod download;
mod error;
mod failure;
mod heaps;
mod kernels;
mod ledger;
mod matrix_units;
mod recorder;
mod ring;
mod shader;
mod tensor;
mod trial;

pub use adapter::{AdapterFeatures, AdapterKind, AdapterLimits, AdapterReport, Heap, adapters};
pub use arena::Arena;
pub use arithmetic::{Arithmetic, KernelChoice, Product, Rounding, Trial};
pub use cache::cache_folder;
pub use device::{Choice, Device, DeviceOptions};
pub use download::Download;
pub use error::{GpuError, Result};
pub use kernels::{
    AdamWStep, AttentionGradients, AttentionSaved, Bf16Tensor, LoraGradients, LoraLayer, LossRows,
    RopeTurns, Weights,
};
pub use ledger::{MemoryReport, Part};
pub use recorder::{Recorder, Submission};
pub use tensor::{Ids, Matrix, Tensor};

/// The label of a row without loss, the number of a row that is not there; as in
/// `graft_kernels::ops::softmax_cross_entropy`.
pub const IGNORED: i32 = graft_kernels::ops::softmax_cross_entropy::IGNORED;
