//! The formula images of the golden files: the same pixels in Python and here.

use graft::image::RgbImage;

/// Width and height of each.
#[allow(dead_code)] // not every test that includes this file
pub const IMAGES: [(usize, usize); 4] = [(40, 28), (25, 33), (30, 30), (3, 70)];

/// The image of a size.
pub fn formula_image((width, height): (usize, usize)) -> RgbImage {
    let value =
        |c: usize, x: usize, y: usize| (x * (7 + c) + y * (13 + 2 * c) + x * y / (5 + c)) as u8;
    let pixels = (0..width * height)
        .flat_map(|i| [0, 1, 2].map(|c| value(c, i % width, i / width)))
        .collect();
    RgbImage::new(width, height, pixels).expect("three bytes for every pixel")
}
