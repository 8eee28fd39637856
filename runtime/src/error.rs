//! The one error type of the public surface; each part of the engine has its own
//! enum, and every variant names the file, tensor, adapter or budget it is about.

use std::path::PathBuf;

/// What any public function of this crate can fail with.
///
/// The text of each variant is one sentence a user can act on: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a file failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was attempted: "open", "write", …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The operating system refused the worker threads.
    #[error("cannot start {threads} worker threads: {reason}")]
    Threads {
        /// Threads asked for; 0 means one per core.
        threads: usize,
        /// The operating system's reason.
        reason: String,
    },
    /// A GGUF file is wrong or could not be read.
    #[error(transparent)]
    Gguf(#[from] crate::gguf::GgufError),
    /// Turning an export into samples failed.
    #[error(transparent)]
    Convert(#[from] crate::dataset::ConvertError),
    /// A Hugging Face checkpoint cannot be converted.
    #[error(transparent)]
    ConvertHf(#[from] crate::convert_hf::ConvertHfError),
    /// Scoring predictions failed.
    #[error(transparent)]
    Evaluate(#[from] crate::evaluate::EvaluateError),
    /// A vocabulary is wrong, or text cannot be spelled with it.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
    /// A model file holds no model that graft runs, or was asked for what it lacks.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// A device does not run the model, or no longer.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// A data set cannot be read or used.
    #[error(transparent)]
    Dataset(#[from] crate::dataset::DatasetError),
    /// An adapter cannot be read, written or used.
    #[error(transparent)]
    Adapter(#[from] crate::adapter::AdapterError),
    /// An image was refused.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// A session refused.
    #[error(transparent)]
    Session(#[from] crate::session::SessionError),
    /// Training cannot start or go on.
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    /// A model cannot be written in another type.
    #[error(transparent)]
    Quantize(#[from] crate::quantize::QuantizeError),
    /// Something does not fit its byte budget.
    #[error(transparent)]
    Budget(#[from] crate::memory::BudgetError),
    /// A buffer was refused.
    #[error(transparent)]
    Arena(#[from] crate::memory::ArenaError),
    /// The caller raised the cancel flag.
    #[error("interrupted")]
    Cancelled,
    /// A deadline passed.
    #[error("the time given was not enough; allow more, or ask for less")]
    TimedOut,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
