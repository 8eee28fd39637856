//! Generation: tokens one at a time until something ends them.

use std::ops::ControlFlow;

use super::Session;
use crate::Result;
use crate::cancel::Cancel;
use crate::sampler::{Sampler, Sampling};

/// How to generate.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// Most tokens; 0 for as many as the context holds.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Stops between two tokens when raised.
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

impl Session {
    /// Continues what was fed. `on_text` gets the text as it grows, in whole characters; text that
    /// may be the beginning of a stop text is held back.
    ///
    /// # Errors
    /// If nothing was fed or the model has no tokenizer.
    pub fn generate(
        &mut self,
        options: &GenerateOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let model = std::sync::Arc::clone(self.model());
        let tokenizer = model.tokenizer()?;
        let mut sampler = Sampler::new(options.sampling);
        let mut decoder = tokenizer.decoder();
        let (mut text, mut shown, mut tokens) = (String::new(), 0, Vec::new());
        let most = if options.max_tokens == 0 {
            usize::MAX
        } else {
            options.max_tokens
        };
        let finish = loop {
            if options.cancel.is_raised() {
                break Finish::Cancelled;
            }
            if tokens.len() == most {
                break Finish::Length;
            }
            let id = sampler.choose(self.logits()?);
            if tokenizer.is_end(id) {
                break Finish::End;
            }
            tokens.push(id);
            text.push_str(&decoder.push(id));
            if let Some(at) = options
                .stop
                .iter()
                .filter_map(|s| text.find(s.as_str()))
                .min()
            {
                text.truncate(at);
                break Finish::Stop;
            }
            let safe = text.len() - held_back(&text, &options.stop);
            if safe > shown {
                let flow = on_text(&text[shown..safe]);
                shown = safe;
                if flow.is_break() {
                    break Finish::Cancelled;
                }
            }
            if self.position() == self.capacity() {
                break Finish::ContextFull;
            }
            self.feed(&[id])?;
        };
        if finish != Finish::Stop {
            text.push_str(&decoder.flush());
        }
        if text.len() > shown {
            // Nothing more comes, so the answer to this call does not matter.
            let _ = on_text(&text[shown..]);
        }
        Ok(Generated {
            text,
            tokens,
            finish,
        })
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
