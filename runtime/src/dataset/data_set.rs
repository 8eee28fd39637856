//! A data set as a whole: its samples, and the folder with their images.

use std::path::{Path, PathBuf};

use super::{DatasetError, ImageFolder, Sample, llava_json};

/// The samples of a file, and where their images are.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// The file, for messages.
    pub path: PathBuf,
    /// Its samples, in order.
    pub samples: Vec<Sample>,
    /// Their images.
    pub images: ImageFolder,
}

impl DataSet {
    /// Reads LLaVA's JSON, an array or a record per line. Relative names of images count from `images`, or from
    /// the folder of the file.
    ///
    /// # Errors
    /// As [`llava_json::read`].
    pub fn open(path: &Path, images: Option<&Path>) -> Result<Self, DatasetError> {
        Ok(Self {
            path: path.to_owned(),
            samples: llava_json::read(path)?,
            images: match images {
                Some(folder) => ImageFolder::new(folder),
                None => ImageFolder::beside(path),
            },
        })
    }
}
