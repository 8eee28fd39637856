//! SentencePiece BPE with byte fallback: blanks become `▁`, then neighbours merge, best score first.
//!
//! GGUF files carry the pieces and their scores but no merge list. It is derived: each way to cut a
//! piece in two pieces is a merge, and its rank is that of the piece it makes.

use tokenizers::Model;
use tokenizers::models::bpe::BPE;

use super::{TokenKind, TokenizerError};
use crate::gguf::Metadata;

/// What SentencePiece writes for a blank.
pub(super) const BLANK: &str = "\u{2581}";

#[derive(Debug)]
pub(super) struct Spm {
    model: BPE,
    adds_blank: bool,
    unknown: Option<u32>,
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
        // Control tokens stay out: no merge may ever spell one.
        let mergeable = |id: usize| matches!(kinds[id], TokenKind::Normal | TokenKind::UserDefined);
        let mut vocabulary = ahash_map();
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
        let covered = self.model.tokenize(&spelled);
        let tokens = covered.map_err(|e| TokenizerError::Library(e.to_string()))?;
        // The library drops what it cannot spell; a gap in the offsets shows it.
        let mut end = 0;
        for token in &tokens {
            if token.offsets.0 > end {
                self.unknown(ids, &spelled[end..token.offsets.0])?;
            }
            ids.push(token.id);
            end = token.offsets.1.max(end);
        }
        if end < spelled.len() {
            self.unknown(ids, &spelled[end..])?;
        }
        Ok(())
    }

    /// One unknown token for each character of what the vocabulary cannot spell.
    fn unknown(&self, ids: &mut Vec<u32>, text: &str) -> Result<(), TokenizerError> {
        let id = self
            .unknown
            .ok_or_else(|| TokenizerError::Unspellable { text: text.into() })?;
        ids.extend(text.chars().map(|_| id));
        Ok(())
    }
}

/// The map type of the tokenizer library, without naming its crate.
fn ahash_map() -> tokenizers::models::bpe::Vocab {
    tokenizers::models::bpe::Vocab::default()
}
