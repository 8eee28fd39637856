//! An image as the vision tower wants it: square, of its size, normalised, channels first.

use super::RgbImage;
use super::resize::{pad_and_resize, resize_and_crop};

/// What happens to an image that is not square.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AspectRatio {
    /// Padded to a square before it is resized; LLaVA-1.5's way.
    #[default]
    Pad,
    /// Resized by its shorter side, then cropped; CLIP's way.
    Crop,
}

/// How a vision tower's images are prepared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    /// Side of the square the tower sees, in pixels.
    pub size: usize,
    /// Mean of each channel, of values 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
    /// What happens to an image that is not square.
    pub aspect_ratio: AspectRatio,
}

impl Preprocessing {
    /// The square of `size` pixels that the tower sees.
    pub fn square(&self, image: &RgbImage) -> RgbImage {
        let size = self.size;
        match self.aspect_ratio {
            AspectRatio::Pad => {
                let background = self.mean.map(|mean| (mean * 255.0) as u8);
                // Pad and resize commute on nothing; this order is the reference's.
                pad_and_resize(image, background, size)
            }
            AspectRatio::Crop => {
                let (width, height) = (image.width(), image.height());
                let longer = |side: usize, short: usize| (size * side / short).max(size);
                if width <= height {
                    resize_and_crop(image, size, longer(height, width), size)
                } else {
                    resize_and_crop(image, longer(width, height), size, size)
                }
            }
        }
    }

    /// Writes the normalised pixels, `[3, size, size]`.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn pixels(&self, out: &mut [f32], image: &RgbImage) {
        let square = self.square(image);
        let plane = self.size * self.size;
        assert_eq!(out.len(), 3 * plane);
        for (c, out) in out.chunks_exact_mut(plane).enumerate() {
            let values = square.pixels().iter().skip(c).step_by(3);
            for (out, &value) in out.iter_mut().zip(values) {
                *out = (f32::from(value) * (1.0 / 255.0) - self.mean[c]) / self.std[c];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    const CLIP: Preprocessing = Preprocessing {
        size: 336,
        mean: [0.48145466, 0.4578275, 0.40821073],
        std: [0.26862954, 0.261_302_6, 0.275_777_1],
        aspect_ratio: AspectRatio::Pad,
    };

    /// The formula image of the golden data.
    fn formula(width: usize, height: usize) -> RgbImage {
        let value =
            |c: usize, x: usize, y: usize| (x * (7 + c) + y * (13 + 2 * c) + x * y / (5 + c)) as u8;
        let pixels = (0..width * height)
            .flat_map(|i| [0, 1, 2].map(|c| value(c, i % width, i / width)))
            .collect();
        RgbImage::new(width, height, pixels).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        Sha256::digest(bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }

    /// Made with Pillow 13.0.0 from the formula image: pad to a square (or not), bicubic, crop.
    #[test]
    fn pixels_are_pillows_bit_for_bit() {
        let aspect = [AspectRatio::Pad, AspectRatio::Crop];
        let golden = ["ffe425f7542cd180", "3a2f8cdc1e2c8a05"];
        for (aspect_ratio, golden) in aspect.into_iter().zip(golden) {
            let square = Preprocessing {
                aspect_ratio,
                ..CLIP
            }
            .square(&formula(640, 480));
            assert!(hex(square.pixels()).starts_with(golden), "{aspect_ratio:?}");
        }
    }

    #[test]
    fn every_golden_size_matches() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shared/data/llava/preprocess_336.json"
        );
        let Ok(golden) = std::fs::read(path) else {
            return;
        };
        let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 14);
        for case in cases {
            let side = |key: &str| case[key].as_u64().unwrap() as usize;
            let image = formula(side("w"), side("h"));
            assert_eq!(hex(image.pixels()), case["src_rgb_sha256"]);
            let aspect_ratio = match case["mode"].as_str().unwrap() {
                "pad" => AspectRatio::Pad,
                _ => AspectRatio::Crop,
            };
            let preprocessing = Preprocessing {
                aspect_ratio,
                ..CLIP
            };
            let square = preprocessing.square(&image);
            assert_eq!(hex(square.pixels()), case["u8_sha256"], "{case}");
            let mut pixels = vec![0.0; 3 * 336 * 336];
            preprocessing.pixels(&mut pixels, &image);
            let sum: f64 = pixels.iter().map(|&v| f64::from(v)).sum();
            assert!(
                (sum - case["f32_sum"].as_f64().unwrap()).abs() < 0.1,
                "{case}"
            );
        }
    }

    #[test]
    fn extreme_shapes_are_squares_too() {
        for (width, height) in [(1, 1), (1, 500), (500, 1), (3, 2)] {
            for aspect_ratio in [AspectRatio::Pad, AspectRatio::Crop] {
                let square = Preprocessing {
                    aspect_ratio,
                    size: 8,
                    ..CLIP
                }
                .square(&formula(width, height));
                assert_eq!((square.width(), square.height()), (8, 8));
            }
        }
    }
}
