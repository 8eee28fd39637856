//! A prompt from the command line as items that a session can be fed.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use graft::cancel::Cancel;
use graft::model::Model;
use graft::session::{Item, Session, Watch, items_of, prompt_items};
use graft::tokenizer::{ChatTemplate, Message, Role, Segment, SegmentPiece};

use crate::failure::Failure;
use crate::model_arguments;
use crate::text_file;

/// Where an image goes in a text.
const MARKER: &str = "<image>";

/// What is said to the model.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct PromptArguments {
    /// The prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// A file with the prompt; - for stdin
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl PromptArguments {
    /// The prompt's text.
    pub fn text(&self) -> Result<String, Failure> {
        match (&self.prompt, &self.file) {
            (Some(text), _) => Ok(text.clone()),
            (None, Some(path)) => text_file::read(path),
            (None, None) => Err(Failure::Usage("give a prompt with -p or -f".into())),
        }
    }
}

/// The items of a conversation's first question, open for the answer.
pub fn question(
    model: &Arc<Model>,
    template: &ChatTemplate,
    text: &str,
    images: &[PathBuf],
) -> Result<Vec<Item>, Failure> {
    let images = model_arguments::images(model, images)?;
    let message = Message {
        role: Role::User,
        images: images.len(),
        text: without_markers(text, !images.is_empty()),
    };
    Ok(prompt_items(model, template, &[message], &images)?)
}

/// The text itself as items, without a conversation around it. Images go where the text says
/// `<image>`, or before everything where it does not.
pub fn raw(model: &Arc<Model>, text: &str, images: &[PathBuf]) -> Result<Vec<Item>, Failure> {
    let images = model_arguments::images(model, images)?;
    let segment = |piece| Segment {
        piece,
        learned: false,
    };
    let mut segments = Vec::new();
    let pieces: Vec<&str> = match images.is_empty() {
        true => vec![text],
        false => text.split(MARKER).collect(),
    };
    let shown = pieces.len() - 1;
    if shown != 0 && shown != images.len() {
        return Err(Failure::Usage(format!(
            "the prompt says {MARKER} {shown} times, {} images are given",
            images.len()
        )));
    }
    if shown == 0 {
        segments.extend(images.iter().map(|_| segment(SegmentPiece::Image)));
    }
    for (i, piece) in pieces.into_iter().enumerate() {
        if i > 0 {
            segments.push(segment(SegmentPiece::Image));
        }
        if !piece.is_empty() {
            segments.push(segment(SegmentPiece::Markup(piece.to_owned())));
        }
    }
    let tokenizer = model.tokenizer().map_err(graft::Error::from)?;
    let prompt = tokenizer.prompt(&segments).map_err(graft::Error::from)?;
    Ok(items_of(&prompt.ids, &images)?)
}

/// Positions that items take.
pub fn positions(model: &Model, items: &[Item]) -> usize {
    let width = model.llama().shape().width;
    items.iter().map(|item| item.positions(width)).sum()
}

/// Feeds items; Ctrl-C stops it.
pub fn feed(session: &mut Session, items: &[Item], cancel: &Cancel) -> Result<(), Failure> {
    let needed = session.position() + positions(session.model(), items);
    if needed > session.capacity() {
        return Err(Failure::Work(format!(
            "the prompt has {needed} positions and the context holds {}; shorten the prompt or give \
             a larger --ctx",
            session.capacity()
        )));
    }
    session.feed_watched(items.to_vec(), &mut Watch::of(cancel))?;
    Ok(())
}

/// LLaVA's rule: images stand before the text, whatever place the text gives them.
pub fn without_markers(text: &str, has_images: bool) -> String {
    match has_images {
        true => text.replace(MARKER, "").trim().to_owned(),
        false => text.to_owned(),
    }
}
