//! SentencePiece BPE with byte fallback: blanks become `▁`, then neighbours merge, best score first.
//!
//! GGUF files carry the pieces and their scores but no merge list. It is derived: each way to cut a
//! piece in two pieces is a merge, and its rank is that of the piece it makes.

use std::collections::HashSet;

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use super::{TokenKind, TokenizerError};
use crate::gguf::Metadata;

/// What SentencePiece writes for a blank.
pub(super) const BLANK: &str = "\u{2581}";

/// Bytes of the longest piece: finding its merges looks at each of its beginnings and ends.
const LONGEST: usize = 4096;

#[derive(Debug)]
pub(super) struct Spm {
    model: BPE,
    adds_blank: bool,
    unknown: Option<u32>,
    alphabet: Alphabet,
}

/// What the vocabulary can spell. The library skips other characters without a trace.
#[derive(Debug)]
struct Alphabet {
    characters: HashSet<char>,
    bytes: [bool; 256],
}

impl Alphabet {
    fn new(vocabulary: &Vocab) -> Self {
        let single = |text: &String| {
            let mut characters = text.chars();
            characters.next().filter(|_| characters.next().is_none())
        };
        let byte = |b: usize| vocabulary.contains_key(&format!("<{b:#04X}>"));
        Self {
            characters: vocabulary.keys().filter_map(single).collect(),
            bytes: std::array::from_fn(byte),
        }
    }

    fn spells(&self, c: char) -> bool {
        let mut bytes = [0; 4];
        let mut bytes = c.encode_utf8(&mut bytes).bytes();
        self.characters.contains(&c) || bytes.all(|b| self.bytes[usize::from(b)])
    }

    fn spells_all(&self) -> bool {
        self.bytes.iter().all(|&there| there)
    }
}

impl Spm {
    pub(super) fn new(
        metadata: &Metadata,
        texts: &[String],
        kinds: &[TokenKind],
    ) -> Result<Self, TokenizerError> {
        let scores = metadata.f32_array("tokenizer.ggml.scores")?;
        if scores.len() != texts.len() {
            return Err(TokenizerError::ListLength {
                key: "tokenizer.ggml.scores",
                expected: texts.len(),
                found: scores.len(),
            });
        }
        if let Some((id, text)) = texts.iter().enumerate().find(|(_, t)| t.len() > LONGEST) {
            return Err(TokenizerError::LongToken {
                id,
                bytes: text.len(),
                limit: LONGEST,
            });
        }
        // Control tokens stay out: no merge may ever spell one.
        let mergeable = |id: usize| matches!(kinds[id], TokenKind::Normal | TokenKind::UserDefined);
        let mut vocabulary = Vocab::default();
        for (id, text) in texts.iter().enumerate() {
            if mergeable(id) || kinds[id] == TokenKind::Byte {
                vocabulary.entry(text.clone()).or_insert(id as u32);
            }
        }
        let mut order: Vec<usize> = (0..texts.len())
            .filter(|&id| mergeable(id) && vocabulary.get(&texts[id]) == Some(&(id as u32)))
            .collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let mut merges = Vec::new();
        for id in order {
            let text = &texts[id];
            for (cut, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(cut);
                let piece = |part: &str| {
                    vocabulary
                        .get(part)
                        .is_some_and(|&id| mergeable(id as usize))
                };
                if piece(left) && piece(right) {
                    merges.push((left.to_owned(), right.to_owned()));
                }
            }
        }
        let alphabet = Alphabet::new(&vocabulary);
        let model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .byte_fallback(true)
            .build()
            .map_err(|e| TokenizerError::Library(e.to_string()))?;
        Ok(Self {
            model,
            adds_blank: metadata
                .opt_bool("tokenizer.ggml.add_space_prefix")?
                .unwrap_or(true),
            unknown: kinds
                .iter()
                .position(|&k| k == TokenKind::Unknown)
                .map(|id| id as u32),
            alphabet,
        })
    }

    /// Whether a text gets a leading blank.
    pub(super) fn adds_blank(&self) -> bool {
        self.adds_blank
    }

    pub(super) fn encode(
        &self,
        ids: &mut Vec<u32>,
        text: &str,
        blank: bool,
    ) -> Result<(), TokenizerError> {
        let mut spelled = text.replace(' ', BLANK);
        if blank && self.adds_blank {
            spelled.insert_str(0, BLANK);
        }
        if self.alphabet.spells_all() {
            return self.spell(ids, &spelled);
        }
        let mut rest = spelled.as_str();
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| !self.alphabet.spells(c)) {
            self.spell(ids, &rest[..at])?;
            // One unknown token for each character that the vocabulary cannot spell.
            let unknown = self.unknown.ok_or_else(|| TokenizerError::Unspellable {
                text: c.to_string(),
            })?;
            ids.push(unknown);
            rest = &rest[at + c.len_utf8()..];
        }
        self.spell(ids, rest)
    }

    fn spell(&self, ids: &mut Vec<u32>, text: &str) -> Result<(), TokenizerError> {
        let tokens = self.model.tokenize(text);
        let tokens = tokens.map_err(|e| TokenizerError::Library(e.to_string()))?;
        ids.extend(tokens.into_iter().map(|token| token.id));
        Ok(())
    }
}
