//! Tokens to text as they arrive: only whole UTF-8 characters are handed out.

use super::Tokenizer;

/// Decodes a sequence token by token; bytes of an unfinished character wait for the rest.
#[derive(Debug)]
pub struct StreamDecoder<'t> {
    tokenizer: &'t Tokenizer,
    waiting: Vec<u8>,
}

impl<'t> StreamDecoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self {
            tokenizer,
            waiting: Vec::new(),
        }
    }

    /// The text that this token completes; empty while a character is unfinished.
    ///
    /// Bytes that cannot become UTF-8 any more come out as U+FFFD. A leading blank is kept: whether
    /// it belongs to the text depends on what stood before.
    pub fn push(&mut self, id: u32) -> String {
        self.tokenizer.append_bytes(&mut self.waiting, id);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.waiting) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.waiting.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.waiting[..valid]));
                    let broken = error.error_len();
                    if broken.is_some() {
                        text.push(char::REPLACEMENT_CHARACTER);
                    }
                    self.waiting.drain(..valid + broken.unwrap_or(0));
                    if broken.is_none() {
                        return text;
                    }
                }
            }
        }
    }

    /// What is left at the end of the sequence: U+FFFD if a character was unfinished.
    pub fn flush(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.waiting).into_owned();
        self.waiting.clear();
        text
    }
}
