//! A conversation on a session: messages in, answers out, the shared beginning computed once.

use std::ops::ControlFlow;

use super::{Finish, GenerateOptions, Generated, Item, Session, SessionError, Watch};
use crate::Result;
use crate::model::Model;
use crate::tokenizer::{ChatTemplate, IMAGE, JinjaTemplate, Message, Role};

/// A conversation.
#[derive(Debug)]
pub struct Chat {
    session: Session,
    template: ChatTemplate,
    messages: Vec<Message>,
    images: Vec<Item>,
}

impl Model {
    /// The template a conversation with this model uses: the named one, else LLaVA-1.5's for a model
    /// that sees, else the one in its file, else LLaVA-1.5's (which is Vicuna's).
    ///
    /// # Errors
    /// If there is none of that name, or the file's does not compile.
    pub fn chat_template(&self, name: Option<&str>) -> Result<ChatTemplate> {
        if let Some(name) = name {
            return Ok(ChatTemplate::named(name)?);
        }
        let source = self.gguf().metadata().opt_str("tokenizer.chat_template")?;
        Ok(match (source, self.tokenizer()) {
            (Some(source), Ok(tokenizer)) if self.vision().is_none() => {
                ChatTemplate::Jinja(Box::new(JinjaTemplate::new(source, tokenizer)?))
            }
            _ => ChatTemplate::vicuna_v1(),
        })
    }
}

impl Chat {
    /// A conversation that begins on an empty session.
    pub fn new(session: Session, template: ChatTemplate) -> Self {
        Self {
            session,
            template,
            messages: Vec::new(),
            images: Vec::new(),
        }
    }

    /// The session, to change its adapters.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// What was said so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Begins again.
    pub fn reset(&mut self) {
        self.messages.clear();
        self.images.clear();
    }

    /// Says something, with images in front of it ([`Item::Image`], or [`Item::Rows`] of the caller's own), and
    /// generates the answer.
    ///
    /// The answer joins the conversation; if anything fails, the conversation is as it was.
    ///
    /// # Errors
    /// If the template refuses, the context is full, or generation fails.
    pub fn say(
        &mut self,
        text: &str,
        images: Vec<Item>,
        options: &GenerateOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let (turns, shown) = (self.messages.len(), self.images.len());
        self.messages.push(Message {
            role: Role::User,
            images: images.len(),
            text: text.to_owned(),
        });
        self.images.extend(images);
        let answered = self.answer(options, on_text);
        match &answered {
            Ok(answer) => self.messages.push(Message {
                role: Role::Assistant,
                images: 0,
                text: answer.text.trim().to_owned(),
            }),
            Err(_) => {
                self.messages.truncate(turns);
                self.images.truncate(shown);
            }
        }
        answered
    }

    /// Generates an answer to the messages as they stand.
    fn answer(
        &mut self,
        options: &GenerateOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let items = prompt_items(
            self.session.model(),
            &self.template,
            &self.messages,
            &self.images,
        )?;
        let mut watch = Watch::of(&options.cancel);
        if let Err(error) = self.session.set_history(items, &mut watch) {
            return Finish::of(error).map(Generated::nothing);
        }
        let mut options = options.clone();
        options.stop.extend(self.template.stop().map(str::to_owned));
        self.session.generate(&options, on_text)
    }
}

/// A conversation as items to feed, open for the model's answer; an image is an item of its own.
///
/// # Errors
/// If the template refuses it, or the images are not as many as are shown.
pub fn prompt_items(
    model: &Model,
    template: &ChatTemplate,
    messages: &[Message],
    images: &[Item],
) -> Result<Vec<Item>> {
    let tokenizer = model.tokenizer()?;
    let prompt = tokenizer.prompt(&template.render(messages, true)?)?;
    items_of(&prompt.ids, images)
}

/// Token ids as items, with an image wherever [`IMAGE`] stands.
///
/// # Errors
/// If the images are not as many as are shown, or an id is no number from 0 on.
pub fn items_of(ids: &[i32], images: &[Item]) -> Result<Vec<Item>> {
    let shown = ids.iter().filter(|&&id| id == IMAGE).count();
    let given = images.len();
    if shown != given {
        return Err(SessionError::Images { shown, given }.into());
    }
    let mut images = images.iter();
    let items = ids.iter().filter_map(|&id| match u32::try_from(id) {
        Ok(id) => Some(Ok(Item::Token(id))),
        Err(_) if id == IMAGE => images.next().cloned().map(Ok),
        Err(_) => Some(Err(SessionError::NoToken { id }.into())),
    });
    items.collect()
}
