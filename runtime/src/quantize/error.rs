//! The ways a conversion to block types can fail.

use graft_kernels::QuantType;
use graft_kernels::blocks::EncodeUnsupported;

/// Why a model could not be written in another type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum QuantizeError {
    #[error("{name:?} is no type that graft writes; choose one of {known}")]
    UnknownMix { name: String, known: String },
    #[error("an adapter is not quantized; merge it into its base model instead")]
    IsAdapter,
    #[error(
        "a model of architecture {found:?} cannot be quantized; graft knows the types for \"llama\" and \"clip\""
    )]
    Architecture { found: String },
    #[error("a model with {experts} experts cannot be quantized; graft does not run such models")]
    Experts { experts: u32 },
    #[error(
        "tensor {tensor} is already {found}: quantizing twice loses more than the type asked for; start from the F16 or F32 file, or allow requantizing"
    )]
    AlreadyQuantized { tensor: String, found: QuantType },
    #[error(
        "tensor {tensor} has a weight that is not finite, at index {index}; the file, or what is merged into it, is damaged"
    )]
    NotFinite { tensor: String, index: usize },
    #[error(
        "tensor {tensor} holds {value} at index {index}, which {quant_type} cannot represent; choose BF16 or F32"
    )]
    OutOfRange {
        tensor: String,
        index: usize,
        value: f32,
        quant_type: QuantType,
    },
    #[error("tensor {tensor}: {source}")]
    Unwritten {
        tensor: String,
        source: EncodeUnsupported,
    },
}
