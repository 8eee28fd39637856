//! A file that appears whole under its name, or not at all.
//!
//! It is written beside its place under a temporary name, synced to the disk, and renamed. Dropped
//! without [`AtomicFile::commit`] it leaves nothing behind. What is no ordinary file, such as a pipe
//! or `/dev/stdout`, is written to directly: nothing may take its place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Temporary names begin and end like this.
const PREFIX: &str = ".graft-";
const SUFFIX: &str = ".partial";

/// Deletes what processes that were killed have left half-written in `folder`. What somebody still
/// writes stays: it is locked.
pub fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX)
            && name.ends_with(SUFFIX)
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            // Whatever cannot be deleted harms nobody.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file being written; readers see it only after [`AtomicFile::commit`].
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A temporary file, and the name it will get.
    Beside(tempfile::NamedTempFile, PathBuf),
    /// A pipe or device.
    Through(File),
}

impl AtomicFile {
    /// Starts a file that will replace whatever is at `path`.
    ///
    /// # Errors
    /// If the folder does not exist or cannot be written, or `path` is a folder.
    pub fn create(path: &Path) -> Result<Self> {
        let io = |source| Error::Io {
            action: "create",
            path: path.to_owned(),
            source,
        };
        let present = fs::metadata(path).ok();
        if present.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        if present.as_ref().is_some_and(|file| !file.is_file()) {
            let opened = OpenOptions::new().write(true).open(path);
            return Ok(Self {
                path: path.to_owned(),
                place: Place::Through(opened.map_err(io)?),
            });
        }
        // A link stays; the file it leads to is replaced.
        let target = match present {
            Some(_) if path.is_symlink() => fs::canonicalize(path).map_err(io)?,
            _ => path.to_owned(),
        };
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        {
            // Temporary files are private by default; this one becomes an ordinary file.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        loop {
            let file = builder
                .tempfile_in(folder.unwrap_or(Path::new(".")))
                .map_err(|e| io(without_temporary_name(e)))?;
            // Locked as long as somebody writes it. Not every file system can, and there nothing is swept.
            let locked = file.as_file().try_lock();
            let swept = matches!(locked, Err(TryLockError::WouldBlock)) || !file.path().exists();
            if !swept {
                return Ok(Self {
                    path: path.to_owned(),
                    place: Place::Beside(file, target),
                });
            }
        }
    }

    /// Writes `bytes` as the whole content of `path`.
    ///
    /// # Errors
    /// If creating, writing, syncing or renaming fails; `path` then still has its old content.
    pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = Self::create(path)?;
        file.write_all(bytes).map_err(|source| Error::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })?;
        file.commit()
    }

    /// The name the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the content to the disk and gives the file its name.
    ///
    /// # Errors
    /// If syncing or renaming fails; nothing is left under either name.
    pub fn commit(self) -> Result<()> {
        let Self { path, place } = self;
        let io = |source| Error::Io {
            action: "write",
            path: path.clone(),
            source,
        };
        let (file, target) = match place {
            Place::Beside(file, target) => (file, target),
            Place::Through(mut file) => return file.flush().map_err(io),
        };
        file.as_file().sync_all().map_err(io)?;
        file.persist(&target).map_err(|e| io(e.error))?;
        // The rename itself is durable once the folder is synced; not every file system can.
        if let Some(folder) = target.parent().filter(|p| !p.as_os_str().is_empty())
            && let Ok(folder) = File::open(folder)
        {
            let _ = folder.sync_all();
        }
        Ok(())
    }

    fn file(&mut self) -> &mut File {
        match &mut self.place {
            Place::Beside(file, _) => file.as_file_mut(),
            Place::Through(file) => file,
        }
    }
}

/// What the system said, without the name of a temporary file that nobody asked for.
pub(crate) fn without_temporary_name(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.rsplit_once(" at path \"") {
        Some((reason, _)) => io::Error::new(error.kind(), reason),
        None => error,
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file().seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_without_commit_and_everything_is_there_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        AtomicFile::write(&path, b"whole").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(AtomicFile::create(folder.path()).is_err());
        let error = AtomicFile::create(&path.join("under a file")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("under a file"), "{text}");
        assert!(!text.contains(".partial"), "{text}");
    }

    #[test]
    fn only_what_nobody_writes_any_more_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let mut alive = AtomicFile::create(&folder.path().join("out")).unwrap();
        alive.write_all(b"going on").unwrap();
        for name in [".graft-dead.partial", "mine.partial", ".graft-mine"] {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        sweep(folder.path());
        assert!(!folder.path().join(".graft-dead.partial").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        alive.commit().unwrap();
        assert_eq!(fs::read(folder.path().join("out")).unwrap(), b"going on");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_stays_and_a_link_keeps_leading_to_its_file() {
        assert!(AtomicFile::write(Path::new("/dev/full"), b"lost").is_err());
        AtomicFile::write(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        AtomicFile::write(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
