//! Generation: tokens one at a time until something ends them.

use std::ops::ControlFlow;

use super::{Item, Session, Watch};
use crate::cancel::Cancel;
use crate::sampler::{Sampler, Sampling};
use crate::tokenizer::{StreamDecoder, Tokenizer};
use crate::{Error, Result};

/// How to generate.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// Most tokens; 0 for as many as the context holds.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Stops within a token when raised.
    pub cancel: Cancel,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finish {
    /// The model ended its turn.
    End,
    /// A stop text came up.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The context is full.
    ContextFull,
    /// The caller asked for it, by the callback or the cancel flag.
    Cancelled,
    /// The deadline of the cancel flag passed.
    TimedOut,
}

impl Finish {
    /// The word for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContextFull => "context-full",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
        }
    }

    /// How an answer ends in which this happened; an error if that is no end.
    pub(super) fn of(error: Error) -> Result<Self> {
        match error {
            Error::Cancelled => Ok(Self::Cancelled),
            Error::TimedOut => Ok(Self::TimedOut),
            other => Err(other),
        }
    }
}

/// What was generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The text, without a stop text.
    pub text: String,
    /// The tokens, without the end token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

impl Generated {
    /// An answer that ended before it began.
    pub(super) fn nothing(finish: Finish) -> Self {
        Self {
            text: String::new(),
            tokens: Vec::new(),
            finish,
        }
    }
}

impl Session {
    /// Continues what was fed. `on_text` gets the text as it grows, in whole characters; text that
    /// may be the beginning of a stop text is held back.
    ///
    /// Afterwards the session holds the answer's tokens but for the one that ended it; where that was the flag or
    /// the callback, the last token of the answer may be missing as well.
    ///
    /// # Errors
    /// If nothing was fed or the model has no tokenizer.
    pub fn generate(
        &mut self,
        options: &GenerateOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let model = std::sync::Arc::clone(self.model());
        let mut answer = Answer::begin(options, model.tokenizer()?);
        let finish = loop {
            if let Some(finish) = answer.is_due() {
                break finish;
            }
            let logits = match self.logits_unless(&options.cancel) {
                Ok(logits) => logits,
                Err(error) => break Finish::of(error)?,
            };
            match answer.push(logits, &mut on_text) {
                ControlFlow::Break(finish) => break finish,
                ControlFlow::Continue(_) if self.is_full() => break Finish::ContextFull,
                ControlFlow::Continue(id) => {
                    let fed =
                        self.feed_watched(vec![Item::Token(id)], &mut Watch::of(&options.cancel));
                    if let Err(error) = fed {
                        break Finish::of(error)?;
                    }
                }
            }
        };
        Ok(answer.end(finish, on_text))
    }
}

/// An answer while it grows.
pub(super) struct Answer<'a> {
    options: &'a GenerateOptions,
    tokenizer: &'a Tokenizer,
    sampler: Sampler,
    decoder: StreamDecoder<'a>,
    text: String,
    /// Bytes of the text that the caller has seen.
    shown: usize,
    tokens: Vec<u32>,
}

impl<'a> Answer<'a> {
    /// An answer of no tokens.
    pub(super) fn begin(options: &'a GenerateOptions, tokenizer: &'a Tokenizer) -> Self {
        Self {
            sampler: Sampler::new(options.sampling),
            decoder: tokenizer.decoder(),
            text: String::new(),
            shown: 0,
            tokens: Vec::new(),
            options,
            tokenizer,
        }
    }

    /// Why there should not be another token, if so.
    pub(super) fn is_due(&self) -> Option<Finish> {
        if let Err(error) = self.options.cancel.check() {
            return Finish::of(error).ok();
        }
        let most = self.options.max_tokens;
        (most > 0 && self.tokens.len() == most).then_some(Finish::Length)
    }

    /// Chooses the next token and shows what it makes certain; breaks if the answer ends here.
    pub(super) fn push(
        &mut self,
        logits: &[f32],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> ControlFlow<Finish, u32> {
        let id = self.sampler.choose(logits);
        if self.tokenizer.is_end(id) {
            return ControlFlow::Break(Finish::End);
        }
        self.tokens.push(id);
        self.text.push_str(&self.decoder.push(id));
        let stop = &self.options.stop;
        let stops = stop.iter().filter_map(|s| self.text.find(s.as_str()));
        if let Some(at) = stops.min() {
            self.text.truncate(at);
            return ControlFlow::Break(Finish::Stop);
        }
        let safe = self.text.len() - held_back(&self.text, stop);
        if safe > self.shown {
            let flow = on_text(&self.text[self.shown..safe]);
            self.shown = safe;
            if flow.is_break() {
                return ControlFlow::Break(Finish::Cancelled);
            }
        }
        ControlFlow::Continue(id)
    }

    /// Shows what was held back.
    pub(super) fn end(
        mut self,
        finish: Finish,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Generated {
        if finish != Finish::Stop {
            self.text.push_str(&self.decoder.flush());
        }
        if self.text.len() > self.shown {
            // Nothing more comes, so the answer to this call does not matter.
            let _ = on_text(&self.text[self.shown..]);
        }
        Generated {
            text: self.text,
            tokens: self.tokens,
            finish,
        }
    }
}

/// Bytes at the end of `text` that may be the beginning of a stop text.
fn held_back(text: &str, stop: &[String]) -> usize {
    let longest = |stop: &String| {
        let ends = (1..stop.len()).rev().filter(|&n| stop.is_char_boundary(n));
        ends.into_iter()
            .find(|&n| text.ends_with(&stop[..n]))
            .unwrap_or(0)
    };
    stop.iter().map(longest).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::held_back;

    #[test]
    fn only_the_beginning_of_a_stop_text_waits() {
        let stop = ["###".to_owned(), "END".to_owned()];
        assert_eq!(held_back("abc", &stop), 0);
        assert_eq!(held_back("abc##", &stop), 2);
        assert_eq!(held_back("abcEN", &stop), 2);
        assert_eq!(held_back("é", &["éa".to_owned()]), 2);
    }
}
