//! Training samples, and the trait that turns foreign exports into them.

pub mod assets;
pub mod check;
pub mod conversion;
pub mod converter;
mod data_set;
mod data_url;
pub mod diagnostic;
mod error;
pub mod images;
pub mod llava_json;
pub mod prompt;
pub mod sample;

pub use converter::{ConvertError, ConvertHost, Converter, SampleSink, Source, Summary};
pub use data_set::DataSet;
pub use diagnostic::{Diagnostic, Location, Severity};
pub use error::DatasetError;
pub use images::{ImageFile, ImageFolder};
pub use sample::{ImageRef, Part, Role, Sample, Turn};
