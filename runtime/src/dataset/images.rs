//! The images of a data set: found beside it, read once, decoded within limits.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{DatasetError, ImageRef};
use crate::image::{self, ImageLimits, RgbImage};

/// The folder that relative image names count from.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    limits: ImageLimits,
}

/// An image file's bytes, not decoded yet.
#[derive(Clone, Debug)]
pub struct ImageFile {
    sample: String,
    name: PathBuf,
    bytes: Vec<u8>,
    limits: ImageLimits,
}

impl ImageFolder {
    /// The folder `root`, with the usual limits.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            limits: ImageLimits::default(),
        }
    }

    /// The folder of a data set that names none: the one it lies in.
    pub fn beside(data: &Path) -> Self {
        Self::new(data.parent().unwrap_or(Path::new("")))
    }

    /// Reads an image of the sample called `sample`.
    ///
    /// # Errors
    /// If it cannot be read; names the sample and the file.
    pub fn read(&self, image: &ImageRef, sample: &str) -> Result<ImageFile, DatasetError> {
        let (name, bytes) = match image {
            ImageRef::Bytes(bytes) => (PathBuf::from("in the data set itself"), bytes.clone()),
            ImageRef::Path(path) => {
                let path = self.root.join(path);
                let bytes = std::fs::read(&path).map_err(|e| DatasetError::Image {
                    id: sample.to_owned(),
                    image: path.clone(),
                    reason: match e.kind() {
                        ErrorKind::NotFound => {
                            format!("there is no image {}; check --image-dir", path.display())
                        }
                        _ => format!("cannot read image {}: {e}", path.display()),
                    },
                })?;
                (path, bytes)
            }
        };
        Ok(ImageFile {
            sample: sample.to_owned(),
            name,
            bytes,
            limits: self.limits,
        })
    }
}

impl ImageFile {
    /// SHA-256 of the bytes: two images are the same if these are.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    /// The pixels.
    ///
    /// # Errors
    /// If it is no image, damaged or beyond the limits; names the sample and the file.
    pub fn decode(&self) -> Result<RgbImage, DatasetError> {
        let name = self.name.display().to_string();
        image::decode(&self.bytes, &name, &self.limits).map_err(|e| DatasetError::Image {
            id: self.sample.clone(),
            image: self.name.clone(),
            reason: e.to_string(),
        })
    }
}
