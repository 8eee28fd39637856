//! What every command that runs a model is told: files, adapters, threads, and how to choose tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use graft::adapter::{Adapter, AdapterError, Attached};
use graft::gguf::GgufError;
use graft::image::{self, ImageLimits};
use graft::kv_cache::KvCache;
use graft::model::{Inference, Model, ModelOptions};
use graft::sampler::Sampling;
use graft::session::{Item, Session, SessionOptions, ShownImage};
use graft::threads::Pool;
use graft::train::TrainError;

use crate::device_arguments::DeviceArguments;
use crate::failure::Failure;
use crate::progress::short_bytes;

/// A model, its vision half and its adapters.
#[derive(Args, Clone, Debug)]
pub struct ModelArguments {
    /// The model, a GGUF file
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
    /// Its vision half, for models that see
    #[arg(long, value_name = "FILE")]
    pub mmproj: Option<PathBuf>,
    /// An adapter and how strongly it counts [default: 1]; may be repeated, they add up
    #[arg(long = "adapter", value_name = "FILE[:SCALE]", value_parser = adapter_argument)]
    pub adapters: Vec<AdapterArgument>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    pub threads: usize,
    #[command(flatten)]
    pub device: DeviceArguments,
}

/// An adapter file with a strength.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterArgument {
    /// A GGUF adapter, or a folder of PEFT or mlx-lm.
    pub path: PathBuf,
    /// What its terms are multiplied by.
    pub scale: f32,
}

/// How tokens are chosen.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Choosing tokens")]
pub struct SamplingArguments {
    /// Most tokens of an answer; 0 for as many as the context holds
    #[arg(short = 'n', long, value_name = "N", default_value_t = 512)]
    pub max_tokens: usize,
    /// Temperature; 0 always takes the likeliest token
    #[arg(long = "temp", value_name = "T", default_value_t = 0.0, value_parser = from_zero)]
    pub temperature: f32,
    /// Choose among the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 40)]
    pub top_k: usize,
    /// Choose among the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = probability)]
    pub top_p: f32,
    /// Leave out tokens less likely than this part of the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.05, value_parser = probability)]
    pub min_p: f32,
    /// The same seed gives the same answer
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
}

/// A model with the adapters that were asked for.
pub struct Opened {
    pub model: Arc<Model>,
    pub adapters: Vec<(Arc<Adapter>, f32)>,
}

impl ModelArguments {
    /// Opens everything that was named.
    pub fn open(&self) -> Result<Opened, Failure> {
        let options = ModelOptions {
            mmproj: self.mmproj.clone(),
            threads: self.threads,
            device: self.device.options(0),
        };
        let model = open_model(&self.model, &options)?;
        self.device.tell(&model);
        let open = |argument: &AdapterArgument| Ok((argument.open(&model)?, argument.scale));
        let adapters = self.adapters.iter().map(open);
        let adapters = adapters.collect::<Result<_, Failure>>()?;
        Ok(Opened { model, adapters })
    }
}

impl Opened {
    /// The adapters as a session takes them.
    pub fn attached(&self) -> Attached {
        Attached::new(self.adapters.iter().cloned())
    }

    /// A session with the adapters attached; `context` 0 takes the model's own length.
    pub fn session(&self, context: usize) -> Result<Session, Failure> {
        check_context(&self.model, context)?;
        let options = SessionOptions::with_context(context);
        let mut session = Session::new(Arc::clone(&self.model), &options)?;
        session.set_adapters(self.attached())?;
        Ok(session)
    }
}

impl AdapterArgument {
    /// Opens the adapter for a model.
    pub fn open(&self, model: &Model) -> Result<Arc<Adapter>, Failure> {
        Adapter::open(&self.path, model).map_err(|e| about(&self.path, e))
    }
}

impl SamplingArguments {
    /// The library's words for it.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed,
        }
    }
}

/// Opens a model; a failure says which of the two files it is about.
pub fn open_model(path: &Path, options: &ModelOptions) -> Result<Arc<Model>, Failure> {
    let alone = ModelOptions {
        mmproj: None,
        threads: 1,
        ..ModelOptions::default()
    };
    Model::open(path, options).map_err(|error| match &options.mmproj {
        Some(mmproj) if Model::open(path, &alone).is_ok() => about(mmproj, error),
        _ => about(path, error),
    })
}

