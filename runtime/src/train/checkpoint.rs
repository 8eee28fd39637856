//! Saving a run so that going on from there gives the same bits as never having stopped.
//!
//! ```text
//! checkpoint-120/
//!   state.safetensors   parameters and both moments of each, f32
//!   state.json          updates done, options, digests of the base, the tower and the examples, and
//!                       what evaluations have shown
//!   adapter.gguf        the adapter as it is now, ready to attach, if it has pairs
//!   mmproj.gguf         the vision half with the projector as it is now, if that learns
//! ```
//! The folder is written under a temporary name, synced, and renamed.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::state_file::{StateReader, StateWriter};
use super::{Example, Standing, TrainError, TrainOptions, Trainer};
use crate::Result;
use crate::adapter::{AdapterError, gguf_file};
use crate::atomic_file::without_temporary_name;
use crate::gguf::GgufError;
use crate::model::llava::Span;

const STATE: &str = "state.json";
const TENSORS: &str = "state.safetensors";
/// What it holds of each array of parameters.
const PARTS: [&str; 3] = ["value", "mean", "square"];
/// The adapter's file in a checkpoint or run folder.
pub const ADAPTER: &str = "adapter.gguf";
/// The vision half's file in a checkpoint or run folder.
pub const MMPROJ: &str = "mmproj.gguf";
/// No checkpoint's description is longer.
const MOST_JSON_BYTES: u64 = 1 << 20;

/// What a checkpoint says about itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CheckpointState {
    /// Updates done.
    pub step: u64,
    /// Updates of the whole run.
    pub steps: u64,
    /// Fingerprint of the base model.
    pub model: String,
    /// Fingerprint of the vision tower, if there is one.
    pub vision: Option<String>,
    /// SHA-256 of the examples.
    pub examples: String,
    /// The options of the run.
    pub options: TrainOptions,
    /// What evaluations have shown.
    #[serde(default)]
    pub standing: Standing,
}

impl CheckpointState {
    /// Reads the description of the checkpoint in `folder`.
    ///
    /// # Errors
    /// If there is none, or it is malformed.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(STATE);
        let io = |source| TrainError::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        let bytes = fs::metadata(&path).map_err(io)?.len();
        if bytes > MOST_JSON_BYTES {
            return Err(refused(folder, format!("{STATE} has {bytes} bytes")));
        }
        let text = fs::read(&path).map_err(io)?;
        serde_json::from_slice(&text).map_err(|e| refused(folder, format!("{STATE}: {e}")))
    }
}

/// The latest checkpoint in a run folder, or `folder` itself if it is one.
///
/// # Errors
/// If there is none.
pub fn latest(folder: &Path) -> Result<PathBuf> {
    if is_one(folder) {
        return Ok(folder.to_owned());
    }
    let found = all(folder)?.pop().map(|(_, path)| path);
    found.ok_or_else(|| refused(folder, "it holds no checkpoint to go on from".into()))
}

/// The folder of the checkpoint after update number `step`.
pub fn named(run_folder: &Path, step: u64) -> PathBuf {
    run_folder.join(format!("checkpoint-{step}"))
}

/// Whether `folder` is a checkpoint.
pub fn is_one(folder: &Path) -> bool {
    folder.join(STATE).is_file()
}

