//! Special tokens in text: where they stand, and whether they count.

use std::collections::HashMap;

use super::TokenKind;

/// The special tokens of a vocabulary, found in text by longest match.
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    ids: HashMap<String, (u32, TokenKind)>,
    /// First bytes that occur, and the lengths to try, longest first.
    first: HashMap<u8, Vec<usize>>,
}

/// A piece of text between special tokens, or one of them.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'t> {
    Text(&'t str),
    Special(u32),
}

impl SpecialTokens {
    pub(super) fn new(texts: &[String], kinds: &[TokenKind]) -> Self {
        let mut special = Self::default();
        for (id, (text, &kind)) in texts.iter().zip(kinds).enumerate() {
            let counts = matches!(
                kind,
                TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown
            );
            if let Some(&first) = text.as_bytes().first()
                && counts
            {
                special.ids.entry(text.clone()).or_insert((id as u32, kind));
                special.first.entry(first).or_default().push(text.len());
            }
        }
        for lengths in special.first.values_mut() {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        special
    }

    pub(super) fn id_of(&self, text: &str) -> Option<u32> {
        self.ids.get(text).map(|&(id, _)| id)
    }

    /// Cuts `text` at special tokens. User-defined tokens always count, control tokens (and the
    /// unknown token) only with `parse_special`.
    pub(super) fn cut<'t>(&self, text: &'t str, parse_special: bool) -> Vec<Piece<'t>> {
        let mut pieces = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            if let Some((id, length)) = self.at(text, at, parse_special) {
                if start < at {
                    pieces.push(Piece::Text(&text[start..at]));
                }
                pieces.push(Piece::Special(id));
                at += length;
                start = at;
            } else {
                at += 1;
            }
        }
        if start < text.len() {
            pieces.push(Piece::Text(&text[start..]));
        }
        pieces
    }

    fn at(&self, text: &str, at: usize, parse_special: bool) -> Option<(u32, usize)> {
        let lengths = self.first.get(&text.as_bytes()[at])?;
        lengths.iter().find_map(|&length| {
            // `get` is None off character boundaries and beyond the end.
            let &(id, kind) = self.ids.get(text.get(at..at + length)?)?;
            (parse_special || kind == TokenKind::UserDefined).then_some((id, length))
        })
    }
}
