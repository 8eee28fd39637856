//! How a run stays inside its memory: where its values lie, and what is computed twice. Nothing here
//! changes a bit of the result.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where values lie while nobody uses them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In memory, from beginning to end.
    Memory,
    /// On the disk, to be read each time.
    Disk,
}

/// When gradients are used up.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GradientPlace {
    /// When all are there.
    #[default]
    Whole,
    /// A layer's as soon as they are complete: only where an update is one pack, and nothing has to
    /// know the norm of the whole gradient.
    Layer,
}

/// What a run does to need less memory; the plan chooses where nothing is said.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Levers {
    /// Layers (from the top) that keep their intermediate values; the others compute them again in
    /// the backward pass. All, if nobody chooses.
    pub kept_layers: Option<usize>,
    /// The base's weights. On disk, a layer's leave memory after its turn while the next layer's are
    /// read.
    pub weights: Option<Place>,
    /// The inputs of the layers between forward and backward.
    pub inputs: Option<Place>,
    /// The vision tower's features of images; each is computed once, wherever it lies.
    pub features: Option<Place>,
    /// The gradients of the pairs.
    pub gradients: Option<GradientPlace>,
    /// The moments of AdamW.
    pub moments: Option<Place>,
    /// The folder for what lies on disk; the system's for temporary files, which some systems keep in
    /// memory, if nobody chooses.
    pub folder: Option<PathBuf>,
}

impl Levers {
    /// Whether the weights are streamed.
    pub fn stream_weights(&self) -> bool {
        self.weights == Some(Place::Disk)
    }

    /// The folder of a file with the layers' inputs, if they are not in memory.
    pub fn inputs_in(&self) -> Option<PathBuf> {
        (self.inputs == Some(Place::Disk)).then(|| self.folder())
    }

    /// The folder of a file with the moments, if they are not in memory.
    pub fn moments_in(&self) -> Option<PathBuf> {
        (self.moments == Some(Place::Disk)).then(|| self.folder())
    }

    /// The folder for what lies on disk.
    pub(super) fn folder(&self) -> PathBuf {
        let given = self.folder.as_deref().map(Path::to_owned);
        given.unwrap_or_else(std::env::temp_dir)
    }
}
