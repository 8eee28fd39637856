//! One file per command.

pub mod convert;
pub mod convert_hf;
pub mod plan;
pub mod quantize;
pub mod train;
