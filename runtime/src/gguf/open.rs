//! Where the bytes of a GGUF file come from: a path, memory, or a part of an open file.

use std::fs::File;
use std::io;
use std::path::Path;

use super::mapping::Bytes;
use super::split;
use super::{Gguf, GgufError};

impl Gguf {
    /// Maps a file and reads everything but the tensor data. For a part of a split model, maps all.
    ///
    /// # Errors
    /// If the file cannot be read or anything in it is wrong; see [`GgufError`].
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let mut gguf = Bytes::map(path)
            .and_then(Self::parse)
            .map_err(|e| e.in_file(path))?;
        gguf.path = Some(path.to_owned());
        split::join(gguf, path)
    }

    /// Reads a file that is already in memory.
    ///
    /// # Errors
    /// If anything in it is wrong; see [`GgufError`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GgufError> {
        if bytes.is_empty() {
            return Err(GgufError::Empty);
        }
        Self::parse(Bytes::Owned(bytes))
    }

    /// Reads a file that is in memory that somebody else owns; it is let go with the last user of this value.
    ///
    /// # Errors
    /// If anything in it is wrong; see [`GgufError`].
    pub fn from_lent(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self, GgufError> {
        if bytes.as_ref().is_empty() {
            return Err(GgufError::Empty);
        }
        Self::parse(Bytes::Lent(Box::new(bytes)))
    }

    /// Maps a part of an open file, such as a model inside an archive: `length` bytes from `offset` on, or all
    /// that follow for `None`. Messages call it `name`. A split model cannot be opened this way.
    ///
    /// # Errors
    /// If the part is not in the file, or as [`Gguf::open`].
    pub fn open_part(
        file: &File,
        offset: u64,
        length: Option<u64>,
        name: &Path,
    ) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io {
            action: "map",
            path: name.to_owned(),
            source,
        };
        let end = file.metadata().map_err(io)?.len();
        let rest = end.checked_sub(offset);
        let length = match (rest, length) {
            (None, _) => None,
            (Some(rest), Some(asked)) => (asked <= rest).then_some(asked),
            (rest, None) => rest,
        };
        let length = length
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| {
                let reason = format!(
                    "the file has {end} bytes, the part begins at byte {offset} and is not inside"
                );
                io(io::Error::new(io::ErrorKind::InvalidInput, reason))
            })?;
        if length == 0 {
            return Err(GgufError::Empty);
        }
        let map = Bytes::map_part(file, offset, length).map_err(io)?;
        let gguf = Self::parse(map).map_err(|e| e.in_file(name))?;
        match gguf.metadata.opt_u64("split.count")? {
            Some(count) if count > 1 => Err(GgufError::SplitName {
                found: gguf
                    .metadata
                    .opt_u64("split.no")?
                    .unwrap_or(0)
                    .saturating_add(1),
                count,
            }),
            _ => Ok(gguf),
        }
    }
}
