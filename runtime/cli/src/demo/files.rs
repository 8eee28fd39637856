//! The model and the data that the program carries.

use std::fs;
use std::io;
use std::path::Path;

/// Name and content of each file, sorted by name; listed by the build script.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/demo_files.rs"));

/// Writes every file below `folder`.
///
/// # Errors
/// If the disk refuses.
pub fn unpack(folder: &Path) -> io::Result<()> {
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}
