//! A chat session whose adapter comes and goes between two answers.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use graft::adapter::{Adapter, Attached};
use graft::dataset::{ImageFolder, Sample, prompt};
use graft::model::Model;
use graft::session::{Chat, GenerateOptions, Item, Session, SessionOptions, ShownImage};

use super::picture;
use crate::failure::Failure;

/// Asks the same session about one scan three times: before, with and after the adapter.
pub fn chat(
    out: &mut impl Write,
    model: &Arc<Model>,
    adapter: &Arc<Adapter>,
    sample: &Sample,
    images: &ImageFolder,
) -> Result<(), Failure> {
    let (messages, _) = prompt::question(sample);
    let question = messages.last().map_or("", |m| m.text.as_str());
    let options = SessionOptions::with_context(512);
    let session = Session::new(Arc::clone(model), &options)?;
    let mut chat = Chat::new(session, model.chat_template(None)?);
    let mut shown = Vec::new();
    for image in &sample.images {
        let image = images
            .read(image, &sample.id)
            .and_then(|file| file.decode())
            .map_err(graft::Error::from)?;
        for line in picture::lines(&image, 8) {
            writeln!(out, "    {line}")?;
        }
        shown.push(Item::Image(ShownImage::new(model, &image)?));
    }
    let generate = GenerateOptions {
        max_tokens: 16,
        ..GenerateOptions::default()
    };
    let attached = Attached::new([(Arc::clone(adapter), 1.0)]);
    for (when, adapters) in [
        ("before", Attached::default()),
        ("with the adapter", attached),
        ("detached again", Attached::default()),
    ] {
        chat.session().set_adapters(adapters)?;
        chat.reset();
        let go_on = |_: &str| ControlFlow::Continue(());
        let answer = chat.say(question, shown.clone(), &generate, go_on)?;
        let answer = answer.text.trim().to_owned();
        writeln!(out, "  {when:18}{question}  {answer}")?;
    }
    Ok(())
}
