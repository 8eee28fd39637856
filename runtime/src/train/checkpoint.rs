//! Saving a run so that going on from there gives the same bits as never having stopped.
//!
//! ```text
//! checkpoint-120/
//!   state.safetensors   parameters and both moments of each, f32
//!   state.json          updates done, options, digests of the base, the tower and the examples
//!   adapter.gguf        the adapter as it is now, ready to attach
//!   mmproj.gguf         the vision half with the projector as it is now, if that learns
//! ```
//! The folder is written under a temporary name, synced, and renamed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Example, TrainError, TrainOptions, Trainer};
use crate::Result;
use crate::adapter::{AdapterError, gguf_file};
use crate::atomic_file::without_temporary_name;
use crate::gguf::GgufError;
use crate::model::llava::Span;

const STATE: &str = "state.json";
const TENSORS: &str = "state.safetensors";
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
    if folder.join(STATE).is_file() {
        return Ok(folder.to_owned());
    }
    let found = all(folder)?.pop().map(|(_, path)| path);
    found.ok_or_else(|| refused(folder, "it holds no checkpoint to go on from".into()))
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
            && entry.path().join(STATE).is_file()
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
    pub fn save(&self, run_folder: &Path) -> Result<PathBuf> {
        let target = run_folder.join(format!("checkpoint-{}", self.done));
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
            .tempdir_in(run_folder)
            .map_err(|e| io("write", run_folder)(without_temporary_name(e)))?;
        let folder = partial.path();
        // Messages name the checkpoint, not the temporary folder it is written in.
        self.write_results(folder)
            .map_err(|e| under_final_name(e, &target))?;
        let tensors = folder.join(TENSORS);
        let bytes = self.state_tensors();
        fs::write(&tensors, bytes).map_err(io("write", &target))?;
        let state = serde_json::to_vec_pretty(&self.state()).expect("plain values become JSON");
        let json = folder.join(STATE);
        File::create(&json)
            .and_then(|mut file| file.write_all(&state))
            .map_err(io("write", &target))?;
        for path in [&tensors, &json] {
            let synced = File::open(path).and_then(|file| file.sync_all());
            synced.map_err(io("write", &target))?;
        }
        if target.exists() {
            fs::remove_dir_all(&target).map_err(io("replace", &target))?;
        }
        fs::rename(folder, &target).map_err(io("write", &target))?;
        // The folder has its final name now; there is nothing temporary left to delete.
        let _ = partial.keep();
        Ok(target)
    }

    /// Writes what the run has learned so far into `folder`: the adapter, and the vision half if
    /// its projector learns.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write_results(&self, folder: &Path) -> Result<()> {
        gguf_file::write(&folder.join(ADAPTER), &self.parameters().adapter)?;
        if let (Some(projector), Some(vision)) =
            (&self.parameters().projector, self.model().vision())
        {
            vision.write_with_projector(&folder.join(MMPROJ), projector)?;
        }
        Ok(())
    }

    /// Goes on from the checkpoint in `folder`, which must be of this very run.
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
        self.read_tensors(folder)?;
        self.done = found.step;
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
        }
    }

    fn state_tensors(&self) -> Vec<u8> {
        let arrays = self.parameters().arrays();
        let mut named: Vec<(String, Vec<u8>)> = Vec::with_capacity(3 * arrays.len());
        for ((name, values), moments) in self.names().zip(&arrays).zip(&self.moments) {
            for (part, values) in [
                ("value", *values),
                ("mean", &moments.mean),
                ("square", &moments.square),
            ] {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                named.push((format!("{name}.{part}"), bytes));
            }
        }
        let views = named.iter().map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes);
            (name.as_str(), view.expect("four bytes a value"))
        });
        safetensors::serialize(views, None).expect("a checkpoint's header is small")
    }

    fn read_tensors(&mut self, folder: &Path) -> Result<()> {
        let path = folder.join(TENSORS);
        let io = |source| TrainError::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        // A damaged folder may hold anything; only a file of about the right size is read.
        let values: usize = self.parameters().len();
        let most = (12 * values + (1 << 20)) as u64 + 1024 * self.names().count() as u64;
        let bytes = fs::metadata(&path).map_err(io)?.len();
        if bytes > most {
            let reason = format!("{TENSORS} has {bytes} bytes, not {most} at most");
            return Err(refused(folder, reason));
        }
        let file = fs::read(&path).map_err(io)?;
        let tensors = SafeTensors::deserialize(&file)
            .map_err(|e| refused(folder, format!("{TENSORS}: {e}")))?;
        let names: Vec<String> = self.names().map(str::to_owned).collect();
        let read = |name: &str, part: &str, len: usize| -> Result<Vec<f32>> {
            let name = format!("{name}.{part}");
            let view = tensors
                .tensor(&name)
                .map_err(|e| refused(folder, format!("{name}: {e}")))?;
            if view.dtype() != Dtype::F32 || view.data().len() != 4 * len {
                let reason = format!("{name} is not {len} values of f32");
                return Err(refused(folder, reason));
            }
            let values: Vec<f32> = view
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect();
            if values.iter().any(|v| !v.is_finite()) {
                return Err(refused(folder, format!("{name} is not finite")));
            }
            Ok(values)
        };
        let mut loaded = Vec::with_capacity(names.len());
        for (name, array) in names.iter().zip(self.parameters().arrays()) {
            let len = array.len();
            loaded.push((
                read(name, "value", len)?,
                read(name, "mean", len)?,
                read(name, "square", len)?,
            ));
        }
        let arrays = self.parameters.arrays_mut().into_iter();
        for ((array, moments), (value, mean, square)) in arrays.zip(&mut self.moments).zip(loaded) {
            array.copy_from_slice(&value);
            moments.mean = mean;
            moments.square = square;
        }
        Ok(())
    }
}

/// SHA-256 of everything in the examples that training sees, in hexadecimal digits.
fn digest(examples: &[Example]) -> String {
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
            features.iter().for_each(|v| hash.update(v.to_le_bytes()));
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
