//! graft: an embedded runtime for quantized language and vision-language models
//! that trains LoRA adapters on the device itself.
//!
//! Modules form a ladder; each imports only from those above it in this list:
//! `error`, `threads`, `cancel`, `atomic_file` → `gguf`, `memory`, `tokenizer`, `image` → `model`,
//! `kv_cache`, `quantize`, `device`, `gpu` → `adapter`, `sampler`, `dataset`, `convert_hf` → `session`, `train`,
//! `evaluate`.

pub mod adapter;
pub mod atomic_file;
pub mod cancel;
pub mod convert_hf;
pub mod dataset;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod gguf;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod image;
pub mod kv_cache;
pub mod memory;
pub mod model;
pub mod quantize;
mod random;
pub mod sampler;
pub mod session;
pub mod threads;
pub mod tokenizer;
pub mod train;

pub use error::{Error, Result};
