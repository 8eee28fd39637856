//! From a sample to the model's own answer: the prompt of training, open at the last answer, and
//! greedy generation.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::features::{Digest, ImageRows};
use crate::Result;
use crate::adapter::Attached;
use crate::cancel::Cancel;
use crate::dataset::{ImageFolder, ImageRef, Sample, prompt};
use crate::model::Model;
use crate::sampler::Sampling;
use crate::session::{
    Finish, GenerateOptions, Item, Session, SessionError, SessionOptions, prompt_items,
};
use crate::tokenizer::{ChatTemplate, Message, Role};

/// How an [`Answerer`] asks.
#[derive(Clone, Debug)]
pub struct AnswerOptions {
    /// Most tokens of an answer; 0 for as many as the context holds.
    pub max_tokens: usize,
    /// Most positions of prompt and answer; 0 takes the model's own length, at most 4096.
    pub context_length: usize,
    /// Instructions in place of the template's own. A sample that has some keeps them.
    pub system: Option<String>,
    /// Bytes of image features that are kept for later questions.
    pub image_cache_bytes: usize,
}

impl Default for AnswerOptions {
    /// LLaVA's benchmarks allow 128 tokens.
    fn default() -> Self {
        Self {
            max_tokens: 128,
            context_length: 0,
            system: None,
            image_cache_bytes: 512 << 20,
        }
    }
}

/// Answers samples with one session, whose keys and values of a shared beginning are used again,
/// and with the features of every image computed once.
#[derive(Debug)]
pub struct Answerer {
    session: Session,
    template: ChatTemplate,
    images: ImageRows,
    options: AnswerOptions,
}

/// What the model said to one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text, without blanks at its ends.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Positions of the prompt, image tokens included.
    pub prompt_tokens: usize,
    /// Those of them that had to be computed.
    pub computed_tokens: usize,
    /// Tokens of the answer.
    pub generated_tokens: usize,
    /// Everything from reading the images to the last token.
    pub duration: Duration,
    /// SHA-256 of each image file.
    pub image_digests: Vec<[u8; 32]>,
}

/// A conversation that the model is to go on with.
pub(super) struct Asked<'a> {
    pub messages: Vec<Message>,
    /// In the order of the messages that show them.
    pub images: &'a [ImageRef],
    /// What errors call it.
    pub id: &'a str,
}

impl Answerer {
    /// Ready to answer with the base model alone.
    ///
    /// # Errors
    /// If the model has no tokenizer.
    pub fn new(
        model: &Arc<Model>,
        template: ChatTemplate,
        images: ImageFolder,
        options: AnswerOptions,
    ) -> Result<Self> {
        model.tokenizer()?;
        let context_length = options.context_length;
        Ok(Self {
            session: Session::new(
                Arc::clone(model),
                &SessionOptions::with_context(context_length),
            )?,
            template,
            images: ImageRows::new(images, options.image_cache_bytes),
            options,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.session.model()
    }

    /// The adapters at work.
    pub fn adapters(&self) -> &Attached {
        self.session.adapters()
    }

    /// How it asks.
    pub fn options(&self) -> &AnswerOptions {
        &self.options
    }

    /// How often the vision tower ran so far.
    pub fn images_computed(&self) -> u64 {
        self.images.computed()
    }

    /// Replaces the adapters; image features stay if the new ones see images as the old ones did.
    ///
    /// # Errors
    /// If one was made for another model; the old ones stay then.
    pub fn set_adapters(&mut self, adapters: Attached) -> Result<()> {
        self.session.set_adapters(adapters)
    }

    /// The conversation that [`Answerer::answer`] puts to the model, and the answer hoped for.
    pub fn question(&self, sample: &Sample) -> (Vec<Message>, String) {
        let (messages, hoped) = prompt::question(sample);
        (self.instructed(messages), hoped)
    }

    /// With the instructions of the options in front, if the conversation has none of its own.
    fn instructed(&self, mut messages: Vec<Message>) -> Vec<Message> {
        let has_system = messages.first().is_some_and(|m| m.role == Role::System);
        if let (Some(system), false) = (&self.options.system, has_system) {
            let system = Message {
                role: Role::System,
                images: 0,
                text: system.clone(),
            };
            messages.insert(0, system);
        }
        messages
    }

    /// Answers a sample's last question.
    ///
    /// # Errors
    /// If an image cannot be read or the model has no vision part for it, the template refuses the
    /// conversation, or it does not fit the context.
    pub fn answer(&mut self, sample: &Sample, cancel: &Cancel) -> Result<Answer> {
        let (messages, _) = prompt::question(sample);
        let (max_tokens, sampling) = (self.options.max_tokens, Sampling::default());
        self.reply(
            Asked {
                messages,
                images: &sample.images,
                id: &sample.id,
            },
            max_tokens,
            sampling,
            cancel,
        )
    }

    /// Goes on with a conversation; errors as [`Answerer::answer`].
    pub(super) fn reply(
        &mut self,
        asked: Asked<'_>,
        max_tokens: usize,
        sampling: Sampling,
        cancel: &Cancel,
    ) -> Result<Answer> {
        cancel.check()?;
        let begun = Instant::now();
        let messages = self.instructed(asked.messages);
        let model = Arc::clone(self.model());
        if model.vision().is_none() && !asked.images.is_empty() {
            return Err(SessionError::NoVision.into());
        }
        let images = self
            .images
            .of(&model, self.session.adapters(), asked.images, asked.id)?;
        // Rows are looked up anew under the set at work, so the history is never run again with those of another.
        let images = images.into_iter();
        let (image_digests, rows): (Vec<Digest>, Vec<Item>) = images
            .map(|(digest, rows)| (digest, Item::Rows(rows)))
            .unzip();
        let items = prompt_items(&model, &self.template, &messages, &rows)?;
        let known = self.session.common_prefix(&items);
        self.session.rewind(known);
        let kept = self.session.position();
        self.session.feed_items(items[known..].to_vec())?;
        let prompt_tokens = self.session.position();
        let options = GenerateOptions {
            max_tokens,
            sampling,
            stop: self
                .template
                .stop()
                .map(str::to_owned)
                .into_iter()
                .collect(),
            cancel: cancel.clone(),
        };
        let generated = self
            .session
            .generate(&options, |_| ControlFlow::Continue(()))?;
        if generated.finish == Finish::Cancelled {
            return Err(crate::Error::Cancelled);
        }
        Ok(Answer {
            text: generated.text.trim().to_owned(),
            finish: generated.finish,
            prompt_tokens,
            computed_tokens: prompt_tokens - kept,
            generated_tokens: generated.tokens.len(),
            duration: begun.elapsed(),
            image_digests,
        })
    }
}
