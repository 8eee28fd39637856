//! What the vision tower made of an image: in memory, or in a cache on the disk that outlives the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graft_kernels::Kernels;
use sha2::{Digest, Sha256};

use super::TrainError;
use crate::Result;
use crate::atomic_file::{self, AtomicFile};
use crate::model::Vision;

/// First bytes of a file of the cache; the SHA-256 of the values and the values, little-endian f32,
/// follow.
const MAGIC: &[u8; 16] = b"graft features 1";

/// Tower features of an image, `[P, Wv]`; clones share the values.
#[derive(Clone, Debug)]
pub struct Features {
    digest: [u8; 32],
    /// SHA-256 of the image's file, if there is one.
    image: Option<[u8; 32]>,
    len: usize,
    place: FeaturePlace,
}

#[derive(Clone, Debug)]
enum FeaturePlace {
    Memory(Arc<Vec<f32>>),
    File(Arc<PathBuf>),
}

impl Features {
    /// Features that stay in memory.
    pub fn new(values: Vec<f32>) -> Self {
        Self {
            digest: digest(&values),
            image: None,
            len: values.len(),
            place: FeaturePlace::Memory(Arc::new(values)),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether they must be read each time.
    pub fn on_disk(&self) -> bool {
        matches!(self.place, FeaturePlace::File(_))
    }

    /// SHA-256 of the values: features are the same if these are.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The same, of the image whose file has this SHA-256.
    pub fn of_image(self, image: [u8; 32]) -> Self {
        Self {
            image: Some(image),
            ..self
        }
    }

    /// What they are features of: the SHA-256 of the image's file, or of the values if there is none. Values differ in
    /// last bits between processors and graphics devices, but a run may go on elsewhere.
    pub fn identity(&self) -> [u8; 32] {
        self.image.unwrap_or(self.digest)
    }

    /// The values; `buffer` is used if they must be read.
    ///
    /// # Errors
    /// If the disk refuses, or the file is no longer what was written.
    ///
    /// # Panics
    /// If the buffer is too short.
    pub fn get<'a>(&'a self, buffer: &'a mut [f32]) -> Result<&'a [f32]> {
        match &self.place {
            FeaturePlace::Memory(values) => Ok(values),
            FeaturePlace::File(path) => {
                let bytes = fs::read(path.as_ref()).map_err(io("read", path))?;
                let values = &mut buffer[..self.len];
                match decode(&bytes, values) {
                    Some(digest) if digest == self.digest => Ok(values),
                    _ => Err(TrainError::Features {
                        path: path.as_ref().clone(),
                    }
                    .into()),
                }
            }
        }
    }
}

/// A folder with the features of images, by what their bytes are and what computed them.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    maker: String,
    len: usize,
}

impl FeatureCache {
    /// A cache in `folder`, which is made if need be, of what this tower sees.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn open(folder: &Path, vision: &Vision) -> Result<Self> {
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        atomic_file::sweep(folder);
        let shape = vision.tower().shape();
        let kernels = Kernels::detect().name;
        Ok(Self {
            folder: folder.to_owned(),
            // Other instructions round otherwise, and whether they round activations is theirs as well.
            maker: match vision.tower().rounding().is_none() {
                true => format!("{} {kernels}", vision.fingerprint()),
                false => format!("{} {kernels} rounded", vision.fingerprint()),
            },
            len: shape.patches() * shape.width,
        })
    }

    /// The same of what the tower sees when this device runs the model: it does not round as the processor does.
    pub fn beside(mut self, device: &str) -> Self {
        self.maker = format!("{} beside {device}", self.maker);
        self
    }

    /// The features of the image with this SHA-256, if they are here and sound.
    pub fn find(&self, image: &[u8; 32]) -> Option<Features> {
        let path = self.path(image);
        let bytes = fs::read(&path).ok()?;
        let mut values = vec![0.0; self.len];
        decode(&bytes, &mut values).map(|digest| self.features(digest, path))
    }

    /// Keeps the features of an image.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn keep(&self, image: &[u8; 32], values: &[f32]) -> Result<Features> {
        let path = self.path(image);
        let digest = digest(values);
        let mut bytes = Vec::with_capacity(48 + 4 * values.len());
        bytes.extend(MAGIC);
        bytes.extend(digest);
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        AtomicFile::write(&path, &bytes)?;
        Ok(self.features(digest, path))
    }

    fn features(&self, digest: [u8; 32], path: PathBuf) -> Features {
        Features {
            digest,
            image: None,
            len: self.len,
            place: FeaturePlace::File(Arc::new(path)),
        }
    }

    fn path(&self, image: &[u8; 32]) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(&self.maker);
        hash.update(image);
        let name: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        self.folder.join(name + ".features")
    }
}

/// Fills `values` from a file's bytes; their digest, if the file is sound and holds just as many.
fn decode(bytes: &[u8], values: &mut [f32]) -> Option<[u8; 32]> {
    let (digest, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
    let (floats, rest) = rest.as_chunks::<4>();
    let digest_of_rest: [u8; 32] = Sha256::digest(floats.as_flattened()).into();
    if floats.len() != values.len() || !rest.is_empty() || digest_of_rest != *digest {
        return None;
    }
    for (value, bytes) in values.iter_mut().zip(floats) {
        *value = f32::from_le_bytes(*bytes);
    }
    Some(*digest)
}

fn digest(values: &[f32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for value in values {
        hash.update(value.to_le_bytes());
    }
    hash.finalize().into()
}

fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> TrainError + use<> {
    let path = path.to_owned();
    move |source| TrainError::Io {
        action,
        path: path.clone(),
        source,
    }
}
