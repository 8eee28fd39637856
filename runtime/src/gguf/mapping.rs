//! The memory map of a model file: the one place that trusts the operating system with a slice.
#![allow(unsafe_code)] // mapping a file

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use super::GgufError;

/// The bytes of a file: mapped, owned, or somebody else's; immutable.
pub(crate) enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
    Lent(Box<dyn AsRef<[u8]> + Send + Sync>),
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Bytes {
    /// Maps a file read-only.
    ///
    /// If another program shortens the file while it is mapped, reading beyond its new end ends the
    /// process (SIGBUS). No portable lock prevents that; programs that replace model files should
    /// write a new file and rename it, as graft itself does, which leaves the mapped one intact.
    pub(crate) fn map(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io {
            action: "open",
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(GgufError::Folder {
                path: path.to_owned(),
            });
        }
        if metadata.len() == 0 {
            return Err(GgufError::Empty);
        }
        // SAFETY: the map is read-only and private to this value. That the file does not change
        // underneath is asked of the user, as the documentation above says.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        Ok(Self::Mapped(map))
    }

    /// Maps `length` bytes of an open file from `offset` on, with what [`Bytes::map`] asks of the file; the map
    /// outlives `file`. The range is not beyond the file's end.
    pub(crate) fn map_part(file: &File, offset: u64, length: usize) -> std::io::Result<Self> {
        let mut options = memmap2::MmapOptions::new();
        // SAFETY: as for a whole file.
        let map = unsafe { options.offset(offset).len(length).map(file) }?;
        Ok(Self::Mapped(map))
    }

    /// Asks the system to read a range soon, in the background. Only a hint.
    pub(crate) fn prefetch(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Lets the memory of a range go; whoever touches it again finds the same bytes, read from the
    /// file once more. Only a hint; owned bytes stay.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: this advice may discard what was written to private pages; these are
            // read-only pages of a file, which are read again from it.
            let _ = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
            Self::Lent(bytes) => (**bytes).as_ref(),
        }
    }
}
