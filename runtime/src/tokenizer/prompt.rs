//! A rendered conversation as token ids and labels.
//!
//! Text between special tokens and images is tokenized as one run, as LLaVA does it, and a token is
//! learned if it starts inside a learned span. The reference computes the same mask by tokenizing
//! fragments again and counting; a test compares the two.

use super::template::{Segment, SegmentPiece};
use super::{BlankAfterSpecial, Family, Piece, TokenKind, Tokenizer, TokenizerError};

/// The label of a position that is not learned.
pub const IGNORED: i32 = -100;
/// The id that stands for an image in a [`Prompt`].
pub const IMAGE: i32 = -200;

/// Token ids of a conversation, and which of them are learned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Token ids; [`IMAGE`] where an image stands.
    pub ids: Vec<i32>,
    /// The same length: the id itself where it is learned, else [`IGNORED`].
    pub labels: Vec<i32>,
}

impl Prompt {
    /// Number of images.
    pub fn images(&self) -> usize {
        self.ids.iter().filter(|&&id| id == IMAGE).count()
    }

    /// Number of learned tokens.
    pub fn learned(&self) -> usize {
        self.labels
            .iter()
            .filter(|&&label| label != IGNORED)
            .count()
    }

    fn push(&mut self, id: i32, learned: bool) {
        self.ids.push(id);
        self.labels.push(if learned { id } else { IGNORED });
    }
}

/// Text waiting to be tokenized as one, with the places where learned spans begin and end.
#[derive(Default)]
struct Run {
    text: String,
    learned: Vec<std::ops::Range<usize>>,
    blank: bool,
}

impl Tokenizer {
    /// Tokenizes rendered segments, the first token in front where the model wants one.
    ///
    /// # Errors
    /// If the vocabulary cannot spell a text.
    pub fn prompt(&self, segments: &[Segment]) -> Result<Prompt, TokenizerError> {
        let mut prompt = Prompt::default();
        if let Some(bos) = self.bos.filter(|_| self.adds_bos) {
            prompt.push(bos as i32, false);
        }
        let after_special = self.blank_after_special == BlankAfterSpecial::Added;
        let mut run = Run {
            blank: true,
            ..Run::default()
        };
        for Segment { piece, learned } in segments {
            match piece {
                SegmentPiece::Text(text) => run.add(text, *learned),
                SegmentPiece::Image => {
                    self.flush(&mut prompt, &mut run, true)?;
                    prompt.push(IMAGE, false);
                }
                SegmentPiece::Markup(text) => {
                    for piece in self.special.cut(text, true) {
                        match piece {
                            Piece::Text(text) => run.add(text, *learned),
                            Piece::Special(id) => {
                                self.flush(&mut prompt, &mut run, after_special)?;
                                prompt.push(id as i32, *learned);
                            }
                        }
                    }
                }
            }
        }
        self.flush(&mut prompt, &mut run, true)?;
        Ok(prompt)
    }

    /// Tokenizes the waiting text; `blank` is the rule for the text that comes next.
    fn flush(&self, prompt: &mut Prompt, run: &mut Run, blank: bool) -> Result<(), TokenizerError> {
        let next = Run {
            blank,
            ..Run::default()
        };
        let Run {
            text,
            learned,
            blank,
        } = std::mem::replace(run, next);
        if text.is_empty() {
            return Ok(());
        }
        let mut ids = Vec::new();
        self.append(&mut ids, &text, false, blank)?;
        // Where each token starts in the text: the leading blank is in the tokens, not in the text.
        let front = match &self.family {
            Family::Spm(spm) => usize::from(blank && spm.adds_blank()),
            Family::Bpe(_) => 0,
        };
        let (mut at, mut bytes) = (0, Vec::new());
        for id in ids {
            let start = at.max(front) - front;
            prompt.push(id as i32, learned.iter().any(|span| span.contains(&start)));
            bytes.clear();
            self.append_bytes(&mut bytes, id);
            at += match self.token_kind(id) {
                // Stands for one character that the vocabulary cannot spell.
                Some(TokenKind::Unknown) => text
                    .get(start..)
                    .and_then(|t| t.chars().next())
                    .map_or(1, char::len_utf8),
                _ => bytes.len(),
            };
        }
        Ok(())
    }
}

impl Run {
    fn add(&mut self, text: &str, learned: bool) {
        let start = self.text.len();
        self.text.push_str(text);
        if learned {
            self.learned.push(start..self.text.len());
        }
    }
}
