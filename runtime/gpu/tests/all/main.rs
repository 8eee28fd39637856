//! The device crate at its public surface, on whatever device there is; the software driver will do.
//!
//! What kernels compute is compared with the portable operators of `graft-kernels`.

mod arithmetic;
mod arrays;
mod attention;
mod elements;
mod layer;
mod loss;
mod low_rank;
mod machine;
mod memory;
mod opening;
mod products;
mod recording;
mod rows;
mod updates;
