//! The weights of a checkpoint: safetensors files, one or several, as named tensors.
//!
//! Only the directory of a file is mapped. Values are read in pieces, so that converting a model
//! larger than the machine's memory neither fills it nor drives out what others keep there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use graft_kernels::QuantType;
use safetensors::{Dtype, SafeTensors};

use super::ConvertHfError;
use super::folder::Folder;
use crate::gguf::{Bytes, GgufError};

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// All tensors of a folder; their bytes stay in the files.
#[derive(Debug)]
pub(super) struct Checkpoint {
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Where its bytes begin in the file.
    start: u64,
}

/// One file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
}

/// A tensor of the checkpoint. Shape slowest axis first, as PyTorch writes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'c> {
    pub(super) name: &'c str,
    pub(super) quant_type: QuantType,
    pub(super) shape: &'c [usize],
    shard: &'c Shard,
    start: u64,
}

impl Source<'_> {
    /// Reads its bytes from `at` on, as many as `out` has.
    pub(super) fn read(&self, at: usize, out: &mut [u8]) -> Result<(), ConvertHfError> {
        let mut file = &self.shard.file;
        file.seek(SeekFrom::Start(self.start + at as u64))
            .and_then(|_| file.read_exact(out))
            .map_err(|source| ConvertHfError::Io {
                path: self.shard.path.clone(),
                source,
            })
    }
}

impl Checkpoint {
    pub(super) fn open(folder: &Folder) -> Result<Self, ConvertHfError> {
        let mut checkpoint = Self {
            shards: Vec::new(),
            tensors: BTreeMap::new(),
        };
        let Some(index) = folder.json(INDEX)? else {
            if !folder.has(WHOLE) {
                return Err(no_weights(folder));
            }
            checkpoint.add(folder, WHOLE)?;
            return Ok(checkpoint);
        };
        let places = index
            .object("weight_map")?
            .ok_or_else(|| folder.broken(INDEX, "weight_map is missing".into()))?;
        let mut files = BTreeSet::new();
        for (tensor, file) in places.entries() {
            // Only files in the folder itself: an index must not reach other places.
            let plain = file
                .as_str()
                .filter(|f| !f.is_empty() && !f.contains(['/', '\\']) && !matches!(*f, "." | ".."));
            let Some(file) = plain else {
                let reason = format!("{tensor} is not in a file of this folder, but in {file}");
                return Err(folder.broken(INDEX, reason));
            };
            files.insert(file);
        }
        for file in files {
            if !folder.has(file) {
                return Err(ConvertHfError::MissingFile {
                    folder: folder.path.clone(),
                    file: file.to_owned(),
                    hint: "the index names it as a part of the weights; download it too",
                });
            }
            checkpoint.add(folder, file)?;
        }
        match places
            .entries()
            .find(|(tensor, _)| !checkpoint.tensors.contains_key(*tensor))
        {
            Some((tensor, file)) => {
                let reason = format!("it promises tensor {tensor} in {file}, which lacks it");
                Err(folder.broken(INDEX, reason))
            }
            None => Ok(checkpoint),
        }
    }

    fn add(&mut self, folder: &Folder, file: &str) -> Result<(), ConvertHfError> {
        let path = folder.path.join(file);
        let bytes = Bytes::map(&path).map_err(|e| match e {
            GgufError::Io { path, source, .. } => ConvertHfError::Io { path, source },
            other => folder.broken(file, other.to_string()),
        })?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| folder.broken(file, format!("not a whole safetensors file ({e})")))?;
        let start = header + size_of::<u64>();
        for (name, info) in metadata.tensors() {
            // The library has checked that offsets, shape and file length agree.
            let stored = Stored {
                shard: self.shards.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: (start + info.data_offsets.0) as u64,
            };
            if self.tensors.insert(name.clone(), stored).is_some() {
                return Err(folder.broken(file, format!("another part holds {name} too")));
            }
        }
        drop(bytes);
        match File::open(&path) {
            Ok(file) => self.shards.push(Shard { path, file }),
            Err(source) => return Err(ConvertHfError::Io { path, source }),
        }
        Ok(())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor, which must be one of [`Self::names`].
    pub(super) fn source(&self, name: &str) -> Result<Source<'_>, ConvertHfError> {
        let Some((name, stored)) = self.tensors.get_key_value(name) else {
            return Err(ConvertHfError::MissingTensor {
                tensor: name.to_owned(),
            });
        };
        let quant_type = match stored.dtype {
            Dtype::F32 => QuantType::F32,
            Dtype::F16 => QuantType::F16,
            Dtype::BF16 => QuantType::BF16,
            other => {
                return Err(ConvertHfError::TensorType {
                    tensor: name.clone(),
                    found: format!("{other:?}"),
                });
            }
        };
        Ok(Source {
            name,
            quant_type,
            shape: &stored.shape,
            shard: &self.shards[stored.shard],
            start: stored.start,
        })
    }

    /// The shape of a tensor, whatever its type.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.shape.as_slice())
    }
}

/// Says which weights there are instead.
fn no_weights(folder: &Folder) -> ConvertHfError {
    let path = folder.path.clone();
    let files = std::fs::read_dir(&path).into_iter().flatten().flatten();
    let mut names: Vec<String> = files
        .filter_map(|f| f.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    let pickled =
        |n: &&String| n.starts_with("pytorch_model") || n.ends_with(".pth") || n.ends_with(".pt");
    if let Some(file) = names.iter().find(pickled) {
        return ConvertHfError::Pickled {
            folder: path,
            file: file.clone(),
        };
    }
    let hint = if names.iter().any(|n| n == "adapter_model.safetensors") {
        "it holds a PEFT adapter, not a model; import it as an adapter"
    } else if names.iter().any(|n| n.ends_with(".safetensors")) {
        "its safetensors files are parts, and model.safetensors.index.json, which joins them, is \
         missing; download it too"
    } else {
        "it holds no weights"
    };
    ConvertHfError::MissingFile {
        folder: path,
        file: WHOLE.into(),
        hint,
    }
}
