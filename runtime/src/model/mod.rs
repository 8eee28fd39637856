//! Compute graphs: operators in order, forward and backward of a layer in one file.

mod activations;
mod adapted;
mod attention;
mod batch;
mod device_layers;
mod error;
mod image_encoder;
mod layer;
mod linear;
mod llama;
pub mod llava;
mod pass;
mod projector;
mod rounding;
mod rowwise;
mod saved;
mod shape;
mod site;
mod trial;
mod vision;
mod vision_tower;
mod weights;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::device::{self, DeviceOptions, TrainingRoom};
use crate::gguf::Gguf;
use crate::threads::Pool;
use crate::tokenizer::Tokenizer;

pub use activations::{ActivationPlan, Activations};
pub use adapted::{Adapted, InputGradient, LoraScratch};
pub use batch::{FreshKv, Lane};
pub use device_layers::{DeviceKept, DeviceKv, DeviceLayers, DeviceReport, DeviceTraining};
pub use error::ModelError;
pub use graft_kernels::low_rank::LowRank;
pub use graft_kernels::ops::dropout::Dropout;
pub use image_encoder::{DeviceEncoder, ImageEncoder};
pub use layer::{Kept, Layer, Work, worker_bytes};
pub use linear::{Linear, product_parallel};
pub use llama::{Inference, Llama};
pub use pass::{Pass, Wanted};
pub use projector::{PROJECTOR_TENSORS, Projector, ProjectorParameters, ProjectorSaved};
pub use rounding::{Input, Rounding, Widest, Words};
pub use rowwise::cross_entropy;
pub use saved::{BackwardScratch, Saved, Scratch};
pub use shape::LlamaShape;
pub use site::{
    AdapterView, GradientView, LoraGradient, LoraRef, ProjectorKind, RowSpan, Site, SiteKind,
    TowerKind, Unadapted,
};
pub use trial::Trial;
pub use vision::{Vision, VisionShape};
pub use vision_tower::{VisionStage, VisionTower, VisionWork};
pub use weights::{LayerWeights, LlamaWeights, Weight, vector};

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct ModelOptions {
    /// The vision half (an mmproj file), for models that see.
    pub mmproj: Option<PathBuf>,
    /// Worker threads; 0 means one per core.
    pub threads: usize,
    /// What runs it.
    pub device: DeviceOptions,
}

/// An opened model file: frozen, shared by any number of sessions and trainers.
#[derive(Debug)]
pub struct Model {
    gguf: Arc<Gguf>,
    llama: Llama,
    vision: Option<Vision>,
    tokenizer: Option<Tokenizer>,
    fingerprint: String,
    passed_over: Option<String>,
}

impl Model {
    /// Opens a model file and checks everything in it that will be used.
    ///
    /// # Errors
    /// A file that cannot be read or is not a model graft runs; no workers to be had.
    pub fn open(path: &Path, options: &ModelOptions) -> crate::Result<Arc<Self>> {
        Self::new(Arc::new(Gguf::open(path)?), options)
    }

