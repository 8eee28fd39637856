//! Byte-level BPE: a regular expression cuts the text into words, bytes become printable
//! characters, and neighbours merge in the order of the file's merge list.

use std::collections::HashMap;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
};

use super::{TokenKind, TokenizerError};
use crate::gguf::Metadata;

/// Words of GPT-2: contractions, letters, digits and signs, each with the blank before it.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Words of LLaMA 3: digits by threes.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words of Qwen 2: digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// A single digit; SmolLM cuts at each before GPT-2's rule.
const DIGIT: &str = r"\p{N}";

#[derive(Debug)]
pub(super) struct Bpe {
    model: BPE,
    cuts: Vec<Split>,
    bytes: ByteLevel,
    byte_of: HashMap<char, u8>,
}

impl Bpe {
    pub(super) fn new(
        metadata: &Metadata,
        texts: &[String],
        kinds: &[TokenKind],
    ) -> Result<Self, TokenizerError> {
        let (patterns, ignores_merges): (&[&str], bool) =
            match metadata.str("tokenizer.ggml.pre")? {
                "llama-bpe" | "llama3" | "llama-v3" => (&[LLAMA3], true),
                "qwen2" => (&[QWEN2], false),
                "gpt-2" => (&[GPT2], false),
                "smollm" => (&[DIGIT, GPT2], false),
                other => {
                    return Err(TokenizerError::PreTokenizer {
                        found: other.into(),
                    });
                }
            };
        let mut vocabulary = tokenizers::models::bpe::Vocab::default();
        for (id, text) in texts.iter().enumerate() {
            if kinds[id] == TokenKind::Normal {
                vocabulary.entry(text.clone()).or_insert(id as u32);
            }
        }
        let mut merges = Vec::new();
        for (index, merge) in metadata
            .str_array("tokenizer.ggml.merges")?
            .iter()
            .enumerate()
        {
            // Merged texts may themselves hold blanks only in their first character.
            let pair = merge
                .char_indices()
                .skip(1)
                .find(|&(_, c)| c == ' ')
                .map(|(at, _)| (&merge[..at], &merge[at + 1..]))
                .filter(|(left, right)| {
                    vocabulary.contains_key(*left)
                        && vocabulary.contains_key(*right)
                        && vocabulary.contains_key(&format!("{left}{right}"))
                });
            let Some((left, right)) = pair else {
                return Err(TokenizerError::Merge {
                    index,
                    merge: merge.clone(),
                });
            };
            merges.push((left.to_owned(), right.to_owned()));
        }
        let library = |e: tokenizers::Error| TokenizerError::Library(e.to_string());
        let model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .ignore_merges(ignores_merges)
            .build()
            .map_err(library)?;
        let cuts = patterns
            .iter()
            .map(|p| {
                let pattern = SplitPattern::Regex((*p).to_owned());
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(library)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            model,
            cuts,
            bytes: ByteLevel::new(false, false, false),
            byte_of: (0..=u8::MAX).map(|b| (char_of(b), b)).collect(),
        })
    }

    pub(super) fn encode(&self, ids: &mut Vec<u32>, text: &str) -> Result<(), TokenizerError> {
        let library = |e: tokenizers::Error| TokenizerError::Library(e.to_string());
        let mut words = PreTokenizedString::from(text);
        for cut in &self.cuts {
            cut.pre_tokenize(&mut words).map_err(library)?;
        }
        self.bytes.pre_tokenize(&mut words).map_err(library)?;
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            let tokens = self.model.tokenize(word).map_err(library)?;
            let spelled: usize = tokens.iter().map(|t| t.value.len()).sum();
            if spelled != word.len() {
                return Err(TokenizerError::Unspellable { text: word.into() });
            }
            ids.extend(tokens.into_iter().map(|t| t.id));
        }
        Ok(())
    }

    /// Appends the bytes behind the printable characters of a token.
    pub(super) fn append_bytes(&self, bytes: &mut Vec<u8>, text: &str) {
        for c in text.chars() {
            match self.byte_of.get(&c) {
                Some(&byte) => bytes.push(byte),
                None => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

/// The printable character that stands for a byte: itself where Latin-1 prints it, else the next
/// free one from U+0100. Source: GPT-2's `bytes_to_unicode`.
fn char_of(byte: u8) -> char {
    let prints = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if prints(byte) {
        return byte.into();
    }
    let before = (0..byte).filter(|&b| !prints(b)).count() as u32;
    char::from_u32(0x100 + before).expect("at most 68 bytes do not print")
}
