//! The host of graft's WebAssembly plugins.
//!
//! A plugin is one `.wasm` component that converts data sets or scores predictions. It computes
//! and nothing else: no files, no network, no clock, no randomness; what it reads and writes it
//! asks of its host, and every resource it uses has a limit ([`Limits`]) with an error of its own.
//!
//! [`Host::load`] is the entrance. What it gives implements [`graft::dataset::Converter`] or
//! [`graft::evaluate::Evaluator`], so nobody who uses one can tell it from native code.

mod bindings;
mod cache;
mod caller;
pub mod check;
mod converter;
mod engines;
mod error;
mod evaluator;
mod grants;
mod guest;
mod host;
mod imports;
mod inspect;
mod limits;
pub mod shipped;
mod translate;
mod trust;

pub use cache::Cache;
pub use converter::WasmConverter;
pub use error::{Exceeded, PluginError};
pub use evaluator::WasmEvaluator;
pub use grants::Grants;
pub use host::{Host, Plugin};
pub use inspect::{INTERFACE, Manifest, PluginInfo, World};
pub use limits::{Limits, Wanted};
pub use trust::{Trust, signature_of};
