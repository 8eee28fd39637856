//! The arithmetic: pure functions on slices, with no state, allocation, threads or I/O.
//!
//! `blocks/<type>.rs` says what a format's bytes mean; `ops/<op>.rs` says what an
//! operator computes, forward and backward; both are the reference. `<isa>/<name>.rs`
//! is one instruction set's faster version of the same thing.

pub mod blocks;
pub mod ops;
mod quant_type;

pub use quant_type::QuantType;
