//! Conversations to text: LLaVA's named templates and a model file's own chat template.
//!
//! A template yields [`Segment`]s, not a string: what the template wrote may hold control tokens,
//! what people wrote may not, and which tokens are learned is known from the span they stand in.
//! Source of the named templates: LLaVA's `conversation.py`.

use super::TokenizerError;
use super::jinja::JinjaTemplate;

/// Who speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// The instructions before the conversation.
    System,
    /// The person.
    User,
    /// The model: the only role whose text is learned.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// Images in front of the text.
    pub images: usize,
    /// What is said; never a marker for an image or a control token.
    pub text: String,
}

/// A piece of a rendered conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// What stands there.
    pub piece: SegmentPiece,
    /// Whether its tokens are learned in training.
    pub learned: bool,
}

/// What a [`Segment`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum SegmentPiece {
    /// Written by a person or the model: always plain text.
    Text(String),
    /// Written by the template: names of control tokens count.
    Markup(String),
    /// The place of one image.
    Image,
}

/// How a conversation is written for a model.
#[derive(Debug)]
pub enum ChatTemplate {
    /// One of LLaVA's.
    Named(&'static NamedTemplate),
    /// The one in the model file.
    Jinja(Box<JinjaTemplate>),
}

/// One of LLaVA's conversation templates.
#[derive(Debug, PartialEq)]
pub struct NamedTemplate {
    /// Names it goes by.
    pub names: &'static [&'static str],
    system: &'static str,
    user: &'static str,
    assistant: &'static str,
    style: Style,
    separator: &'static str,
    end: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    Single,
    Two,
    Mpt,
    Llama2,
    Plain,
}

const USER_SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.";
const HUMAN_SYSTEM: &str = "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the human's questions.";
const TAG_SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant is able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language.The visual content will be provided with the following format: <Image>visual content</Image>.";
const VISION_SYSTEM: &str = "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language.";
const LLAMA_SYSTEM: &str = "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased and positive in nature.\n\nIf a question does not make any sense, or is not factually coherent, explain why instead of answering something not correct. If you don't know the answer to a question, please don't share false information.";
const MPT_SYSTEM: &str = "<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers.";
const CHATML_SYSTEM: &str = "<|im_start|>system\nAnswer the questions.";

macro_rules! template {
    ($names:expr, $system:expr, $user:literal, $assistant:literal, $style:ident, $separator:literal, $end:literal) => {
        NamedTemplate {
            names: &$names,
            system: $system,
            user: $user,
            assistant: $assistant,
            style: Style::$style,
            separator: $separator,
            end: $end,
        }
    };
}

/// Every named template.
pub static NAMED: [NamedTemplate; 10] = [
    template!(
        ["vicuna_v1", "v1"],
        USER_SYSTEM,
        "USER",
        "ASSISTANT",
        Two,
        " ",
        "</s>"
    ),
    template!(
        ["llava_v1"],
        HUMAN_SYSTEM,
        "USER",
        "ASSISTANT",
        Two,
        " ",
        "</s>"
    ),
    template!(
        ["v1_mmtag"],
        TAG_SYSTEM,
        "USER",
        "ASSISTANT",
        Two,
        " ",
        "</s>"
    ),
    template!(
        ["llava_v0"],
        HUMAN_SYSTEM,
        "Human",
        "Assistant",
        Single,
        "###",
        "###"
    ),
    template!(
        ["v0_mmtag"],
        TAG_SYSTEM,
        "Human",
        "Assistant",
        Single,
        "###",
        "###"
    ),
    template!(["plain", "v0_plain"], "", "", "", Plain, "\n", "\n"),
    template!(["llama_2"], LLAMA_SYSTEM, "", "", Llama2, "<s>", "</s>"),
    template!(
        ["llava_llama_2"],
        VISION_SYSTEM,
        "",
        "",
        Llama2,
        "<s>",
        "</s>"
    ),
    template!(["mistral_instruct"], "", "", "", Llama2, "", "</s>"),
    template!(
        ["mpt"],
        MPT_SYSTEM,
        "<|im_start|>user\n",
        "<|im_start|>assistant\n",
        Mpt,
        "<|im_end|>",
        "<|im_end|>"
    ),
];
static CHATML: NamedTemplate = template!(
    ["chatml_direct", "mistral_direct"],
    CHATML_SYSTEM,
    "<|im_start|>user\n",
    "<|im_start|>assistant\n",
    Mpt,
    "<|im_end|>",
    "<|im_end|>"
);

