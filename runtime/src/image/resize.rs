//! Pillow's bicubic resize, bit for bit, and the padding and cropping around it.
//!
//! For one axis, n pixels to m: `scale = n / m`, `f = max(scale, 1)`, and output i is the sum over
//! inputs j of `K((j - c + 0.5) / f)`, `c = (i + 0.5) * scale`, normalised, with the Keys kernel
//! K (a = -0.5). Weights are fixed-point with 22 bits; the horizontal pass comes first and is
//! rounded to 8 bits. Source: Pillow's `Resample.c` as specified in its documentation.

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
    let wide = if image.width() == width {
        image.clone()
    } else {
        horizontal(image, width)
    };
    if wide.height() == height {
        return wide;
    }
    vertical(&wide, height)
}

fn horizontal(image: &RgbImage, width: usize) -> RgbImage {
    let taps = taps(image.width(), width);
    let mut out = Vec::with_capacity(width * image.height() * 3);
    for row in image.pixels().chunks_exact(image.width() * 3) {
        for tap in &taps {
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
    image_of(width, image.height(), out)
}

fn vertical(image: &RgbImage, height: usize) -> RgbImage {
    let stride = image.width() * 3;
    let mut out = Vec::with_capacity(stride * height);
    let mut sums = vec![0i32; stride];
    for tap in taps(image.height(), height) {
        sums.fill(1 << (PRECISION - 1));
        let rows = image.pixels()[tap.first * stride..].chunks_exact(stride);
        for (row, &weight) in rows.zip(&tap.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| round(sum)));
    }
    image_of(image.width(), height, out)
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
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
    (0..to).map(tap).collect()
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

/// Puts an image in the middle of a square of its longer side.
pub fn pad_to_square(image: &RgbImage, background: [u8; 3]) -> RgbImage {
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
pub fn crop(image: &RgbImage, side: usize) -> RgbImage {
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

fn image_of(width: usize, height: usize, pixels: Vec<u8>) -> RgbImage {
    RgbImage::new(width, height, pixels).expect("every pass writes whole rows")
}
