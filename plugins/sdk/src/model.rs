//! Asking the model itself, for evaluators that judge with it.
//!
//! A plugin that names [`Granted`] becomes one of the world `judge-plugin`: graft loads it only if the
//! user grants it a model. Generic over [`Ask`], the same evaluator is tested with a
//! [`Script`](crate::testing::Script) in the model's place:
//!
//! ```
//! use graft_plugin::model::{Ask, Question};
//! use graft_plugin::testing::Script;
//!
//! let mut model = Script::of(["Yes."]);
//! let reply = model.ask(&Question::text("Is water wet?", 8)).unwrap();
//! assert_eq!(reply.text, "Yes.");
//! ```

use crate::bindings::judge::graft::plugin::model;
use crate::{Error, ImageRef, Part, Role, Turn};

pub use model::{Reply, Request as Question};

/// Something that answers questions.
pub trait Ask {
    /// Goes on with the conversation of `question`.
    ///
    /// # Errors
    /// [`Error::Denied`] if there is no model, or an image is not one of the sample that is scored;
    /// [`Error::Unsupported`] if this question cannot be put to the model: it is too long, or shows
    /// an image to a model that cannot see; [`Error::Cancelled`], which is returned unchanged.
    fn ask(&mut self, question: &Question) -> Result<Reply, Error>;
}

/// The model that the user granted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Granted;

impl Ask for Granted {
    #[cfg(target_arch = "wasm32")]
    fn ask(&mut self, question: &Question) -> Result<Reply, Error> {
        model::generate(question)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn ask(&mut self, _: &Question) -> Result<Reply, Error> {
        Err(Error::Denied("there is no model outside graft".into()))
    }
}

impl Question {
    /// A question of one turn, for a reply of at most `max_tokens`.
    pub fn text(text: impl Into<String>, max_tokens: u32) -> Self {
        let content = vec![Part::Text(text.into())];
        let role = Role::User;
        Self {
            turns: vec![Turn { role, content }],
            images: Vec::new(),
            max_tokens,
            seed: 0,
        }
    }

    /// The same with `images` in front of the last turn's text.
    pub fn showing(mut self, images: &[ImageRef]) -> Self {
        if let Some(last) = self.turns.last_mut() {
            let first = self.images.len() as u32;
            let shown = (first..).take(images.len()).map(Part::Image);
            last.content.splice(0..0, shown);
            self.images.extend_from_slice(images);
        }
        self
    }
}
