//! The ways a GGUF file can be wrong.

use std::path::PathBuf;

/// Why a GGUF file could not be read or written.
///
/// Offsets are bytes from the start of the file (of the part, in a split model).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum GgufError {
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is a folder, not a GGUF file")]
    Folder { path: PathBuf },
    #[error("the file is empty")]
    Empty,
    #[error(
        "not a GGUF file: it starts with {} instead of \"GGUF\"",
        opening(found)
    )]
    Magic { found: Vec<u8> },
    #[error("GGUF version {version} is not supported (2 and 3 are); convert the model again")]
    Version { version: u32 },
    #[error(
        "big-endian GGUF files are not supported; convert the model for little-endian machines"
    )]
    BigEndian,
    #[error(
        "the file ends at byte {length} inside {entry}, which starts at byte {offset}; it is truncated or damaged"
    )]
    Truncated {
        entry: String,
        offset: u64,
        length: u64,
    },
    #[error(
        "{entry} at byte {offset} claims {count} entries, more than the file of {length} bytes can hold; it is truncated or damaged"
    )]
    Count {
        entry: String,
        offset: u64,
        count: u64,
        length: u64,
    },
    #[error("{entry} at byte {offset} is not valid UTF-8")]
    Utf8 { entry: String, offset: u64 },
    #[error("{entry} at byte {offset} has value type {found}, which GGUF does not define")]
    ValueType {
        entry: String,
        offset: u64,
        found: u32,
    },
    #[error("{entry} at byte {offset} is a boolean with value {found} (0 or 1 expected)")]
    Boolean {
        entry: String,
        offset: u64,
        found: u8,
    },
    #[error("{entry} at byte {offset} nests arrays deeper than {limit}")]
    Depth {
        entry: String,
        offset: u64,
        limit: u32,
    },
    #[error("metadata key `{key}` at byte {offset} appears twice")]
    DuplicateKey { key: String, offset: u64 },
    #[error("tensor `{tensor}` at byte {offset} appears twice")]
    DuplicateTensor { tensor: String, offset: u64 },
    #[error("general.alignment is {found}; it must be a power of two from 8 to 1 MiB")]
    Alignment { found: u64 },
    #[error("tensor `{tensor}` at byte {offset} has {axes} axes (1 to 4 expected)")]
    Axes {
        tensor: String,
        offset: u64,
        axes: u32,
    },
    #[error("tensor `{tensor}` at byte {offset} has an impossible shape {shape:?}")]
    Shape {
        tensor: String,
        offset: u64,
        shape: Vec<u64>,
    },
    #[error("tensor `{tensor}` at byte {offset} has type {found}, which graft does not read")]
    TensorType {
        tensor: String,
        offset: u64,
        found: u32,
    },
    #[error(
        "tensor `{tensor}` has rows of {width} weights, not a multiple of {quant_type}'s {block} per block"
    )]
    PartialBlock {
        tensor: String,
        width: usize,
        quant_type: graft_kernels::QuantType,
        block: usize,
    },
    #[error(
        "tensor `{tensor}` starts at data offset {found}, which is not a multiple of the alignment {alignment}"
    )]
    Misaligned {
        tensor: String,
        found: u64,
        alignment: u64,
    },
    #[error(
        "tensor `{tensor}` covers bytes {start}..{end}, beyond the file's end at {length}; it is truncated or damaged"
    )]
    TensorBeyondEnd {
        tensor: String,
        start: u64,
        end: u64,
        length: u64,
    },
    #[error("tensors `{first}` and `{second}` overlap at byte {offset}")]
    Overlap {
        first: String,
        second: String,
        offset: u64,
    },
    #[error("metadata key `{key}` is missing")]
    MissingKey { key: String },
    #[error("metadata key `{key}` is {found}, where {expected} is needed")]
    KeyType {
        key: String,
        expected: &'static str,
        found: String,
    },
    #[error(
        "the file is part {found} of {count}, but its name is not of the form NAME-00001-of-{count:05}.gguf"
    )]
    SplitName { found: u64, count: u64 },
    #[error("part {path} does not belong to this model: {reason}")]
    SplitPart { path: PathBuf, reason: String },
    #[error("tensor `{tensor}` got {found} bytes, where its shape and type need {expected}")]
    WrittenBytes {
        tensor: String,
        expected: usize,
        found: usize,
    },
    #[error("{written} of {declared} declared tensors were written")]
    Unfinished { written: usize, declared: usize },
    #[error("{path}: {source}")]
    InFile {
        path: PathBuf,
        source: Box<GgufError>,
    },
}

impl GgufError {
    /// The same error, saying which file it is about.
    pub(super) fn in_file(self, path: &std::path::Path) -> Self {
        match self {
            Self::Io { .. }
            | Self::Folder { .. }
            | Self::InFile { .. }
            | Self::SplitPart { .. } => self,
            source => Self::InFile {
                path: path.to_owned(),
                source: Box::new(source),
            },
        }
    }
}

/// The first bytes of a file, as text where they are text.
fn opening(found: &[u8]) -> String {
    match str::from_utf8(found) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => format!("{text:?}"),
        _ => {
            let digits: Vec<String> = found.iter().map(|b| format!("{b:02x}")).collect();
            format!("bytes {}", digits.join(" "))
        }
    }
}
