//! Turning a foreign export into samples.
//!
//! A [`Converter`] is native code or a WebAssembly plugin; who calls it cannot tell. It pulls
//! bytes from a [`Source`], pushes samples into a [`SampleSink`], and asks its [`ConvertHost`]
//! for companion files; so it may stream an export larger than memory.

use std::io;

use super::assets::ImageHeader;
use super::diagnostic::Diagnostic;
use super::sample::Sample;
use crate::cancel::Cancel;

/// The most bytes of a file that [`Converter::detect`] is shown.
pub const DETECT_BYTES: usize = 64 << 10;

/// Reads one or more foreign formats.
pub trait Converter: Send + Sync {
    /// What it reads, and the options it knows.
    fn describe(&self) -> Result<ConverterDescription, ConvertError>;

    /// How sure it is that it reads a file called `name` that starts with `head` (at most
    /// [`DETECT_BYTES`]): 0 not mine, 100 certain.
    fn detect(&self, head: &[u8], name: &str) -> Result<u8, ConvertError>;

    /// Reads all of `input` and emits its samples in order. `options` is a JSON object as text.
    ///
    /// Remarks about single records go to [`ConvertHost::report`] and do not stop the work; an
    /// error does, and then what `output` received is incomplete.
    fn convert(
        &self,
        input: &mut dyn Source,
        output: &mut dyn SampleSink,
        options: &str,
        host: &dyn ConvertHost,
    ) -> Result<Summary, ConvertError>;
}

/// What a converter says about itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConverterDescription {
    /// The formats it reads.
    pub formats: Vec<Format>,
    /// JSON Schema (2020-12) of its options.
    pub options_schema: String,
}

/// A format that a converter reads.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Format {
    /// Stable name: `ubiai-relations`.
    pub id: String,
    /// Name for people.
    pub title: String,
    /// Usual file name extensions, without the dot.
    pub extensions: Vec<String>,
}

/// What a conversion did, in the converter's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Records read.
    pub records: u64,
    /// Samples emitted.
    pub samples: u64,
    /// Records that gave no sample.
    pub skipped: u64,
}

/// Bytes to read, in order or, if the source allows, anywhere.
pub trait Source {
    /// What messages call it: a file name, never a path outside the export.
    fn name(&self) -> &str;

    /// Bytes in all, if known.
    fn size(&self) -> Option<u64>;

    /// Fills the start of `buffer` with the next bytes; 0 only at the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Fills the start of `buffer` with the bytes from `offset` on, without moving the position
    /// of [`Source::read`]; 0 at the end. [`io::ErrorKind::Unsupported`] on a pipe.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Takes samples as they are made.
pub trait SampleSink {
    /// Takes one sample; returning late slows the converter down.
    fn emit(&mut self, sample: Sample) -> Result<(), ConvertError>;
}

impl SampleSink for Vec<Sample> {
    fn emit(&mut self, sample: Sample) -> Result<(), ConvertError> {
        self.push(sample);
        Ok(())
    }
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    /// Says a plugin's line in the log of this library.
    pub fn log(self, message: &str) {
        match self {
            Self::Error => tracing::error!("{message}"),
            Self::Warn => tracing::warn!("{message}"),
            Self::Info => tracing::info!("{message}"),
            Self::Debug => tracing::debug!("{message}"),
            Self::Trace => tracing::trace!("{message}"),
        }
    }
}

/// What surrounds a conversion: companion files, remarks, progress and the wish to stop.
pub trait ConvertHost {
    /// Raised when the conversion should end; also [`ConvertHost::checkpoint`] says so.
    fn cancel(&self) -> Cancel;

    /// Notes that `done` of `total` (bytes, where known) are behind; [`ConvertError::Cancelled`]
    /// when the caller wants to stop.
    fn checkpoint(&self, done: u64, total: Option<u64>) -> Result<(), ConvertError>;

    /// Takes a remark about the input.
    fn report(&self, diagnostic: Diagnostic);

    /// Takes a line for the log.
    fn log(&self, level: LogLevel, message: &str);

    /// Opens a companion file by its name within the export.
    fn open_asset(&self, name: &str) -> Result<Box<dyn Source + Send>, ConvertError>;

    /// Reads size and format of an image from its header, decoding no pixels.
    fn probe_image(&self, name: &str) -> Result<ImageHeader, ConvertError>;

    /// At most `max` names of companion files that start with `prefix` and sort after `after`,
    /// in order.
    fn list_assets(
        &self,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<String>, ConvertError>;
}

/// Why a conversion ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The caller asked to stop.
    #[error("the conversion was interrupted")]
    Cancelled,
    /// A limit of the caller was reached.
    #[error("{0}")]
    LimitExceeded(String),
    /// The input is not what the converter reads.
    #[error("{0}")]
    InvalidInput(Box<Diagnostic>),
    /// The options are not what the converter's schema allows.
    #[error("invalid converter options: {0}")]
    InvalidOptions(String),
    /// A companion file is not in the export.
    #[error("the export has no file {0}")]
    NotFound(String),
    /// A name leads out of the export, or through a symbolic link.
    #[error("{0}")]
    Denied(String),
    /// Something this source or host cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// Reading the input, or writing the samples, failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, and on which file: "cannot read export.json".
        what: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Nothing came of an export.
    #[error(
        "{name}: none of its {records} records gave a sample, so nothing was written; check the folder of its \
         files (--assets) and the remarks"
    )]
    NoSamples {
        /// The export.
        name: String,
        /// Records that were read.
        records: u64,
    },
    /// The converter itself failed.
    #[error("the converter failed: {0}")]
    Internal(String),
    /// The plugin broke a rule of its sandbox; the error inside says which.
    #[error(transparent)]
    Plugin(Box<dyn std::error::Error + Send + Sync>),
}