/// Every checkpoint in a run folder with its number, oldest first.
///
/// # Errors
/// If the folder cannot be read.
pub fn all(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let io = |source| TrainError::Io {
        action: "read",
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix("checkpoint-"));
        if let Some(number) = number.and_then(|n| n.parse().ok())
            && is_one(&entry.path())
        {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

impl Trainer {
    /// Saves the run in `run_folder`, in a folder named for its updates, and returns that.
    ///
    /// # Errors
    /// If the disk refuses; older checkpoints are untouched then.
    pub fn save(&mut self, run_folder: &Path) -> Result<PathBuf> {
        let target = named(run_folder, self.done);
        self.save_as(&target)?;
        Ok(target)
    }

    /// Saves the run as the checkpoint `target`; one that is there already is replaced.
    ///
    /// # Errors
    /// If the disk refuses, or something else is there; it is untouched then.
    pub fn save_as(&mut self, target: &Path) -> Result<()> {
        self.check_whole()?;
        let vacant = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
        if target.exists() && !is_one(target) && !vacant() {
            return Err(refused(target, "something else is there".into()));
        }
        let beside = match target.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let io = |action: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| TrainError::Io {
                action,
                path,
                source,
            }
        };
        let partial = tempfile::Builder::new()
            .prefix(".checkpoint-")
            .suffix(".partial")
            .tempdir_in(beside)
            .map_err(|e| io("write", beside)(without_temporary_name(e)))?;
        let folder = partial.path();
        // Messages name the checkpoint, not the temporary folder it is written in.
        self.write_results(folder)
            .map_err(|e| under_final_name(e, target))?;
        self.write_state(&folder.join(TENSORS))
            .map_err(|e| match e {
                StateError::File(e) => io("write", target)(e).into(),
                StateError::Moments(e) => e,
            })?;
        let state = serde_json::to_vec_pretty(&self.state()).expect("plain values become JSON");
        let json = folder.join(STATE);
        File::create(&json)
            .and_then(|mut file| file.write_all(&state))
            .map_err(io("write", target))?;
        let synced = File::open(&json).and_then(|file| file.sync_all());
        synced.map_err(io("write", target))?;
        sync_names(folder);
        if target.exists() && exchange(folder, target) {
            // The temporary name is that of the old one now, which goes away with it.
            sync_names(beside);
            return Ok(());
        }
        if target.exists() {
            fs::remove_dir_all(target).map_err(io("replace", target))?;
        }
        fs::rename(folder, target).map_err(io("write", target))?;
        sync_names(beside);
        // The folder has its final name now; there is nothing temporary left to delete.
        let _ = partial.keep();
        Ok(())
    }

    /// Writes what the run has learned so far into `folder`: the adapter if it has pairs, and the
    /// vision half if its projector learns.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write_results(&self, folder: &Path) -> Result<()> {
        if !self.parameters().adapter.is_empty() {
            gguf_file::write(&folder.join(ADAPTER), &self.parameters().adapter)?;
        }
        if let (Some(projector), Some(vision)) =
            (&self.parameters().projector, self.model().vision())
        {
            vision.write_with_projector(&folder.join(MMPROJ), projector)?;
        }
        Ok(())
    }

    /// Goes on from the checkpoint in `folder`, which must be of this very run. An update that stopped half-way is
    /// forgotten.
    ///
    /// # Errors
    /// If it is of another base, other data or other options, or is damaged; nothing has changed then.
    pub fn resume(&mut self, folder: &Path) -> Result<()> {
        let found = CheckpointState::read(folder)?;
        let own = self.state();
        let checks = [
            ("the base model", found.model == own.model),
            ("the vision tower", found.vision == own.vision),
            ("the training data", found.examples == own.examples),
            ("the options", found.options.same_course(&own.options)),
        ];
        if let Some((what, _)) = checks.iter().find(|(_, same)| !same) {
            return Err(refused(
                folder,
                format!("{what} changed since it was saved"),
            ));
        }
        if found.step > self.steps() {
            return Err(refused(
                folder,
                format!("{} updates of {} are done", found.step, self.steps()),
            ));
        }
        let path = folder.join(TENSORS);
        self.read_state(&path).map_err(|e| match e {
            StateError::File(e) => match e.kind() {
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                    refused(folder, format!("{TENSORS}: {e}"))
                }
                _ => TrainError::Io {
                    action: "read",
                    path,
                    source: e,
                }
                .into(),
            },
            StateError::Moments(e) => e,
        })?;
        self.done = found.step;
        self.standing = found.standing;
        self.torn = false;
        Ok(())
    }

    fn state(&self) -> CheckpointState {
        CheckpointState {
            step: self.done,
            steps: self.steps(),
            model: self.model().fingerprint().to_owned(),
            vision: self.model().vision().map(|v| v.fingerprint().to_owned()),
            examples: digest(self.examples()),
            options: self.options().clone(),
            standing: self.standing.clone(),
        }
    }

    /// The arrays of the state, in the order of the file: of each parameter array its values, the means
    /// and the squares.
    fn state_arrays(&self) -> Vec<(String, usize)> {
        let arrays = self.parameters().arrays();
        let each = self
            .names()
            .zip(arrays)
            .flat_map(|(name, array)| PARTS.map(|part| (format!("{name}.{part}"), array.len())));
        each.collect()
    }

    fn write_state(&mut self, path: &Path) -> std::result::Result<(), StateError> {
        let mut file = StateWriter::create(path, &self.state_arrays())?;
        for (index, values) in self.parameters.arrays().into_iter().enumerate() {
            file.write(values)?;
            // Twice over the pieces, so that no array needs a copy.
            self.moments.update(index, |_, mean, _| {
                file.write(mean).map_err(StateError::File)
            })?;
            self.moments.update(index, |_, _, square| {
                file.write(square).map_err(StateError::File)
            })?;
        }
        Ok(file.finish()?)
    }

    /// Reads everything once to see that it is sound, and then again to use it.
    fn read_state(&mut self, path: &Path) -> std::result::Result<(), StateError> {
        let arrays = self.state_arrays();
        let values = arrays.iter().map(|(_, len)| len).sum();
        let mut file = StateReader::open(path, arrays.len(), values)?;
        for (name, len) in &arrays {
            file.check(name, *len)?;
        }
        let values = self.parameters.arrays_mut().into_iter();
        for (index, (values, names)) in values.zip(arrays.as_chunks::<3>().0).enumerate() {
            let [of_values, of_means, of_squares] = names;
            file.read(&of_values.0, 0, values)?;
            self.moments.update(index, |first, mean, _| {
                file.read(&of_means.0, first, mean)
                    .map_err(StateError::File)
            })?;
            self.moments.update(index, |first, _, square| {
                file.read(&of_squares.0, first, square)
                    .map_err(StateError::File)
            })?;
        }
        Ok(())
    }
}

