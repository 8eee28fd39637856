//! A file that grows by whole pieces: what a full disk has cut short is taken back.

use std::fs::File;
use std::io::{self, Write};

/// An open file and how much of it is whole.
#[derive(Debug)]
pub(super) struct AppendFile {
    file: File,
    whole: u64,
    torn: bool,
}

impl AppendFile {
    /// A file opened for appending, whole as it is.
    ///
    /// # Errors
    /// If its length is not to be had.
    pub fn new(file: File) -> io::Result<Self> {
        Ok(Self {
            whole: file.metadata()?.len(),
            file,
            torn: false,
        })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Adds `bytes`, all of them or none.
    ///
    /// # Errors
    /// If the disk refuses; the same bytes may be tried again.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.whole)?;
        }
        self.torn = true;
        if let Err(error) = self.file.write_all(bytes) {
            // At once, so that nobody finds half a piece; if that fails, before the next try.
            self.torn = self.file.set_len(self.whole).is_err();
            return Err(error);
        }
        self.whole += bytes.len() as u64;
        self.torn = false;
        Ok(())
    }
}
