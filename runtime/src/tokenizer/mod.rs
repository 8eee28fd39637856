//! Text to tokens and back; one file per family, one for chat templates.
//!
//! A tokenizer is built from a model file's metadata. Text is first cut at special tokens, the rest
//! goes to the family: `spm` (SentencePiece, as LLaMA 1/2 use it) or `bpe` (byte-level BPE).

mod bpe;
mod decoder;
mod error;
mod jinja;
mod prompt;
mod special;
mod spm;
mod template;
#[cfg(test)]
mod template_tests;
#[cfg(test)]
mod tests;

pub use decoder::StreamDecoder;
pub use error::TokenizerError;
pub use jinja::{JinjaTemplate, spell};
pub use prompt::{IGNORED, IMAGE, Prompt};
pub use template::{ChatTemplate, Message, NAMED, NamedTemplate, Role, Segment, SegmentPiece};

use crate::gguf::Metadata;
use special::{Piece, SpecialTokens};

/// Roles a token can have in a vocabulary, as `tokenizer.ggml.token_type` numbers them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenKind {
    /// Ordinary text.
    Normal,
    /// Stands for what the vocabulary cannot spell.
    Unknown,
    /// Steers the model; never made from text unless the caller asks.
    Control,
    /// Text that is always one token.
    UserDefined,
    /// Never used.
    Unused,
    /// One byte of UTF-8.
    Byte,
}

/// Whether the text behind a special token gets SentencePiece's leading blank.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BlankAfterSpecial {
    /// No, as current tokenizer libraries do (`legacy: false`): `</s>USER` continues without one.
    #[default]
    Omitted,
    /// Yes, as llama.cpp and older libraries do (`legacy: true`).
    Added,
}

/// Turns text into token ids and back. Immutable; share it freely between threads.
#[derive(Debug)]
pub struct Tokenizer {
    texts: Vec<String>,
    kinds: Vec<TokenKind>,
    family: Family,
    special: SpecialTokens,
    bos: Option<u32>,
    eos: Option<u32>,
    ends: Vec<u32>,
    adds_bos: bool,
    adds_eos: bool,
    blank_after_special: BlankAfterSpecial,
}

#[derive(Debug)]
enum Family {
    Spm(Box<spm::Spm>),
    Bpe(Box<bpe::Bpe>),
}

/// Texts that end a turn in the chat formats of the models graft reads.
const TURN_ENDS: [&str; 6] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
];

