//! Operators that are mostly matrix products, in f32: cut into tiles that fit a cache.
//! `ops/<op>.rs` says what each one means.

pub mod attention;
pub mod linear;
