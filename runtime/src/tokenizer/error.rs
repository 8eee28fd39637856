//! The ways a vocabulary or a template can be wrong.

use crate::gguf::GgufError;

/// Why text could not be turned into tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum TokenizerError {
    #[error(transparent)]
    Metadata(#[from] GgufError),
    #[error("the vocabulary has {found} tokens")]
    VocabularySize { found: usize },
    #[error("token {id} of the vocabulary is {bytes} bytes long; at most {limit} are accepted")]
    LongToken {
        id: usize,
        bytes: usize,
        limit: usize,
    },
    #[error("tokenizer model `{found}` is not supported (`llama` and `gpt2` are)")]
    Family { found: String },
    #[error("pre-tokenizer `{found}` is not supported (llama-bpe, qwen2, gpt-2 and smollm are)")]
    PreTokenizer { found: String },
    #[error("{key} has {found} entries where the vocabulary has {expected} tokens")]
    ListLength {
        key: &'static str,
        expected: usize,
        found: usize,
    },
    #[error("tokenizer.ggml.merges entry {index} ({merge:?}) is not two tokens of the vocabulary")]
    Merge { index: usize, merge: String },
    #[error(
        "the vocabulary cannot spell {text:?}: it has neither byte tokens nor an unknown token"
    )]
    Unspellable { text: String },
    #[error("there is no conversation template `{found}`; known are {known}")]
    TemplateName { found: String, known: String },
    #[error(
        "turn {index} is by {found:?} where {expected:?} must speak: turns alternate, a person first"
    )]
    Roles {
        index: usize,
        expected: super::Role,
        found: super::Role,
    },
    #[error("the model's chat template cannot be used: {0}; choose another with --template")]
    Template(String),
    #[error("the tokenizer library refused: {0}")]
    Library(String),
}
