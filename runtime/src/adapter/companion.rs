//! The second file of an adapter that has pairs in the vision half.
//!
//! llama.cpp refuses adapter files with pairs of a projector or a tower, so those lie beside the file with the
//! rest, and that file stays one that every runtime reads:
//!
//! ```text
//! x.gguf          general.architecture "llama"   graft.vision.digest, if there is a companion
//! x.vision.gguf   general.architecture "clip"    graft.vision.digest
//!                 v.blk.N.<linear>.weight.lora_{a,b}   mm.{0,2}.weight.lora_{a,b}
//! ```
//! The digest is of the companion's pairs as they are stored. Both files say it and reading computes it: a
//! companion that is missing, of another adapter, or damaged is refused, and so is one that its neighbour knows
//! nothing of.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::AdapterError;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Metadata};

/// Metadata key of the link between the two files.
pub(super) const DIGEST: &str = "graft.vision.digest";
/// Architecture of the companion.
pub(super) const CLIP: &str = "clip";

/// Where the companion of an adapter file lies: `x.vision.gguf` of `x.gguf`.
pub fn path_of(path: &Path) -> PathBuf {
    match path.extension() {
        Some(extension) if extension == "gguf" => path.with_extension("vision.gguf"),
        _ => {
            let mut name = path.as_os_str().to_owned();
            name.push(".vision.gguf");
            name.into()
        }
    }
}

/// Whether a file says that it is the vision half of an adapter.
pub(super) fn is_companion(metadata: &Metadata) -> bool {
    let says = |key: &str, value: &str| matches!(metadata.opt_str(key), Ok(Some(v)) if v == value);
    says("general.type", "adapter") && says("general.architecture", CLIP)
}

/// The open companion of the adapter file at `path` whose metadata are these; `None` if it has none.
///
/// # Errors
/// If it is missing, cannot be read, or does not belong to this file.
pub(super) fn open(path: &Path, metadata: &Metadata) -> Result<Option<Arc<Gguf>>, AdapterError> {
    let beside = path_of(path);
    let digest = metadata.opt_str(DIGEST)?;
    if !beside.exists() {
        return match digest {
            Some(_) => Err(AdapterError::NoCompanion {
                path: path.to_owned(),
                companion: beside,
            }),
            None => Ok(None),
        };
    }
    let other = || AdapterError::OtherCompanion {
        path: path.to_owned(),
        companion: beside.clone(),
    };
    match (digest, Gguf::open(&beside)) {
        (None, Ok(gguf)) if is_companion(gguf.metadata()) => Err(other()),
        // Whatever else has the name is none of ours.
        (None, _) => Ok(None),
        (Some(_), Err(error)) => Err(error.into()),
        (Some(digest), Ok(gguf)) => match gguf.metadata().opt_str(DIGEST)? {
            Some(found) if found == digest && is_companion(gguf.metadata()) => {
                Ok(Some(Arc::new(gguf)))
            }
            _ => Err(other()),
        },
    }
}

/// Refuses a companion that does not belong to the adapter file with these metadata, and a file that lacks its own;
/// `path` is the file's in messages.
pub(super) fn check(
    metadata: &Metadata,
    companion: Option<&Metadata>,
    path: &Path,
) -> Result<(), AdapterError> {
    let (path, companion_path) = (path.to_owned(), path_of(path));
    let expected = metadata.opt_str(DIGEST)?;
    match companion {
        None if expected.is_none() => Ok(()),
        None => Err(AdapterError::NoCompanion {
            path,
            companion: companion_path,
        }),
        Some(found) if expected.is_some() && found.opt_str(DIGEST)? == expected => Ok(()),
        Some(_) => Err(AdapterError::OtherCompanion {
            path,
            companion: companion_path,
        }),
    }
}

/// What is at the companion's place before an adapter is written to `path`.
pub(super) enum Place {
    Free,
    /// A companion: of what is replaced.
    Taken,
}

/// Looks at the companion's place; `wanted` tells whether one will be written.
///
/// # Errors
/// If a companion is to be written and something else is there, or `path` is a pipe or a device.
pub(super) fn place(path: &Path, wanted: bool) -> Result<Place> {
    let beside = path_of(path);
    let refuse = |reason: &str| -> Result<Place> {
        let (path, reason) = (beside.clone(), reason.to_owned());
        Err(AdapterError::InFolder { path, reason }.into())
    };
    let target = fs::metadata(path).ok();
    if wanted && target.is_some_and(|target| !target.is_file()) {
        return refuse(
            "an adapter with pairs in the vision half is two files; write it to a folder, under a name",
        );
    }
    if !beside.exists() {
        return Ok(Place::Free);
    }
    match Gguf::open(&beside) {
        Ok(gguf) if is_companion(gguf.metadata()) => Ok(Place::Taken),
        _ if wanted => refuse(
            "the adapter's vision half belongs here and another file has the name; move it away",
        ),
        _ => Ok(Place::Free),
    }
}

/// Deletes the companion of what was at `path` before.
///
/// # Errors
/// If the disk refuses; reading then refuses the companion.
pub(super) fn remove(path: &Path) -> Result<()> {
    let beside = path_of(path);
    fs::remove_file(&beside).map_err(|source| Error::Io {
        action: "delete",
        path: beside.clone(),
        source,
    })
}
