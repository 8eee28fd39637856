//! A text in windows of tokens: what perplexity and comparisons of models look at.

use std::path::Path;

use graft::model::Model;
use graft::session::Item;

use crate::failure::Failure;
use crate::model_arguments::check_context;
use crate::text_file;

/// Windows of one length; the second half of each counts.
pub struct Windows {
    ids: Vec<u32>,
    length: usize,
    count: usize,
    opening: Option<u32>,
}

impl Windows {
    /// Reads a text for a model: at most `most` windows of `length` tokens, from the beginning. A line
    /// end at the end of the file does not count, and tokens that do not fill a window are left out.
    pub fn read(
        model: &Model,
        file: &Path,
        length: usize,
        most: Option<usize>,
    ) -> Result<Self, Failure> {
        if length < 4 {
            return Err(Failure::Usage("--ctx must be at least 4 tokens".into()));
        }
        let context = model.llama().shape().context_length;
        if length > context {
            return Err(Failure::Usage(format!(
                "--ctx is {length}, but the model was made for {context} positions"
            )));
        }
        check_context(model, length)?;
        let tokenizer = model.tokenizer().map_err(graft::Error::from)?;
        let mut text = text_file::read(file)?;
        if text.ends_with('\n') {
            text.pop();
        }
        let ids = tokenizer.encode(&text, true, false);
        let ids = ids.map_err(graft::Error::from)?;
        let count = (ids.len() / length).min(most.unwrap_or(usize::MAX));
        if ids.len() < 2 * length || count == 0 {
            return Err(Failure::Work(format!(
                "{} has {} tokens, at least {} are needed for windows of {length}; give a longer \
                 text or a smaller --ctx",
                file.display(),
                ids.len(),
                2 * length
            )));
        }
        Ok(Self {
            ids,
            length,
            count,
            opening: tokenizer.bos().filter(|_| tokenizer.adds_bos()),
        })
    }

    /// Tokens of a window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first position that counts.
    pub fn from(&self) -> usize {
        self.length / 2
    }

    /// Each window's tokens, and what a model is given: the first replaced by the one that opens a
    /// sequence, and all but the last, which has no successor in the window.
    pub fn each(&self) -> impl Iterator<Item = (&[u32], Vec<Item>)> {
        let windows = self.ids.chunks_exact(self.length).take(self.count);
        windows.map(|ids| {
            let mut items: Vec<Item> = ids.iter().map(|&id| Item::Token(id)).collect();
            if let Some(bos) = self.opening {
                items[0] = Item::Token(bos);
            }
            items.pop();
            (ids, items)
        })
    }
}
