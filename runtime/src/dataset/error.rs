//! The ways a data set can be wrong.

use std::path::PathBuf;

/// Why a data set could not be read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum DatasetError {
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not valid JSON at line {line}, column {column}: {reason}")]
    Json {
        path: PathBuf,
        line: usize,
        column: usize,
        reason: String,
    },
    #[error("{path} is no LLaVA data set: line {line}, column {column}: {reason}")]
    Form {
        path: PathBuf,
        line: usize,
        column: usize,
        reason: String,
    },
    #[error("{path}, record {index} (id {id}): {reason}")]
    Record {
        path: PathBuf,
        /// From 0.
        index: usize,
        id: String,
        reason: String,
    },
    #[error("{path} holds no samples")]
    Empty { path: PathBuf },
    #[error("sample {id}: {reason}")]
    Image {
        id: String,
        image: PathBuf,
        reason: String,
    },
}
