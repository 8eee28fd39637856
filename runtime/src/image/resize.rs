//! Pillow's bicubic resize, bit for bit, and the padding and cropping around it.
//!
//! For one axis, n pixels to m: `scale = n / m`, `f = max(scale, 1)`, and output i is the sum over
//! inputs j of `K((j - c + 0.5) / f)`, `c = (i + 0.5) * scale`, normalised, with the Keys kernel
//! K (a = -0.5). Weights are fixed-point with 22 bits; the horizontal pass comes first and is
//! rounded to 8 bits. Source: Pillow's `Resample.c` as specified in its documentation.

use std::ops::Range;

use super::RgbImage;

/// Bits behind the point of a weight: 32 less 8 for the pixel and 2 for the kernel's overshoot.
const PRECISION: u32 = 22;

/// The weights of one output pixel: where its inputs begin, and their factors.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Scales an image to `width` x `height`, both at least 1.
pub fn resize(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    resize_part(image, (width, 0..width), (height, 0..height))
}

/// What a crop of `side` x `side` pixels out of the middle of [`resize`]'s result would hold; what
/// the crop cuts off is never made. Both `width` and `height` are at least `side`.
pub fn resize_and_crop(image: &RgbImage, width: usize, height: usize, side: usize) -> RgbImage {
    let middle = |length: usize| (length - side) / 2..(length - side) / 2 + side;
    resize_part(image, (width, middle(width)), (height, middle(height)))
}

/// Scales to a length on each axis, and keeps a range of it.
fn resize_part(
    image: &RgbImage,
    (width, columns): (usize, Range<usize>),
    (height, rows): (usize, Range<usize>),
) -> RgbImage {
    let kept = columns.len();
    let taps = taps(image.width(), width, columns);
    let mut wide = Vec::with_capacity(kept * image.height() * 3);
    for row in image.pixels().chunks_exact(image.width() * 3) {
        horizontal(&mut wide, row, &taps);
    }
    vertical(&image_of(kept, image.height(), wide), height, rows)
}

/// Puts an image in the middle of a square of its longer side and scales that to `size` x `size`.
/// The square itself is never made: an image of one pixel's height would need its width squared.
pub fn pad_and_resize(image: &RgbImage, background: [u8; 3], size: usize) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let side = width.max(height);
    let (left, top) = ((side - width) / 2, (side - height) / 2);
    let taps = taps(side, size, 0..size);
    let mut padded = background.repeat(side);
    let mut border = Vec::with_capacity(size * 3);
    horizontal(&mut border, &padded, &taps);
    let mut wide = Vec::with_capacity(size * side * 3);
    wide.extend(border.repeat(top));
    for row in image.pixels().chunks_exact(width * 3) {
        padded[left * 3..][..width * 3].copy_from_slice(row);
        horizontal(&mut wide, &padded, &taps);
    }
    wide.extend(border.repeat(side - height - top));
    vertical(&image_of(size, side, wide), size, 0..size)
}

/// Appends a row, scaled.
fn horizontal(out: &mut Vec<u8>, row: &[u8], taps: &[Taps]) {
    for tap in taps {
        let inputs = &row[tap.first * 3..][..tap.weights.len() * 3];
        let mut sum = [1 << (PRECISION - 1); 3];
        for (pixel, &weight) in inputs.as_chunks::<3>().0.iter().zip(&tap.weights) {
            for (sum, &value) in sum.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sum.map(round));
    }
}

fn vertical(image: &RgbImage, height: usize, rows: Range<usize>) -> RgbImage {
    let stride = image.width() * 3;
    let kept = rows.len();
    let mut out = Vec::with_capacity(stride * kept);
    let mut sums = vec![0i32; stride];
    for tap in taps(image.height(), height, rows) {
        sums.fill(1 << (PRECISION - 1));
        let rows = image.pixels()[tap.first * stride..].chunks_exact(stride);
        for (row, &weight) in rows.zip(&tap.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| round(sum)));
    }
    image_of(image.width(), kept, out)
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// The weights of a range of output pixels. An axis that keeps its length is copied: the kernel is 1
/// at 0 and 0 at every other whole number.
fn taps(from: usize, to: usize, outputs: Range<usize>) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let tap = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weight = |j: usize| kernel((j as f64 - center + 0.5) / stretch);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: &f64| {
            let scaled = w / sum * f64::from(1 << PRECISION);
            (scaled + 0.5f64.copysign(scaled)) as i32
        };
        Taps {
            first,
            weights: weights.iter().map(fixed).collect(),
        }
    };
    outputs.map(tap).collect()
}

fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn image_of(width: usize, height: usize, pixels: Vec<u8>) -> RgbImage {
    RgbImage::new(width, height, pixels).expect("every pass writes whole rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts an image in the middle of a square of its longer side.
    fn pad_to_square(image: &RgbImage, background: [u8; 3]) -> RgbImage {
        let (width, height) = (image.width(), image.height());
        let side = width.max(height);
        if width == height {
            return image.clone();
        }
        let (left, top) = ((side - width) / 2, (side - height) / 2);
        let mut out = background.repeat(side * side);
        for (y, row) in image.pixels().chunks_exact(width * 3).enumerate() {
            out[((top + y) * side + left) * 3..][..width * 3].copy_from_slice(row);
        }
        image_of(side, side, out)
    }

    /// Cuts `side` x `side` pixels out of the middle; both sides of the image are at least that long.
    ///
    /// # Panics
    /// If one is not.
    fn crop(image: &RgbImage, side: usize) -> RgbImage {
        let (left, top) = ((image.width() - side) / 2, (image.height() - side) / 2);
        let rows = image
            .pixels()
            .chunks_exact(image.width() * 3)
            .skip(top)
            .take(side);
        let pixels = rows
            .flat_map(|row| &row[left * 3..(left + side) * 3])
            .copied();
        image_of(side, side, pixels.collect())
    }

    fn noise(width: usize, height: usize) -> RgbImage {
        let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        image_of(width, height, (0..width * height * 3).map(byte).collect())
    }

    #[test]
    fn what_is_not_kept_changes_nothing() {
        let sizes = [
            (1, 1),
            (1, 40),
            (40, 1),
            (13, 29),
            (30, 30),
            (31, 30),
            (64, 7),
        ];
        for (width, height) in sizes {
            let image = noise(width, height);
            let long = width.max(height);
            for size in [1, 7, long, long + 9] {
                let square = pad_to_square(&image, [122, 116, 104]);
                let whole = resize(&square, size, size);
                assert_eq!(pad_and_resize(&image, [122, 116, 104], size), whole);
                let whole = crop(&resize(&image, size + 5, size), size);
                assert_eq!(resize_and_crop(&image, size + 5, size, size), whole);
            }
            assert_eq!(resize(&image, width, height), image);
        }
    }
}
