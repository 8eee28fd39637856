//! One training example: images and the turns of a conversation about them.

use std::path::PathBuf;

use super::diagnostic::Location;
pub use crate::tokenizer::Role;

/// One training or evaluation example, whatever format it came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Names the sample in reports; unique within a data set by convention.
    pub id: String,
    /// The images that [`Part::Image`] counts into.
    pub images: Vec<ImageRef>,
    /// The conversation, in order.
    pub turns: Vec<Turn>,
    /// Where the sample stood in the file it came from.
    pub origin: Option<Location>,
    /// Further fields that graft itself does not read.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// What one speaker says before the other speaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// Texts and images in the order in which they are read.
    pub content: Vec<Part>,
}

/// A piece of a [`Turn`].
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Plain text; never a marker for an image.
    Text(String),
    /// The image at this index of [`Sample::images`].
    Image(usize),
}

/// Where the pixels of an image are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageRef {
    /// A file; a relative path counts from the data set's image folder.
    Path(PathBuf),
    /// An encoded image (PNG, JPEG, …).
    Bytes(Vec<u8>),
}

impl Turn {
    /// A turn of text only.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        let content = vec![Part::Text(text.into())];
        Self { role, content }
    }

    /// The text of the turn, its images left out.
    pub fn plain_text(&self) -> String {
        let texts = self.content.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Image(_) => None,
        });
        texts.collect()
    }
}
