//! Pixels to normalised patches: decode, pad, resize, crop.

mod decode;
mod preprocess;
mod resize;

pub use decode::{ImageError, ImageLimits, RgbImage, decode, open};
pub use preprocess::{AspectRatio, Preprocessing};
pub use resize::{pad_and_resize, resize, resize_and_crop};
