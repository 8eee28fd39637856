//! Image files to 8-bit RGB, as Pillow's `convert("RGB")`: alpha is dropped, not composited, and
//! EXIF orientation is not applied, because the models were trained that way.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

/// Why an image was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum ImageError {
    #[error("cannot read image {path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("image {name} is empty (0 bytes)")]
    Empty { name: String },
    #[error("image {name} is not a PNG, JPEG, WebP, BMP or GIF file")]
    Format { name: String },
    #[error("image {name} is larger than the limit of {limit}")]
    TooLarge { name: String, limit: String },
    #[error("image {name} is damaged: {reason}")]
    Damaged { name: String, reason: String },
    #[error("{width} x {height} pixels are {expected} bytes of RGB, not {found}")]
    Pixels {
        width: usize,
        height: usize,
        expected: usize,
        found: usize,
    },
}

/// What an image may cost before it is decoded: a small file can claim to be enormous.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageLimits {
    /// Longest side, in pixels.
    pub side: u32,
    /// Pixels; each becomes three bytes.
    pub pixels: u64,
    /// Bytes a decoder may allocate.
    pub bytes: u64,
}

impl Default for ImageLimits {
    /// 16,384 pixels a side, 64 Mi pixels and 512 MiB.
    fn default() -> Self {
        Self {
            side: 16_384,
            pixels: 64 << 20,
            bytes: 512 << 20,
        }
    }
}

