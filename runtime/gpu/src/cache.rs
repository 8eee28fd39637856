//! What was found out about a device, on disk, so that the next start need not find it out again: its compiled
//! kernels, and which of them are fastest.
//!
//! Compiled kernels are read by a driver that believes them. So the folder must be this user's alone, and each
//! file begins with the hash of what follows; files appear whole or not at all. Whatever fails here, or does not
//! fit, costs time and nothing else.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A larger file is none of ours.
const MOST_BYTES: u64 = 256 << 20;

/// A folder of this user's.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// `$XDG_CACHE_HOME/graft/gpu` or `~/.cache/graft/gpu`, for [`crate::DeviceOptions::cache`].
pub fn cache_folder() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = set.filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
    Some(base.join("graft/gpu"))
}

impl Cache {
    pub(crate) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// What was stored under a name, if it is there and whole.
    pub(crate) fn load(&self, name: &str) -> Option<Vec<u8>> {
        if !is_private(&self.folder) {
            return None;
        }
        let path = self.folder.join(name);
        let file = fs::symlink_metadata(&path).ok()?;
        if !file.is_file() || file.len() > MOST_BYTES {
            return None;
        }
        let mut bytes = vec![];
        File::open(path)
            .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes))
            .ok()?;
        let (hash, content) = bytes.split_at_checked(32)?;
        (Sha256::digest(content).as_slice() == hash).then(|| content.to_vec())
    }

    /// Stores under a name, if the folder can be written and nobody else can write there.
    pub(crate) fn store(&self, name: &str, content: &[u8]) {
        if create_private(&self.folder).is_err() || !is_private(&self.folder) {
            return;
        }
        // It is dropped, and with it the file, where anything fails.
        let _ = tempfile::NamedTempFile::new_in(&self.folder).and_then(|mut file| {
            file.write_all(&Sha256::digest(content))?;
            file.write_all(content)?;
            file.persist(self.folder.join(name)).map_err(|e| e.error)
        });
    }

    /// Forgets what was stored under a name.
    pub(crate) fn remove(&self, name: &str) {
        if is_private(&self.folder) {
            let _ = fs::remove_file(self.folder.join(name));
        }
    }
}

/// A file's name: what it is, and a hash of everything that it depends on.
pub(crate) fn name_of<'a>(what: &str, depends_on: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for text in depends_on {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let hash = hash.finalize();
    let digits: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{what}-{digits}")
}

#[cfg(unix)]
fn create_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn create_private(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}

/// Whether only this user can write there.
#[cfg(unix)]
fn is_private(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = |metadata: &fs::Metadata| {
        let home = std::env::home_dir().and_then(|home| fs::metadata(home).ok());
        home.is_none_or(|home| home.uid() == metadata.uid())
    };
    fs::symlink_metadata(folder).is_ok_and(|m| m.is_dir() && m.mode() & 0o022 == 0 && own(&m))
}

#[cfg(not(unix))]
fn is_private(folder: &Path) -> bool {
    folder.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_stored_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(&home.path().join("a/b"));
        assert_eq!(cache.load("x"), None);
        cache.store("x", b"what was found");
        assert_eq!(cache.load("x").unwrap(), b"what was found");
        cache.store("x", b"");
        assert_eq!(cache.load("x").unwrap(), b"");
        cache.remove("x");
        assert_eq!(cache.load("x"), None);
        let path = home.path().join("a/b/x");
        for forged in [&b"short"[..], &[7; 90]] {
            fs::write(&path, forged).unwrap();
            assert_eq!(cache.load("x"), None);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(cache.load("x"), None);
        cache.store("x", b"cannot be");
        assert_eq!(fs::read_dir(home.path().join("a/b")).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_write_is_not_believed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        cache.store("x", b"mine");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(cache.load("x"), None);
        cache.store("y", b"not written");
        assert!(!folder.path().join("y").exists());
    }
}
