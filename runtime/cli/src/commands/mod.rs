//! One file per command.

pub mod convert;
pub mod plan;
pub mod quantize;
pub mod train;
