//! Which device runs a model: the processor, or a graphics device beside it.
//!
//! A build without the feature `gpu` knows the words and refuses them; the rest is in `gpu`.

use std::fmt;
use std::str::FromStr;

use crate::Result;
use crate::model::{Llama, Vision};

/// Why a device does not run a model, or ran it no further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum DeviceError {
    #[error(
        "{asked:?} is no device; say cpu, auto, gpu, or gpu: with a number or a part of a name from `graft devices`"
    )]
    Unknown { asked: String },
    #[error(
        "this build of graft has no part for graphics devices; build it with the feature gpu, or run on the cpu"
    )]
    NotBuilt,
    #[error("{0}")]
    Refused(String),
    #[error("{0}; what was saved before is whole")]
    Lost(String),
    #[error("{0}")]
    NoMemory(String),
    #[error(
        "{device}: {layers} layers need {needed} bytes with {context} positions, the budget has {free}; ask for fewer layers, a shorter context or a larger budget"
    )]
    NoRoom {
        device: String,
        layers: usize,
        needed: u64,
        context: usize,
        free: u64,
    },
}

/// Which device.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum DeviceChoice {
    /// The processor alone.
    #[default]
    Cpu,
    /// A graphics device if there is one that is no software, the processor otherwise.
    Auto,
    /// A graphics device: the best that is no software, or the one of this number or name.
    Gpu(Option<String>),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "auto" => Ok(Self::Auto),
            "gpu" => Ok(Self::Gpu(None)),
            _ => match text.strip_prefix("gpu:") {
                Some(name) if !name.is_empty() => Ok(Self::Gpu(Some(name.to_owned()))),
                _ => Err(DeviceError::Unknown {
                    asked: text.to_owned(),
                }),
            },
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Gpu(None) => f.write_str("gpu"),
            Self::Gpu(Some(name)) => write!(f, "gpu:{name}"),
        }
    }
}

/// How much of a model a device is to run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeviceOptions {
    /// Which.
    pub device: DeviceChoice,
    /// How many of the upper layers it holds; `None`: as many as fit.
    pub layers: Option<usize>,
    /// Most bytes of its memory; `None`: four fifths of it.
    pub memory: Option<u64>,
    /// Positions to leave room for, of one sequence; 0: as many as a session takes by itself.
    pub context_length: usize,
    /// What training is to have room for. Layers that do not fit go to the device for each pass then, instead of
    /// being the processor's.
    pub training: Option<TrainingRoom>,
}

impl DeviceOptions {
    /// The processor alone.
    pub const CPU: Self = Self {
        device: DeviceChoice::Cpu,
        layers: None,
        memory: None,
        context_length: 0,
        training: None,
    };
}

/// What training needs of a device.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TrainingRoom {
    /// Most rows of a pass.
    pub tokens: usize,
    /// Largest rank of an adapter.
    pub rank: usize,
}

/// Has a device run what it is to run of a model that was just bound, and leaves room there for its images. Where the
/// choice is left open and the processor runs it, says why.
///
/// # Errors
/// If a graphics device was asked for by name and is not to be had, or what was asked for does not fit it.
#[cfg_attr(not(feature = "gpu"), allow(unused_variables))]
pub(crate) fn attach(
    llama: &mut Llama,
    vision: Option<&Vision>,
    options: &DeviceOptions,
) -> Result<Option<String>> {
    match options.device {
        DeviceChoice::Cpu => Ok(None),
        #[cfg(not(feature = "gpu"))]
        DeviceChoice::Auto => Ok(Some(DeviceError::NotBuilt.to_string())),
        #[cfg(not(feature = "gpu"))]
        DeviceChoice::Gpu(_) => Err(DeviceError::NotBuilt.into()),
        #[cfg(feature = "gpu")]
        DeviceChoice::Auto => {
            let refused = give_layers(llama, vision, options).err();
            if let Some(error) = &refused {
                tracing::info!(%error, "the processor runs the model");
            }
            Ok(refused.map(|error| error.to_string()))
        }
        #[cfg(feature = "gpu")]
        DeviceChoice::Gpu(_) => give_layers(llama, vision, options).map(|()| None),
    }
}

#[cfg(feature = "gpu")]
fn give_layers(llama: &mut Llama, vision: Option<&Vision>, options: &DeviceOptions) -> Result<()> {
    if let Some(layers) = crate::gpu::GpuLayers::new(llama, vision, options)? {
        llama.set_device(std::sync::Arc::new(layers));
    }
    Ok(())
}