/// A failure of the state's file, or of the file that the moments lie in.
enum StateError {
    File(std::io::Error),
    Moments(crate::Error),
}

impl From<std::io::Error> for StateError {
    fn from(error: std::io::Error) -> Self {
        Self::File(error)
    }
}

impl From<crate::Error> for StateError {
    fn from(error: crate::Error) -> Self {
        Self::Moments(error)
    }
}

/// Makes the names in a folder survive a power cut, where the file system can.
fn sync_names(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Gives each of two folders the other's name in one step, where the system can: there is no moment
/// without a checkpoint of this name.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// SHA-256 of everything that the examples are made of, in hexadecimal digits.
pub(super) fn digest(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        for span in &example.sequence.spans {
            match span {
                Span::Tokens(ids) => ids.iter().for_each(|id| hash.update(id.to_le_bytes())),
                Span::Image { image, rows } => {
                    hash.update(format!("image {image} {rows}"));
                }
            }
        }
        let labels = &example.sequence.labels;
        labels.iter().for_each(|l| hash.update(l.to_le_bytes()));
        for features in &example.features {
            hash.update(features.identity());
        }
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A failure to write a part of the checkpoint `target`, as one about the checkpoint.
fn under_final_name(error: crate::Error, target: &Path) -> crate::Error {
    use crate::Error;
    let source = match error {
        Error::Io { source, .. }
        | Error::Gguf(GgufError::Io { source, .. })
        | Error::Adapter(AdapterError::Gguf(GgufError::Io { source, .. })) => source,
        other => return other,
    };
    TrainError::Io {
        action: "write",
        path: target.to_owned(),
        source,
    }
    .into()
}

fn refused(path: &Path, reason: String) -> crate::Error {
    TrainError::Checkpoint {
        path: path.to_owned(),
        reason,
    }
    .into()
}