/// 8-bit RGB pixels, rows from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// An image from `width * height * 3` bytes.
    ///
    /// # Errors
    /// If a side is 0 or there are more or fewer bytes.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, ImageError> {
        let bytes = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if bytes != Some(pixels.len()) || pixels.is_empty() {
            return Err(ImageError::Pixels {
                width,
                height,
                expected: bytes.unwrap_or(usize::MAX),
                found: pixels.len(),
            });
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// An image from rows that begin `stride` bytes apart, the last of which may end with its pixels.
    ///
    /// # Errors
    /// If a side is 0, a row is longer than the stride, or there are fewer bytes.
    pub fn from_rows(
        width: usize,
        height: usize,
        stride: usize,
        bytes: &[u8],
    ) -> Result<Self, ImageError> {
        let row = width.checked_mul(3).filter(|&row| row <= stride && row > 0);
        let needed = row.and_then(|row| Some((row, height.checked_sub(1)?)));
        let needed = needed.and_then(|(row, before)| before.checked_mul(stride)?.checked_add(row));
        match needed {
            Some(needed) if needed <= bytes.len() => {
                let rows = bytes[..needed].chunks(stride);
                let pixels = rows.flat_map(|line| &line[..3 * width]).copied();
                Self::new(width, height, pixels.collect())
            }
            _ => Err(ImageError::Pixels {
                width,
                height,
                expected: needed.unwrap_or(usize::MAX),
                found: bytes.len(),
            }),
        }
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `[height][width][RGB]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// Reads and decodes an image file.
///
/// # Errors
/// If it cannot be read, is of another format, damaged, or beyond the limits.
pub fn open(path: &Path, limits: &ImageLimits) -> Result<RgbImage, ImageError> {
    let bytes = std::fs::read(path).map_err(|source| ImageError::Io {
        path: path.into(),
        source,
    })?;
    decode(&bytes, &path.display().to_string(), limits)
}

/// Decodes an image; `name` is for messages.
///
/// # Errors
/// If it is of another format, damaged, or beyond the limits.
pub fn decode(bytes: &[u8], name: &str, limits: &ImageLimits) -> Result<RgbImage, ImageError> {
    let name = || name.to_owned();
    if bytes.is_empty() {
        return Err(ImageError::Empty { name: name() });
    }
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| ImageError::Damaged {
            name: name(),
            reason: e.to_string(),
        })?;
    if reader.format().is_none() {
        return Err(ImageError::Format { name: name() });
    }
    let mut allowed = Limits::default();
    allowed.max_image_width = Some(limits.side);
    allowed.max_image_height = Some(limits.side);
    allowed.max_alloc = Some(limits.bytes);
    reader.limits(allowed.clone());
    let too_large = || ImageError::TooLarge {
        name: name(),
        limit: format!(
            "{} pixels a side, {} in all, and {} bytes",
            limits.side, limits.pixels, limits.bytes
        ),
    };
    let refuse = |e: image::ImageError| match e {
        image::ImageError::Limits(_) => too_large(),
        image::ImageError::Unsupported(_) => ImageError::Format { name: name() },
        other => ImageError::Damaged {
            name: name(),
            reason: in_words(&other),
        },
    };
    let mut decoder = reader.into_decoder().map_err(refuse)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        return Err(too_large());
    }
    // As the reader itself does: what the decoded pixels take is not the decoder's to spend.
    allowed.reserve(decoder.total_bytes()).map_err(refuse)?;
    decoder.set_limits(allowed).map_err(refuse)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(refuse)?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    RgbImage::new(width, height, rgb(decoded)).map_err(|e| ImageError::Damaged {
        name: name(),
        reason: e.to_string(),
    })
}

/// What the decoder found, without the names of its own types.
fn in_words(error: &image::ImageError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let text = cause.unwrap_or_else(|| error.to_string());
    let first = text.split(". ").next().unwrap_or_default();
    first.trim_end_matches('.').to_owned()
}

/// RGB bytes; of 16-bit channels the high byte, as Pillow takes it.
fn rgb(image: DynamicImage) -> Vec<u8> {
    let high = |v: &u16| (v >> 8) as u8;
    match &image {
        DynamicImage::ImageLuma16(i) => i.as_raw().iter().flat_map(|v| [high(v); 3]).collect(),
        DynamicImage::ImageLumaA16(i) => i
            .as_raw()
            .chunks_exact(2)
            .flat_map(|p| [high(&p[0]); 3])
            .collect(),
        DynamicImage::ImageRgb16(i) => i.as_raw().iter().map(high).collect(),
        DynamicImage::ImageRgba16(i) => i
            .as_raw()
            .chunks_exact(4)
            .flat_map(|p| [high(&p[0]), high(&p[1]), high(&p[2])])
            .collect(),
        _ => image.into_rgb8().into_raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        image
            .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png)
            .unwrap();
        bytes
    }

    fn refused(bytes: &[u8], limits: &ImageLimits) -> ImageError {
        decode(bytes, "x.png", limits).unwrap_err()
    }

    #[test]
    fn alpha_is_dropped_and_grey_is_three_channels() {
        let rgba = image::RgbaImage::from_pixel(1, 1, image::Rgba([9, 8, 7, 0]));
        let decoded = decode(&png(&rgba.into()), "x", &ImageLimits::default()).unwrap();
        assert_eq!(decoded.pixels(), [9, 8, 7]);
        let grey = image::GrayImage::from_pixel(2, 1, image::Luma([5]));
        let decoded = decode(&png(&grey.into()), "x", &ImageLimits::default()).unwrap();
        assert_eq!(
            (decoded.width(), decoded.height(), decoded.pixels()),
            (2, 1, &[5; 6][..])
        );
        let deep = image::ImageBuffer::from_pixel(1, 1, image::Rgb([0x1280_u16, 0x34ff, 0xffff]));
        let decoded = decode(
            &png(&DynamicImage::ImageRgb16(deep)),
            "x",
            &ImageLimits::default(),
        )
        .unwrap();
        assert_eq!(decoded.pixels(), [0x12, 0x34, 0xff]);
    }

    #[test]
    fn hostile_files_are_refused_with_their_name() {
        let limits = ImageLimits::default();
        let whole = png(&image::RgbImage::new(64, 64).into());
        assert!(matches!(refused(&[], &limits), ImageError::Empty { .. }));
        assert!(matches!(
            refused(b"not an image at all", &limits),
            ImageError::Format { .. }
        ));
        assert!(matches!(
            refused(&whole[..whole.len() / 2], &limits),
            ImageError::Damaged { .. }
        ));
        let small = ImageLimits { side: 32, ..limits };
        assert!(matches!(
            refused(&whole, &small),
            ImageError::TooLarge { .. }
        ));
        // A header that claims 60,000 x 60,000 pixels.
        let mut bomb = whole.clone();
        bomb[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        bomb[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        let error = refused(&bomb, &limits);
        assert!(error.to_string().contains("x.png"), "{error}");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let _ = decode(&bytes, "x", &limits);
        }
        assert!(RgbImage::new(2, 2, vec![0; 11]).is_err());
        assert!(RgbImage::new(usize::MAX, 2, vec![]).is_err());
    }

    #[test]
    fn rows_may_lie_apart() {
        let bytes: Vec<u8> = (0..14).collect();
        let image = RgbImage::from_rows(2, 2, 8, &bytes).unwrap();
        assert_eq!(image.pixels(), [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
        for (width, height, stride) in [
            (2, 2, 9),
            (2, 2, 5),
            (2, 0, 8),
            (0, 2, 8),
            (1, usize::MAX, 8),
        ] {
            let refused = RgbImage::from_rows(width, height, stride, &bytes);
            assert!(matches!(refused, Err(ImageError::Pixels { .. })));
        }
    }
}