impl ChatTemplate {
    /// The named template, or an error that lists the names there are.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn named(name: &str) -> Result<Self, TokenizerError> {
        let mut all = NAMED.iter().chain([&CHATML]);
        all.find(|t| t.names.contains(&name))
            .map(Self::Named)
            .ok_or_else(|| TokenizerError::TemplateName {
                found: name.into(),
                known: Self::names().collect::<Vec<_>>().join(", "),
            })
    }

    /// Every name that [`ChatTemplate::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let all = NAMED.iter().chain([&CHATML]);
        all.flat_map(|template| template.names).copied()
    }

    /// LLaVA-1.5's own: what its training and benchmarks use.
    pub fn vicuna_v1() -> Self {
        Self::Named(&NAMED[0])
    }

    /// Whether labels follow LLaVA's v1 rule, in which a role name inside a text masks the sample.
    pub fn masks_like_v1(&self) -> bool {
        matches!(self, Self::Named(t) if t.style == Style::Two)
    }

    /// Text that ends an answer where the model has no end token for it.
    pub fn stop(&self) -> Option<&'static str> {
        match self {
            Self::Named(t) if matches!(t.style, Style::Single | Style::Mpt) => Some(t.separator),
            _ => None,
        }
    }

    /// The conversation as segments; with `open`, it ends where the model's answer begins.
    ///
    /// # Errors
    /// If the model file's template fails, or roles do not alternate as a named template needs.
    pub fn render(&self, messages: &[Message], open: bool) -> Result<Vec<Segment>, TokenizerError> {
        match self {
            Self::Named(template) => template.render(messages, open),
            Self::Jinja(template) => template.render(messages, open),
        }
    }
}

impl NamedTemplate {
    fn render(&self, messages: &[Message], open: bool) -> Result<Vec<Segment>, TokenizerError> {
        let (system, turns) = match messages {
            [first, rest @ ..] if first.role == Role::System => (first.text.as_str(), rest),
            all => (self.system, all),
        };
        for (i, turn) in turns.iter().enumerate() {
            let expected = [Role::User, Role::Assistant][i % 2];
            if turn.role != expected {
                return Err(TokenizerError::Roles {
                    index: i,
                    expected,
                    found: turn.role,
                });
            }
        }
        let mut out = Rendered::default();
        match self.style {
            Style::Single | Style::Two => {
                out.markup(system);
                out.markup(self.separator);
                for turn in turns {
                    let asked = turn.role == Role::User;
                    out.markup(if asked { self.user } else { self.assistant });
                    // The blank before an answer is learned with it: it is part of its first token.
                    out.markup(if asked { ": " } else { ":" });
                    out.turn(turn, if asked { "" } else { " " });
                    out.end(if asked { self.separator } else { self.end }, !asked);
                }
                if open {
                    out.markup(self.assistant);
                    out.markup(":");
                }
            }
            Style::Mpt => {
                out.markup(if system == self.system {
                    ""
                } else {
                    "<|im_start|>system\n"
                });
                out.markup(system);
                out.markup(self.separator);
                for turn in turns {
                    let asked = turn.role == Role::User;
                    out.markup(if asked { self.user } else { self.assistant });
                    out.turn(turn, "");
                    out.end(self.separator, !asked);
                }
                if open {
                    out.markup(self.assistant);
                }
            }
            Style::Llama2 => {
                for (i, turn) in turns.iter().enumerate() {
                    if turn.role == Role::User {
                        // The tokenizer supplies the first `<s>`.
                        out.markup(if i == 0 { "" } else { self.separator });
                        out.markup("[INST] ");
                        if i == 0 && !system.is_empty() {
                            out.markup(&format!("<<SYS>>\n{system}\n<</SYS>>\n\n"));
                        }
                        out.turn(turn, "");
                        out.markup(" [/INST]");
                    } else {
                        out.turn(turn, " ");
                        out.end(&format!(" {}", self.end), true);
                    }
                }
            }
            Style::Plain => {
                for turn in turns {
                    if turn.role == Role::User {
                        // A caption is learned for the image alone; the question is not shown.
                        (0..turn.images).for_each(|_| out.image());
                    } else {
                        out.turn(turn, "");
                        out.end(self.end, true);
                    }
                }
            }
        }
        Ok(out.0)
    }
}

/// Segments under construction.
#[derive(Default)]
pub(super) struct Rendered(pub(super) Vec<Segment>);

impl Rendered {
    pub(super) fn markup(&mut self, text: &str) {
        self.end(text, false);
    }

    pub(super) fn end(&mut self, text: &str, learned: bool) {
        if !text.is_empty() {
            let piece = SegmentPiece::Markup(text.into());
            self.0.push(Segment { piece, learned });
        }
    }

    pub(super) fn image(&mut self) {
        let piece = SegmentPiece::Image;
        self.0.push(Segment {
            piece,
            learned: false,
        });
    }

    /// A turn's images, each on its line, and its text.
    pub(super) fn turn(&mut self, turn: &Message, before: &str) {
        let learned = turn.role == Role::Assistant;
        for _ in 0..turn.images {
            self.image();
        }
        let line = if turn.images > 0 && !turn.text.is_empty() {
            "\n"
        } else {
            ""
        };
        let text = format!("{before}{line}{}", turn.text);
        if !text.is_empty() {
            let piece = SegmentPiece::Text(text);
            self.0.push(Segment { piece, learned });
        }
    }
}
