//! Floats that a run keeps in a file instead of in memory.
//!
//! The file has no name and is gone when the process is, however it ends. It is read and written, not
//! mapped: a disk that fails gives an error instead of a signal. All its bytes are written when it is
//! made, so a disk that is too small says so before the work begins.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Floats that are converted at once.
const CHUNK: usize = 16 * 1024;

/// A fixed number of floats in a file.
#[derive(Debug)]
pub struct FloatFile {
    file: File,
    folder: PathBuf,
    len: usize,
}

impl FloatFile {
    /// `len` zeros, in a file in `folder`.
    ///
    /// # Errors
    /// If the disk refuses, or has not enough room.
    pub fn create(folder: &Path, len: usize) -> Result<Self> {
        let io = |source| Error::Io {
            action: "write",
            path: folder.to_owned(),
            source,
        };
        let mut created = Self {
            file: tempfile::tempfile_in(folder)
                .map_err(|e| io(crate::atomic_file::without_temporary_name(e)))?,
            folder: folder.to_owned(),
            len,
        };
        created.fill_zero()?;
        Ok(created)
    }

    /// Number of floats.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads `out.len()` floats from number `at` on.
    ///
    /// # Errors
    /// If the disk refuses.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn read(&mut self, at: usize, out: &mut [f32]) -> Result<()> {
        self.seek(at, out.len(), "read")?;
        let mut bytes = [0; 4 * CHUNK];
        for out in out.chunks_mut(CHUNK) {
            let bytes = &mut bytes[..4 * out.len()];
            self.file
                .read_exact(bytes)
                .map_err(|e| self.failed("read", e))?;
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }

    /// Writes `values` from number `at` on.
    ///
    /// # Errors
    /// If the disk refuses.
    ///
    /// # Panics
    /// If there is no room for them.
    pub fn write(&mut self, at: usize, values: &[f32]) -> Result<()> {
        self.seek(at, values.len(), "write")?;
        let mut bytes = [0; 4 * CHUNK];
        for values in values.chunks(CHUNK) {
            let bytes = &mut bytes[..4 * values.len()];
            for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
            self.file
                .write_all(bytes)
                .map_err(|e| self.failed("write", e))?;
        }
        Ok(())
    }

    fn fill_zero(&mut self) -> Result<()> {
        let zeros = [0; 4 * CHUNK];
        let mut left = 4 * self.len;
        while left > 0 {
            let now = left.min(zeros.len());
            self.file
                .write_all(&zeros[..now])
                .map_err(|e| self.failed("write", e))?;
            left -= now;
        }
        Ok(())
    }

    fn seek(&mut self, at: usize, count: usize, action: &'static str) -> Result<()> {
        assert!(
            at + count <= self.len,
            "{count} floats from {at} on of {}",
            self.len
        );
        let place = SeekFrom::Start(4 * at as u64);
        match self.file.seek(place) {
            Ok(_) => Ok(()),
            Err(e) => Err(self.failed(action, e)),
        }
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> Error {
        Error::Io {
            action,
            path: self.folder.join("values of the run"),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_zero() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = FloatFile::create(folder.path(), 3 * CHUNK).unwrap();
        let values: Vec<f32> = (0..CHUNK + 7).map(|i| i as f32 - 0.5).collect();
        file.write(5, &values).unwrap();
        let mut read = vec![1.0; 3 * CHUNK];
        file.read(0, &mut read).unwrap();
        assert!(
            read[..5]
                .iter()
                .chain(&read[CHUNK + 12..])
                .all(|&v| v == 0.0)
        );
        assert_eq!(read[5..CHUNK + 12], values);
        file.read(CHUNK, &mut read[..9]).unwrap();
        assert_eq!(read[0], values[CHUNK - 5]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = FloatFile::create(Path::new("/nowhere/at all"), 1).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at all"), "{error}");
    }
}
