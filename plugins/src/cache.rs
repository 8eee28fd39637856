//! Compiled plugins on disk, so that the next start takes a millisecond.
//!
//! A compiled plugin is machine code: running a forged one is running a stranger's program. So
//! the folder is ours alone, each file starts with the hash of what follows, and its name is the
//! hash of the plugin, the engine's configuration and our version. Compiled code that comes with
//! a plugin is never loaded.

use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use graft::atomic_file::AtomicFile;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// A folder of compiled plugins. Whatever fails in it only costs time.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The folder of this user: `$XDG_CACHE_HOME/graft/plugins` or `~/.cache/graft/plugins`.
    pub fn of_user() -> Option<Self> {
        let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let base = set.filter(|path| path.is_absolute());
        let base = base.or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
        Some(Self::at(base.join("graft/plugins")))
    }

    /// The folder `folder`, made when it is first needed.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { folder }
    }

    /// The compiled form of the plugin with the hash `wasm_sha256`, if it is there and whole.
    pub(crate) fn load(&self, engine: &Engine, wasm_sha256: &str) -> Option<Component> {
        let path = self.file(engine, wasm_sha256);
        if !is_private(&self.folder) {
            return None;
        }
        let bytes = fs::read(path).ok()?;
        let (hash, code) = bytes.split_at_checked(32)?;
        if Sha256::digest(code).as_slice() != hash {
            return None;
        }
        trusted(engine, code)
    }

    /// Keeps the compiled form of a plugin.
    pub(crate) fn store(&self, engine: &Engine, wasm_sha256: &str, component: &Component) {
        let Ok(code) = component.serialize() else {
            return;
        };
        if create_private(&self.folder).is_err() || !is_private(&self.folder) {
            tracing::debug!(
                "the plugin cache {} is not ours alone",
                self.folder.display()
            );
            return;
        }
        let mut bytes = Sha256::digest(&code).to_vec();
        bytes.extend_from_slice(&code);
        let path = self.file(engine, wasm_sha256);
        if let Err(error) = AtomicFile::write(&path, &bytes) {
            tracing::debug!("cannot cache a compiled plugin: {error}");
        }
    }

    fn file(&self, engine: &Engine, wasm_sha256: &str) -> PathBuf {
        let mut key = Sha256::new();
        key.update(wasm_sha256);
        key.update(env!("CARGO_PKG_VERSION"));
        let mut configuration = HashInto(key);
        engine
            .precompile_compatibility_hash()
            .hash(&mut configuration);
        let name = hex(&configuration.0.finalize());
        self.folder.join(format!("{name}.cwasm"))
    }
}

/// Compiled code that [`Cache::load`] has checked.
fn trusted(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: the bytes are what `Component::serialize` gave `Cache::store`: their hash stands
    // before them, and the folder is writable only by this user (`is_private`), who can run any
    // code anyway. The engine itself refuses another version or configuration.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize(engine, code) };
    component.ok()
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Feeds what is hashed into a cryptographic hash.
struct HashInto(Sha256);

impl Hasher for HashInto {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Only the state is used.
        0
    }
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
