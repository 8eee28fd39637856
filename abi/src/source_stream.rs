//! A source as a stream of bytes, for converters.

use std::io;
use std::path::Path;

use graft::dataset::Source as Stream;
use graft::dataset::assets::FileSource;

use crate::fault::Fault;
use crate::source::{
    GRAFT_SOURCE_FD, GRAFT_SOURCE_MEMORY, GRAFT_SOURCE_PATH, GRAFT_SOURCE_READER, Source, unknown,
};

/// A file as a stream of bytes for a converter.
///
/// # Errors
/// If it cannot be opened.
pub fn file(path: &Path) -> Result<Box<dyn Stream>, Fault> {
    Ok(Box::new(FileSource::open(path)?))
}

impl Source {
    /// It as a stream of bytes, which messages call `name`.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn stream(self, name: &str) -> Result<Box<dyn Stream>, Fault> {
        match self.from.kind {
            GRAFT_SOURCE_PATH => file(self.from.path.path("source.path")?),
            GRAFT_SOURCE_FD if self.from.offset == 0 && self.from.length == 0 => {
                Ok(Box::new(FileSource::new(self.from.duplicate(name)?, name)?))
            }
            GRAFT_SOURCE_FD => Err(Fault::argument(
                "of an open file all is read here: offset and length must be 0",
            )),
            GRAFT_SOURCE_MEMORY | GRAFT_SOURCE_READER => {
                let length = self.from.length()?;
                if self.from.kind == GRAFT_SOURCE_MEMORY {
                    self.from.data.slice(length, "source.data")?;
                } else if self.from.read.is_none() {
                    return Err(Fault::argument("source.read is NULL"));
                }
                Ok(Box::new(LentStream {
                    name: name.to_owned(),
                    source: self,
                    position: 0,
                }))
            }
            kind => Err(unknown(kind)),
        }
    }
}

/// What the program lends, as a stream of bytes.
struct LentStream {
    name: String,
    source: Source,
    position: u64,
}

impl Stream for LentStream {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Option<u64> {
        Some(self.source.from.length)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let from = &self.source.from;
        let left = from.length.saturating_sub(offset);
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let part = &mut buffer[..count];
        if from.kind == GRAFT_SOURCE_MEMORY {
            let length = usize::try_from(from.length).map_err(io::Error::other)?;
            let bytes = from.data.slice(length, "source.data");
            let bytes = bytes.map_err(|fault| io::Error::other(fault.message().to_owned()))?;
            // Within the length, which is a usize.
            let start = offset as usize;
            part.copy_from_slice(&bytes[start.min(length)..][..count]);
        } else if let Some(read) = from.read.filter(|_| count > 0) {
            let buffer = part.as_mut_ptr().cast();
            // SAFETY: the program gave this function for this pointer; the buffer has as many bytes as it says.
            if unsafe { read(from.userdata, offset, buffer, count) } != 0 {
                let message = format!("source.read failed at byte {offset}");
                return Err(io::Error::other(message));
            }
        }
        Ok(count)
    }
}
