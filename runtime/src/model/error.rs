//! What can be wrong with a model file or a request to a model.

use graft_kernels::QuantType;

use crate::gguf::GgufError;

/// Why a model was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file itself.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// An adapter where a model is needed.
    #[error("it is an adapter, not a model: give it with --adapter, and its base model with -m")]
    IsAdapter,
    /// A vision half where a model is needed.
    #[error(
        "it is the vision half of a model: give it with --mmproj, and the language model with -m"
    )]
    IsVision,
    /// Another kind of model.
    #[error(
        "the model's architecture is \"{0}\"; graft runs \"llama\" \
         (LLaMA, Vicuna, Mistral, TinyLlama, SmolLM2)"
    )]
    Architecture(String),
    /// A feature that would change the results and is not implemented.
    #[error("the model needs {key} = {value}, which graft does not support")]
    Unsupported {
        /// The metadata key.
        key: String,
        /// What the file says.
        value: String,
    },
    /// Sizes that contradict each other.
    #[error("the model file contradicts itself: {0}")]
    Inconsistent(String),
    /// A tensor every model of this kind has is not there.
    #[error("tensor {0} is missing from the model file")]
    MissingTensor(String),
    /// A tensor nothing would read, so the model would compute something else than it should.
    #[error("tensor {0} belongs to no part of a llama model that graft computes")]
    UnknownTensor(String),
    /// A tensor of other sizes than the metadata says. Sizes fastest axis first.
    #[error("tensor {tensor} has shape {found:?} where the model's sizes require {expected:?}")]
    TensorShape {
        /// Its name.
        tensor: String,
        /// What the metadata implies.
        expected: Vec<usize>,
        /// What the file has.
        found: Vec<usize>,
    },
    /// A small tensor stored in a block type.
    #[error("tensor {tensor} is stored as {found}; norms and rotary factors must be floats")]
    TensorType {
        /// Its name.
        tensor: String,
        /// How it is stored.
        found: QuantType,
    },
    /// No vocabulary in the file.
    #[error(
        "the model file has no tokenizer (tokenizer.ggml.model), so it cannot read or write text"
    )]
    NoTokenizer,
    /// A token that the vocabulary lacks.
    #[error("token {token} is outside the model's vocabulary of {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// V.
        vocabulary: usize,
    },
    /// A file that is no vision file.
    #[error(
        "the mmproj file's architecture is \"{found}\", \"clip\" expected; is it a language model?"
    )]
    NotVision {
        /// What it says.
        found: String,
    },
    /// A vision file made for another language model.
    #[error("the mmproj file was made for a model of width {found}, this one has {width}")]
    OtherWidth {
        /// Of the file.
        found: usize,
        /// Of the language model.
        width: usize,
    },
}