    /// A model from a file that is already open.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn new(gguf: Arc<Gguf>, options: &ModelOptions) -> crate::Result<Arc<Self>> {
        let vision = options.mmproj.as_deref().map(Gguf::open).transpose()?;
        let pool = Pool::new(options.threads)?;
        Self::from_parts(gguf, vision.map(Arc::new), pool, &options.device)
    }

    /// A model from files that are already open, the second of them its vision half, on workers that others use
    /// as well.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_parts(
        gguf: Arc<Gguf>,
        vision: Option<Arc<Gguf>>,
        pool: Pool,
        device: &DeviceOptions,
    ) -> crate::Result<Arc<Self>> {
        Self::bind(gguf, vision, pool, |llama, vision| {
            device::attach(llama, vision, device)
        })
    }

    /// The same with what `attach` has run it, which may say why it is the processor.
    fn bind(
        gguf: Arc<Gguf>,
        vision: Option<Arc<Gguf>>,
        pool: Pool,
        attach: impl FnOnce(&mut Llama, Option<&Vision>) -> crate::Result<Option<String>>,
    ) -> crate::Result<Arc<Self>> {
        let mut llama = Llama::bind(&gguf, pool)?;
        let width = llama.shape().width;
        let vision = vision.map(|gguf| Vision::new(gguf, width)).transpose()?;
        let tokenizer = match gguf.metadata().get("tokenizer.ggml.model") {
            Some(_) => Some(Tokenizer::from_metadata(gguf.metadata())?),
            None => None,
        };
        let (tokens, rows) = (
            tokenizer.as_ref().map_or(0, Tokenizer::vocab_size),
            llama.shape().vocabulary,
        );
        if tokens > rows {
            let reason = format!("{tokens} tokens, but embeddings of {rows} only");
            return Err(ModelError::Inconsistent(reason).into());
        }
        let passed_over = attach(&mut llama, vision.as_ref())?;
        Ok(Arc::new(Self {
            passed_over,
            tokenizer,
            fingerprint: fingerprint(&gguf),
            vision,
            llama,
            gguf,
        }))
    }

    /// The same model, from the same files and on the same workers, some of whose layers a device runs.
    ///
    /// # Errors
    /// If the device is not to be had, or what was asked for does not fit it.
    pub fn on_device(&self, device: &DeviceOptions) -> crate::Result<Arc<Self>> {
        let vision = self.vision.as_ref().map(|vision| Arc::clone(vision.gguf()));
        let pool = self.llama.pool().clone();
        Self::from_parts(Arc::clone(&self.gguf), vision, pool, device)
    }

    /// The same model on the same device, which has room there for training from now on: what the device holds is
    /// shared, layers that had no room are written to it for each pass, and it computes the loss if it can. Without a
    /// device it is the model itself, bound anew.
    ///
    /// # Errors
    /// If the device has no room beside what it holds, or is lost.
    pub fn for_training(&self, room: TrainingRoom) -> crate::Result<Arc<Self>> {
        let vision = self.vision.as_ref().map(|vision| Arc::clone(vision.gguf()));
        let pool = self.llama.pool().clone();
        let gguf = Arc::clone(&self.gguf);
        Self::bind(gguf, vision, pool, |llama, vision| {
            if let Some(device) = self.llama.device() {
                let device = device.for_training(llama, vision, room)?;
                llama.set_device(device);
            }
            Ok(None)
        })
    }

    /// Why no device runs it, where that was left open ([`DeviceChoice::Auto`](crate::device::DeviceChoice::Auto)).
    pub fn passed_over(&self) -> Option<&str> {
        self.passed_over.as_deref()
    }

    /// The file.
    pub fn gguf(&self) -> &Arc<Gguf> {
        &self.gguf
    }

    /// The language model.
    pub fn llama(&self) -> &Llama {
        &self.llama
    }

    /// Its vision half, if it was opened with one.
    pub fn vision(&self) -> Option<&Vision> {
        self.vision.as_ref()
    }

    /// `(outputs, inputs)` of the matrix at a site, as the file stores it; `None` if the model has none there, or
    /// was opened without the vision half that it is in.
    pub fn sizes(&self, site: Site) -> Option<(usize, usize)> {
        match site.is_vision() {
            true => self.vision.as_ref()?.sizes(site),
            false => self.llama.shape().sizes(site),
        }
    }

    /// The model's own name, or that of its file.
    pub fn name(&self) -> String {
        let named = self.gguf.metadata().opt_str("general.name").ok().flatten();
        let file = || self.gguf.path().and_then(|p| p.file_name());
        match named.filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => file().map_or_else(|| "the model".into(), |f| f.to_string_lossy().into_owned()),
        }
    }

    /// Its vocabulary.
    ///
    /// # Errors
    /// If the file has none; such a model computes, but only on token numbers.
    pub fn tokenizer(&self) -> Result<&Tokenizer, ModelError> {
        self.tokenizer.as_ref().ok_or(ModelError::NoTokenizer)
    }

    /// Names this very model: equal for equal hyperparameters, tensors and weights (sampled),
    /// whatever the file is called and whatever else it says.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// SHA-256 over the hyperparameters, the tensor directory and 256 bytes from the beginning,
/// the middle and the end of each tensor, as 64 hexadecimal digits.
fn fingerprint(gguf: &Gguf) -> String {
    let mut hash = Sha256::new();
    hash.update(b"graft model 1\n");
    let mut lines: Vec<String> = gguf
        .metadata()
        .iter()
        .filter(|(key, _)| key.starts_with("llama."))
        .map(|(key, value)| format!("{key}={value:?}\n"))
        .collect();
    lines.sort();
    for line in lines {
        hash.update(line);
    }
    let mut tensors: Vec<usize> = (0..gguf.tensors().len()).collect();
    tensors.sort_by_key(|&i| &gguf.tensors()[i].name);
    for i in tensors {
        let info = &gguf.tensors()[i];
        hash.update(format!(
            "{} {:?} {}\n",
            info.name, info.shape, info.quant_type
        ));
        let data = gguf.data(i);
        for at in [0, data.len() / 2, data.len().saturating_sub(256)] {
            hash.update(&data[at..data.len().min(at + 256)]);
        }
        // What was looked at came with its neighbours in the file.
        gguf.release(i, 0..data.len());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
