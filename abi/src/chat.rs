//! Conversations, and how they are written for a model.

use std::sync::Arc;

use graft::model::Model;
use graft::tokenizer::{ChatTemplate, JinjaTemplate, Message, Role, Segment, spell};
use serde_json::Value as Json;

use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::Handle;
use crate::image::ImageObject;
use crate::model::ModelObject;
use crate::pointer::{In, Out, Text};
use crate::status::graft_status;
use crate::structs::c_struct;
use crate::token::graft_token;

/// The conversation ends where its last message does, and not with the beginning of an answer.
pub const GRAFT_CHAT_CLOSED: u32 = 1;

c_struct! {
    /// One turn of a conversation.
    graft_message {
        /// Images in front of the text.
        n_images: u32,
        /// "system", "user" or "assistant".
        role: Text,
        /// What is said.
        text: In<u8>,
        /// Its bytes.
        text_len: usize,
        /// The images.
        images: In<Handle<ImageObject>>,
    }
}

c_struct! {
    /// How a conversation is written.
    graft_chat_options {
        /// [`GRAFT_CHAT_CLOSED`].
        flags: u32,
        /// One of the named templates; NULL for the model's.
        template_name: Text,
        /// A Jinja template; NULL for none.
        template_text: In<u8>,
        /// Its bytes.
        template_len: usize,
    }
}

/// A conversation that a program has given.
pub struct Conversation {
    /// Its turns.
    pub messages: Vec<Message>,
    /// Their images, in order.
    pub images: Vec<Arc<ImageObject>>,
}

impl Conversation {
    /// Reads `count` messages.
    ///
    /// # Errors
    /// If one is none, or says nothing.
    pub fn read(messages: &In<graft_message>, count: usize) -> Result<Self, Fault> {
        let mut conversation = Self {
            messages: Vec::new(),
            images: Vec::new(),
        };
        for (i, message) in messages.structs(count, "messages")?.iter().enumerate() {
            let images = message.n_images as usize;
            let held = message.images.objects(images, "message.images")?;
            conversation.images.extend(held);
            let role = match message.role.required("message.role")? {
                "system" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                other => {
                    let message = format!(
                        "the role of message {i} is {other:?}; it is system, user or assistant"
                    );
                    return Err(Fault::argument(message));
                }
            };
            let text = message.text.text(message.text_len, "message.text")?;
            if role == Role::User && images == 0 && text.is_empty() {
                let message = format!(
                    "message {i} says nothing; text_len is its length in bytes, or GRAFT_NUL_TERMINATED"
                );
                return Err(Fault::argument(message));
            }
            conversation.messages.push(Message {
                role,
                images,
                text: text.to_owned(),
            });
        }
        Ok(conversation)
    }
}

impl graft_chat_options {
    /// The template for conversations with a model.
    ///
    /// # Errors
    /// If there is none of that name, or it does not compile.
    pub fn template(&self, model: &Model) -> Result<ChatTemplate, Fault> {
        if self.flags & !GRAFT_CHAT_CLOSED != 0 {
            let message = format!("flags is {:#x}; GRAFT_CHAT_CLOSED is known", self.flags);
            return Err(Fault::argument(message));
        }
        let name = self.template_name.optional("template_name")?;
        let text = self.template_text.text(self.template_len, "template_text");
        match (name, self.template_text.is_null()) {
            (Some(_), false) => {
                let message = "template_name and template_text are both given; give one";
                Err(Fault::argument(message))
            }
            (name, true) => Ok(model.chat_template(name)?),
            (None, false) => {
                let template = JinjaTemplate::new(text?, model.tokenizer()?)?;
                Ok(ChatTemplate::Jinja(Box::new(template)))
            }
        }
    }

    /// Whether the model's turn is opened at the end.
    pub fn opens(&self) -> bool {
        self.flags & GRAFT_CHAT_CLOSED == 0
    }
}

fn segments(
    model: &Model,
    messages: &In<graft_message>,
    count: usize,
    options: &In<graft_chat_options>,
) -> Result<Vec<Segment>, Fault> {
    let options = options.read()?;
    let conversation = Conversation::read(messages, count)?;
    let template = options.template(model)?;
    Ok(template.render(&conversation.messages, options.opens())?)
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_chat_render(
    model: Handle<ModelObject>,
    messages: In<graft_message>,
    n_messages: usize,
    options: In<graft_chat_options>,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_chat_render", err, || {
        let model = model.get()?;
        let segments = segments(model.model(), &messages, n_messages, &options)?;
        out.give(Buffer::new(spell(&segments)))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_chat_encode(
    model: Handle<ModelObject>,
    messages: In<graft_message>,
    n_messages: usize,
    options: In<graft_chat_options>,
    tokens: Out<graft_token>,
    capacity: usize,
    needed: Out<usize>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_chat_encode", err, || {
        let model = model.get()?;
        let segments = segments(model.model(), &messages, n_messages, &options)?;
        let prompt = model.model().tokenizer()?.prompt(&segments)?;
        tokens.fill(capacity, &needed, &prompt.ids)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_chat_templates(out: Out<Handle<Buffer>>) -> graft_status {
    call::status("graft_chat_templates", || {
        let names: Json = ChatTemplate::names().collect();
        out.give(buffer::json(&names))?;
        DONE
    })
}