impl Tokenizer {
    /// Builds the tokenizer that a model file describes (`tokenizer.ggml.*`).
    ///
    /// # Errors
    /// If the vocabulary is missing, inconsistent, or of a family graft does not know.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let texts = metadata.str_array("tokenizer.ggml.tokens")?.to_vec();
        if texts.is_empty() || u32::try_from(texts.len()).is_err() {
            return Err(TokenizerError::VocabularySize { found: texts.len() });
        }
        let kinds = kinds(metadata, texts.len())?;
        let model = metadata.str("tokenizer.ggml.model")?;
        let family = match model {
            "llama" => Family::Spm(Box::new(spm::Spm::new(metadata, &texts, &kinds)?)),
            "gpt2" => Family::Bpe(Box::new(bpe::Bpe::new(metadata, &texts, &kinds)?)),
            other => {
                return Err(TokenizerError::Family {
                    found: other.into(),
                });
            }
        };
        // Some files carry ids outside the vocabulary for tokens the model does not have.
        let id = |key: &str| -> Result<Option<u32>, TokenizerError> {
            let value = metadata.get(&format!("tokenizer.ggml.{key}_token_id"));
            Ok(match value {
                None => None,
                Some(_) => metadata
                    .opt_u64(&format!("tokenizer.ggml.{key}_token_id"))?
                    .and_then(|id| u32::try_from(id).ok())
                    .filter(|&id| (id as usize) < texts.len()),
            })
        };
        let (bos, eos) = (id("bos")?, id("eos")?);
        let mut ends: Vec<u32> = [eos, id("eot")?, id("eom")?]
            .into_iter()
            .flatten()
            .collect();
        for (i, text) in texts.iter().enumerate() {
            if kinds[i] != TokenKind::Normal && TURN_ENDS.contains(&text.as_str()) {
                ends.push(i as u32);
            }
        }
        ends.sort_unstable();
        ends.dedup();
        let spm = matches!(family, Family::Spm(_));
        Ok(Self {
            special: SpecialTokens::new(&texts, &kinds),
            family,
            bos,
            eos,
            ends,
            adds_bos: metadata
                .opt_bool("tokenizer.ggml.add_bos_token")?
                .unwrap_or(spm || metadata.opt_str("tokenizer.ggml.pre")? == Some("llama-bpe")),
            adds_eos: metadata
                .opt_bool("tokenizer.ggml.add_eos_token")?
                .unwrap_or(false),
            blank_after_special: BlankAfterSpecial::default(),
            texts,
            kinds,
        })
    }

    /// The same tokenizer with another rule for text that follows a special token.
    pub fn with_blank_after_special(mut self, rule: BlankAfterSpecial) -> Self {
        self.blank_after_special = rule;
        self
    }

    /// Token ids of `text`.
    ///
    /// With `add_bos`, the model's first token is put in front where the model wants one. With
    /// `parse_special`, text such as `</s>` becomes the control token of that name; without, it
    /// stays text, so that a user's words can never steer the model.
    ///
    /// # Errors
    /// If the vocabulary cannot spell the text: no byte tokens and no unknown token.
    pub fn encode(
        &self,
        text: &str,
        add_bos: bool,
        parse_special: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if add_bos && self.adds_bos {
            ids.extend(self.bos);
        }
        self.append(&mut ids, text, parse_special, true)?;
        Ok(ids)
    }

    /// Token ids of text that continues a sequence right after a special token: no token is put in
    /// front, and the leading blank follows [`BlankAfterSpecial`].
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_after_special(
        &self,
        text: &str,
        parse_special: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        let blank = self.blank_after_special == BlankAfterSpecial::Added;
        self.append(&mut ids, text, parse_special, blank)?;
        Ok(ids)
    }

    fn append(
        &self,
        ids: &mut Vec<u32>,
        text: &str,
        parse_special: bool,
        mut blank: bool,
    ) -> Result<(), TokenizerError> {
        for piece in self.special.cut(text, parse_special) {
            match piece {
                Piece::Special(id) => {
                    ids.push(id);
                    blank = self.blank_after_special == BlankAfterSpecial::Added;
                }
                Piece::Text(text) => match &self.family {
                    Family::Spm(spm) => spm.encode(ids, text, blank)?,
                    Family::Bpe(bpe) => bpe.encode(ids, text)?,
                },
            }
        }
        Ok(())
    }

    /// The text of a sequence. Control tokens are silent, broken UTF-8 becomes U+FFFD, and the
    /// leading blank that SentencePiece puts in front of a text is taken off again.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        ids.iter().for_each(|&id| self.append_bytes(&mut bytes, id));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match &self.family {
            Family::Spm(spm) if spm.adds_blank() => {
                text.strip_prefix(' ').map(str::to_owned).unwrap_or(text)
            }
            _ => text,
        }
    }

    /// A decoder for tokens that arrive one at a time.
    pub fn decoder(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self)
    }

    /// Appends the bytes that a token stands for; none for control tokens and ids out of range.
    pub(crate) fn append_bytes(&self, bytes: &mut Vec<u8>, id: u32) {
        let Some(text) = self.texts.get(id as usize) else {
            return;
        };
        match (self.kinds[id as usize], &self.family) {
            (TokenKind::Control | TokenKind::Unknown | TokenKind::Unused, _) => {}
            (TokenKind::Byte, _) => bytes.extend(byte_of(text)),
            (TokenKind::UserDefined, Family::Bpe(_)) => bytes.extend(text.as_bytes()),
            (_, Family::Spm(_)) => bytes.extend(text.replace(spm::BLANK, " ").as_bytes()),
            (TokenKind::Normal, Family::Bpe(bpe)) => bpe.append_bytes(bytes, text),
        }
    }

    /// The bytes that a token stands for, which may be a part of a character; none for control tokens and ids out
    /// of range.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_bytes(&mut bytes, id);
        bytes
    }

    /// The token's text in the vocabulary, as the file spells it.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(String::as_str)
    }

    /// The token's role, or `None` for an id outside the vocabulary.
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// The special token of exactly this text.
    pub fn special(&self, text: &str) -> Option<u32> {
        self.special.id_of(text)
    }

    /// The token that opens a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether generation stops at this token: end of sequence or end of turn.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Whether sequences open with [`Self::bos`].
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Whether complete texts end with [`Self::eos`].
    pub fn adds_eos(&self) -> bool {
        self.adds_eos
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.texts.len()
    }
}

fn kinds(metadata: &Metadata, tokens: usize) -> Result<Vec<TokenKind>, TokenizerError> {
    let Some(types) = metadata.opt_i32_array("tokenizer.ggml.token_type")? else {
        return Ok(vec![TokenKind::Normal; tokens]);
    };
    if types.len() != tokens {
        return Err(TokenizerError::ListLength {
            key: "tokenizer.ggml.token_type",
            expected: tokens,
            found: types.len(),
        });
    }
    Ok(types
        .into_iter()
        .map(|t| match t {
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => TokenKind::Normal,
        })
        .collect())
}

/// The byte of a token spelled `<0x0A>`.
fn byte_of(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(hex, 16).ok()
}
