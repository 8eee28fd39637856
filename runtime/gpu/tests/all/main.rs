//! The device crate at its public surface, on whatever device there is; the software driver will do.

mod machine;
mod memory;
mod opening;
