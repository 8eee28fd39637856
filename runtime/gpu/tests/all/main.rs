//! The device crate at its public surface, on whatever device there is; the software driver will do.
//!
//! What kernels compute is compared with the portable operators of `graft-kernels`.

mod arrays;
mod machine;
mod memory;
mod opening;
mod products;