/// Refuses a context that the machine has no memory for.
pub fn check_context(model: &Model, positions: usize) -> Result<(), Failure> {
    let shape = model.llama().shape();
    let row = KvCache::bytes(shape, 1) + Inference::bytes(shape, 1, 1);
    let most = graft::memory::memory().map_or(u64::MAX, |memory| memory.total);
    match positions.checked_mul(row) {
        Some(bytes) if bytes as u64 <= most && positions <= 1 << 24 => Ok(()),
        _ => Err(Failure::Usage(format!(
            "a context of {positions} positions needs more memory than the {} of this machine; \
             choose a smaller --ctx",
            short_bytes(most)
        ))),
    }
}

/// Reads image files, to be shown to a model.
pub fn images(model: &Arc<Model>, paths: &[PathBuf]) -> Result<Vec<Item>, Failure> {
    if !paths.is_empty() && model.vision().is_none() {
        let reason = "--image needs the model's vision half: give --mmproj";
        return Err(Failure::Usage(reason.into()));
    }
    let images = paths.iter().map(|path| {
        let image = image::open(path, &ImageLimits::default()).map_err(graft::Error::from)?;
        Ok(Item::Image(ShownImage::new(model, &image)?))
    });
    images.collect()
}

/// A failure that names the file it is about.
pub fn about(path: &Path, error: impl Into<graft::Error>) -> Failure {
    let error = error.into();
    if names_a_file(&error) {
        return error.into();
    }
    let failure = Failure::from(error);
    match failure {
        Failure::Work(sentence) => {
            let path = path.display().to_string();
            match sentence.contains(&path) {
                true => Failure::Work(sentence),
                false => Failure::Work(format!("{path}: {sentence}")),
            }
        }
        other => other,
    }
}

/// Whether an error says itself which file it is about; that may be another one, such as the output.
fn names_a_file(error: &graft::Error) -> bool {
    use graft::Error::{Adapter, Dataset, Gguf, Image, Io, Train};
    let gguf = |e: &GgufError| {
        matches!(
            e,
            GgufError::Io { .. } | GgufError::Folder { .. } | GgufError::InFile { .. }
        )
    };
    match error {
        Io { .. } | Dataset(_) | Image(_) => true,
        Gguf(e) | Adapter(AdapterError::Gguf(e)) => gguf(e),
        Adapter(e) => matches!(
            e,
            AdapterError::InModel { .. }
                | AdapterError::OtherShape { .. }
                | AdapterError::WeightNotFinite { .. }
                | AdapterError::NoDifference { .. }
        ),
        Train(e) => matches!(e, TrainError::Io { .. }),
        _ => false,
    }
}

/// `FILE` or `FILE:SCALE`. A colon that no number follows belongs to the name.
pub fn adapter_argument(text: &str) -> Result<AdapterArgument, String> {
    let whole = |scale| AdapterArgument {
        path: PathBuf::from(text),
        scale,
    };
    if text.is_empty() {
        return Err("name a file".into());
    }
    let Some((path, scale)) = text.rsplit_once(':') else {
        return Ok(whole(1.0));
    };
    match scale.parse::<f32>() {
        _ if Path::new(text).exists() => Ok(whole(1.0)),
        Ok(scale) if scale.is_finite() && !path.is_empty() => Ok(AdapterArgument {
            path: path.into(),
            scale,
        }),
        Ok(_) if path.is_empty() => Err("name a file before the colon".into()),
        Ok(_) => Err(format!("the scale {scale} is not a usable number")),
        Err(_) => Ok(whole(1.0)),
    }
}

/// Workers from the command line; 0 is one per core.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= Pool::MOST => Ok(n),
        _ => Err(format!("give a number from 0 to {}", Pool::MOST)),
    }
}

fn from_zero(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("give a number from 0 on".into()),
    }
}

fn probability(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("give a number from 0 to 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_stands_after_the_last_colon() {
        let read = |text: &str| adapter_argument(text).map(|a| (a.path, a.scale));
        assert_eq!(read("a.gguf"), Ok(("a.gguf".into(), 1.0)));
        assert_eq!(read("a.gguf:0.5"), Ok(("a.gguf".into(), 0.5)));
        assert_eq!(read("C:/a:b:-2"), Ok(("C:/a:b".into(), -2.0)));
        assert_eq!(read("C:/a.gguf"), Ok(("C:/a.gguf".into(), 1.0)));
        assert!(read("a.gguf:nan").is_err());
        assert!(read("").is_err());
    }
}
