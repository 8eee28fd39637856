//! A model file's own chat template, rendered with minijinja.
//!
//! The template sees a marker in place of what each message says. So it cannot tell people's words
//! from its own markup, and people's words cannot become control tokens: the rendered text is cut at
//! the markers and the real texts are put back as plain text.
//!
//! Templates come with model files, and a hostile one must not end the process. Work is limited by
//! fuel. Values that contain themselves, on whose depth the engine would recurse without end, can only be
//! made by storing a namespace in itself, so namespaces may only be used by their attributes;
//! values nested as deeply as the fuel allows fit the stack of a thread of our own.

use std::thread;

use minijinja::{Environment, ErrorKind, Value, context};

use super::template::{Message, Rendered, Role, Segment, SegmentPiece};
use super::{Tokenizer, TokenizerError};

/// Private-use characters around the index of a message; no real text contains them in this form.
const OPEN: char = '\u{F5A0}';
const CLOSE: char = '\u{F5A1}';

/// Fuel of a template, and of each message: many times what templates in use need.
const FUEL: u64 = 20_000;
const FUEL_PER_MESSAGE: u64 = 2_000;
const MOST_FUEL: u64 = 200_000;
/// Stack for values nested once for each few units of fuel.
const STACK_BYTES: usize = 128 << 20;

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
    /// If it does not compile, or uses a namespace as a value.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        check_namespaces(source)?;
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
        environment.set_fuel(Some(FUEL));
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
        let mut environment = self.environment.clone();
        let fuel = FUEL + FUEL_PER_MESSAGE * messages.len() as u64;
        environment.set_fuel(Some(fuel.min(MOST_FUEL)));
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
            let template = environment.get_template("chat");
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
        let (text, trims) = with_stack(|| {
            let text = marked("")?;
            // Many templates trim what is said; a marker between blanks shows whether this one does.
            let trims = marked(" ")? == text;
            Ok((text, trims))
        })?;
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

/// Runs `work` in a thread with a stack that is large enough for it.
fn with_stack<R: Send>(
    work: impl FnOnce() -> Result<R, TokenizerError> + Send,
) -> Result<R, TokenizerError> {
    let lost = |reason: String| TokenizerError::Template(reason);
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => match thread.join() {
                Ok(done) => done,
                Err(_) => Err(lost("it breaks the template engine".into())),
            },
            Err(e) => Err(lost(format!("there is no thread to run it in: {e}"))),
        }
    })
}

/// Refuses a template in which a namespace could be stored anywhere: one that is not made by
/// `set name = namespace(...)`, or that is used without an attribute.
fn check_namespaces(source: &str) -> Result<(), TokenizerError> {
    let regex = |pattern: &str| regex::Regex::new(pattern).expect("the patterns are ours");
    let made = regex(r"\bset\s+(\w+)\s*=\s*namespace\s*\(");
    let bindings: Vec<_> = made.captures_iter(source).collect();
    let named = regex(r"\bnamespace\b").find_iter(source).count();
    let refuse = |name: &str| {
        let reason = format!("it uses the namespace `{name}` otherwise than by its attributes");
        Err(TokenizerError::Template(reason))
    };
    if named != bindings.len() {
        return refuse("namespace");
    }
    let places: Vec<_> = bindings.iter().filter_map(|found| found.get(1)).collect();
    for place in &places {
        let name = place.as_str();
        let word = regex(&format!(r"\b{name}\b(\s*\.\s*[A-Za-z_])?"));
        let by_attribute = |found: &regex::Captures<'_>| {
            let at = found.get(0).map_or(0, |word| word.start());
            found.get(1).is_some() || places.iter().any(|place| place.start() == at)
        };
        if !word.captures_iter(source).all(|found| by_attribute(&found)) {
            return refuse(name);
        }
    }
    Ok(())
}

/// The text that segments spell, for tests and listings; an image is `<image>`.
pub fn spell(segments: &[Segment]) -> String {
    let pieces = segments.iter().map(|s| match &s.piece {
        SegmentPiece::Text(text) | SegmentPiece::Markup(text) => text.as_str(),
        SegmentPiece::Image => "<image>",
    });
    pieces.collect()
}
