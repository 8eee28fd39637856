//! The GGUF container format, and nothing about models.
//!
//! ```text
//! header     "GGUF"  version u32 (2, 3)  tensor count u64  metadata count u64
//! metadata   key: string  type u32  value                                        (count times)
//! directory  name: string  axes u32  length u64 per axis  type u32  offset u64   (count times)
//! padding    to the alignment (general.alignment, 32 if absent)
//! data       each tensor at its offset from here, padded to the alignment
//! ```
//!
//! Little endian; a string is a u64 length and UTF-8 bytes. A model may be split over files named
//! `-00001-of-0000N.gguf`, each a GGUF of its own; [`Gguf::open`] joins them.
//! Source: the specification in the ggml repository, `docs/gguf.md`.

mod error;
mod mapping;
mod metadata;
mod open;
mod reader;
mod split;
#[cfg(test)]
mod tests;
mod writer;

pub use error::GgufError;
pub(crate) use mapping::Bytes;
pub use metadata::{Array, Metadata, Value};
pub use reader::{Gguf, Tensor, TensorInfo};
pub(crate) use writer::whole_file;
pub use writer::{TensorDeclaration, Writer};

/// First bytes of every file.
const MAGIC: [u8; 4] = *b"GGUF";
/// Data alignment where the file names none.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Metadata key of the data alignment.
const ALIGNMENT_KEY: &str = "general.alignment";
/// Most axes a tensor has in the format.
const MOST_AXES: usize = 4;
