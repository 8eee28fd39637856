//! The ways a Hugging Face checkpoint can be unfit for conversion.

use std::path::PathBuf;

use graft_kernels::QuantType;

/// Why a checkpoint was not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum ConvertHfError {
    #[error("there is no folder {path}; give the folder of a Hugging Face checkpoint")]
    NoFolder { path: PathBuf },
    #[error("{path} is a file; give the folder of a Hugging Face checkpoint, which holds it")]
    NotAFolder { path: PathBuf },
    #[error("folder {folder} has no {file}: {hint}")]
    MissingFile {
        folder: PathBuf,
        file: String,
        hint: &'static str,
    },
    #[error(
        "folder {folder} has its weights only as {file}, which is a Python pickle; save them as \
         safetensors first (transformers: `save_pretrained`)"
    )]
    Pickled { folder: PathBuf, file: String },
    #[error("cannot read {path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is damaged or of another kind: {reason}")]
    File { path: PathBuf, reason: String },
    #[error(
        "the checkpoint's architecture is {found}; graft converts LlamaForCausalLM, \
         MistralForCausalLM, LlavaForConditionalGeneration and LlavaLlamaForCausalLM"
    )]
    Architecture { found: String },
    #[error("the checkpoint needs {key} = {value}, which graft does not support{hint}")]
    Unsupported {
        key: String,
        value: String,
        hint: &'static str,
    },
    #[error("the checkpoint contradicts itself: {0}")]
    Inconsistent(String),
    #[error("tensor {tensor} is missing from the checkpoint")]
    MissingTensor { tensor: String },
    #[error(
        "tensor {tensor} belongs to no part of a model that graft computes; nothing was written"
    )]
    UnknownTensor { tensor: String },
    #[error("tensor {tensor} is a bias, and the llama models that graft computes have none")]
    Bias { tensor: String },
    #[error("tensors {first} and {second} are the same part of the model")]
    Twice { first: String, second: String },
    #[error("tensor {tensor} has shape {found:?} where the configuration requires {expected:?}")]
    TensorShape {
        tensor: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
    #[error("tensor {tensor} is stored as {found}; F32, F16 and BF16 can be converted")]
    TensorType { tensor: String, found: String },
    #[error("tensor {tensor} holds {value}; the checkpoint is damaged or its training diverged")]
    NotFinite { tensor: String, value: f32 },
    #[error("tensor {tensor} holds {value}, too large for {quant_type}; choose BF16 or F32")]
    TooLarge {
        tensor: String,
        value: f32,
        quant_type: QuantType,
    },
    #[error(
        "a checkpoint is converted to F32, F16 or BF16, not {found}; quantize the result afterwards"
    )]
    QuantType { found: QuantType },
    #[error("the checkpoint is a pure language model; it has no vision half to write to {path}")]
    NoVision { path: PathBuf },
    #[error(
        "the checkpoint does not hold its vision tower ({tower}); name the folder of that model too"
    )]
    TowerElsewhere { tower: String },
    #[error("model and vision half would both be written to {path}; give two names")]
    SameFile { path: PathBuf },
    #[error("the vocabulary in {path} cannot be used: {reason}")]
    Vocabulary { path: PathBuf, reason: String },
}
