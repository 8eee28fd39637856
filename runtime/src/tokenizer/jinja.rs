//! A model file's own chat template, rendered with minijinja.
//!
//! The template sees a marker in place of what each message says. So it cannot tell people's words
//! from its own markup, and people's words cannot become control tokens: the rendered text is cut at
//! the markers and the real texts are put back as plain text.

use minijinja::{Environment, ErrorKind, Value, context};

use super::template::{Message, Rendered, Role, Segment, SegmentPiece};
use super::{Tokenizer, TokenizerError};

/// Private-use characters around the index of a message; no real text contains them in this form.
const OPEN: char = '\u{F5A0}';
const CLOSE: char = '\u{F5A1}';

/// A compiled chat template.
#[derive(Debug)]
pub struct JinjaTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    ends: Vec<String>,
}

impl JinjaTemplate {
    /// Compiles the source of a template for a model with this vocabulary.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        let mut environment = Environment::new();
        // What Hugging Face sets: blocks leave no blank lines behind.
        let mut syntax = minijinja::syntax::SyntaxConfig::builder();
        let syntax = syntax.trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| TokenizerError::Template(e.to_string()))?);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        // A fixed day: a prompt must not change with the clock.
        environment.add_function("strftime_now", |_format: String| "26 Jul 2024");
        // Templates come with model files: a loop that never ends is an error, not a hang.
        environment.set_fuel(Some(1_000_000));
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|e| TokenizerError::Template(e.to_string()))?;
        let text = |id: Option<u32>| {
            let text = id.and_then(|id| tokenizer.token_text(id));
            text.unwrap_or_default().to_owned()
        };
        let ends = (0..tokenizer.vocab_size() as u32)
            .filter(|&id| tokenizer.is_end(id))
            .map(|id| text(Some(id)));
        Ok(Self {
            environment,
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
            ends: ends.collect(),
        })
    }

    pub(super) fn render(
        &self,
        messages: &[Message],
        open: bool,
    ) -> Result<Vec<Segment>, TokenizerError> {
        let marked = |blank: &str| {
            let entries = messages.iter().enumerate().map(|(i, message)| {
                let role = match message.role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                let content = format!("{blank}{OPEN}{i}{CLOSE}{blank}");
                context! { role, content }
            });
            let messages = Value::from(entries.collect::<Vec<_>>());
            let template = self.environment.get_template("chat");
            let rendered = template.and_then(|t| {
                t.render(context! {
                    messages,
                    add_generation_prompt => open,
                    bos_token => &self.bos,
                    eos_token => &self.eos,
                })
            });
            rendered.map_err(|e| TokenizerError::Template(e.to_string()))
        };
        let text = marked("")?;
        // Many templates trim what is said; a marker between blanks shows whether this one does.
        let trims = marked(" ")? == text;
        // The tokenizer puts the first token in front itself.
        let text = text.strip_prefix(&self.bos).unwrap_or(&text);
        let mut out = Rendered::default();
        let mut parts = text.split(OPEN);
        out.markup(parts.next().unwrap_or_default());
        for part in parts {
            let (index, after) = part.split_once(CLOSE).unwrap_or(("", part));
            let said = index.parse::<usize>().ok().and_then(|i| messages.get(i));
            let Some(said) = said else {
                return Err(TokenizerError::Template("it changes what is said".into()));
            };
            let text = if trims { said.text.trim() } else { &said.text };
            out.turn(
                &Message {
                    text: text.into(),
                    ..said.clone()
                },
                "",
            );
            self.after(&mut out, after, said.role == Role::Assistant);
        }
        Ok(out.0)
    }

    /// Markup behind a message; the token that ends an answer is learned with it.
    fn after(&self, out: &mut Rendered, text: &str, answer: bool) {
        let end = self
            .ends
            .iter()
            .filter(|_| answer)
            .find(|end| text.starts_with(end.as_str()));
        let (learned, rest) = text.split_at(end.map_or(0, String::len));
        out.end(learned, true);
        out.markup(rest);
    }
}

/// The text that segments spell, for tests and listings; an image is `<image>`.
pub fn spell(segments: &[Segment]) -> String {
    let pieces = segments.iter().map(|s| match &s.piece {
        SegmentPiece::Text(text) | SegmentPiece::Markup(text) => text.as_str(),
        SegmentPiece::Image => "<image>",
    });
    pieces.collect()
}
