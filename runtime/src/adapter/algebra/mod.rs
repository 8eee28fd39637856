//! Adapters as terms that add up: combined, cut to a smaller rank, scaled, and found between two
//! models.
//!
//! What an adapter adds at a site is `scale · B A`, so a weighted sum of adapters is the adapter
//! whose A are stacked and whose B stand side by side ([`combine`]). The singular values of `B A` say
//! what of it a smaller rank keeps ([`compress`]), and the largest of a difference of two models are
//! the adapter nearest to it ([`difference`]). The whole product, outputs by inputs, is never formed
//! of an adapter: thin QR of both factors leaves a matrix of R by R (`factored`).
//!
//! Results have a scale of 1 and alpha 0, which in a file means the same; their ranks may differ from
//! site to site. Everything is f64 between the f32 of the factors, except products with whole
//! matrices, and the same bits for any number of threads.

mod columns;
mod combine;
mod compress;
mod difference;
mod factored;
mod jacobi;
mod qr;
mod range_finder;
mod rescale;
mod two_files;

pub use combine::combine;
pub use compress::{Compressed, CompressedSite, Keep, compress};
pub use difference::{Difference, DifferenceOptions, DifferenceSite, OutsideTensor, difference};

/// Results carry their factor in the values: a scale of 1 at any rank is alpha 0 in a file.
const ALPHA: f32 = 0.0;
/// The scale of a result's pairs.
const SCALE: f32 = 1.0;
