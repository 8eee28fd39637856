//! Everything a graft plugin is written with.
//!
//! A plugin is an ordinary crate: it implements [`Converter`] or [`Evaluator`] and names itself
//! with [`export_converter!`] or [`export_evaluator!`]. Compiled for `wasm32-unknown-unknown` it
//! becomes a component without any WASI import; compiled natively the same crate is a plain
//! library, so its logic is tested like any other code.
//!
//! ```
//! use graft_plugin::{Converter, Error, Format, Host, Role, Sample, Sink, Source, Summary, Turn};
//! use graft_plugin::{Part, export_converter};
//!
//! /// One sample per line of text.
//! pub struct Lines;
//!
//! impl Converter for Lines {
//!     const FORMATS: &'static [Format] =
//!         &[Format { id: "lines", title: "Lines of text", extensions: &["txt"] }];
//!     const OPTIONS_SCHEMA: &'static str = r#"{"type": "object"}"#;
//!
//!     fn detect(_head: &[u8], name: &str) -> u8 {
//!         if name.ends_with(".txt") { 10 } else { 0 }
//!     }
//!
//!     fn convert(
//!         input: &mut dyn Source,
//!         output: &mut dyn Sink,
//!         _options: &str,
//!         host: &dyn Host,
//!     ) -> Result<Summary, Error> {
//!         let text = graft_plugin::read_all(input, 1 << 20)?;
//!         let mut lines = 0;
//!         for line in String::from_utf8_lossy(&text).lines() {
//!             let content = vec![Part::Text(line.to_owned())];
//!             let turns = vec![Turn { role: Role::Assistant, content }];
//!             let id = lines.to_string();
//!             output.emit(Sample { id, images: vec![], turns, origin: None, extra: vec![] })?;
//!             lines += 1;
//!             host.checkpoint(lines, None)?;
//!         }
//!         Ok(Summary { records: lines, samples: lines, skipped: 0 })
//!     }
//! }
//!
//! export_converter!(Lines);
//! # fn main() {}
//! ```

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

pub mod bindings;
pub mod blanks;
pub mod characters;
pub mod conversation;
mod converter;
mod digits;
mod evaluator;
pub mod images;
pub mod json;
mod marks;
#[cfg(any(target_arch = "wasm32", test))]
#[allow(unsafe_code)]
mod memory;
pub mod model;
pub mod options;
mod parser;
pub mod parts;
pub mod place;
pub mod records;
pub mod reference;
pub mod remarks;
mod scan;
pub mod template;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod window;

pub use bindings::converter::graft::plugin::dataset::{ImageRef, Part, Role, Sample, Turn};
pub use bindings::converter::graft::plugin::host::Level;
pub use bindings::converter::graft::plugin::input::{ImageFormat, ImageInfo};
pub use bindings::converter::graft::plugin::types::{Diagnostic, Error, Location, Severity, Value};
#[doc(hidden)]
pub use converter::component as converter_component;
pub use converter::{Converter, Format, Host, Sink, Source, Summary, read_all};
#[doc(hidden)]
pub use evaluator::component as evaluator_component;
pub use evaluator::{Evaluator, Metric, Prediction, Run, Score, remark};

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static MEMORY: memory::Pieces = memory::Pieces::new();

/// A fatal remark about the input.
pub fn invalid_input(code: &str, message: impl Into<String>, at: Option<Location>) -> Error {
    Error::InvalidInput(Diagnostic {
        severity: Severity::Error,
        code: code.to_owned(),
        message: message.into(),
        at,
    })
}
