//! `graft chat`: a conversation, with adapters that come and go between two answers.

use std::io::{self, BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use graft::adapter::{Adapter, Attached};
use graft::cancel::Cancel;
use graft::memory::peak_bytes;
use graft::session::{Chat, Finish, GenerateOptions, Item};

use super::run::{Speed, explain, rate};
use crate::Setting;
use crate::failure::Failure;
use crate::interrupt;
use crate::model_arguments::{
    AdapterArgument, ModelArguments, SamplingArguments, adapter_argument, images,
};
use crate::progress::{short, short_bytes};
use crate::prompting::without_markers;

/// Talk with a model; adapters can be swapped while it runs
///
///   graft chat -m llava-7b-Q4_K_M.gguf --mmproj mmproj.gguf --adapter invoices.gguf
///
/// Lines that begin with / are commands; /help lists them. A line that ends with \ goes on in the
/// next. Ctrl-C stops an answer, and ends the conversation where none is being given.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ChatArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// An image for the first question; may be repeated
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Conversation template: vicuna_v1, llama_2, … [default: the model's]
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Positions the conversation may have [default: the model's own, at most 4096]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    ctx: usize,
    #[command(flatten)]
    sampling: SamplingArguments,
}

const HELP: &str = "\
/adapter                    the adapters at work
/adapter add FILE[:SCALE]   attach one more
/adapter scale N SCALE      change the strength of number N
/adapter detach [N]         take number N off, or all
/image FILE                 show an image with the next question
/reset                      begin a new conversation, adapters stay
/stats                      positions, speed and memory
/help                       this
/quit                       end (or Ctrl-D)";

/// Runs the command.
pub fn run(arguments: &ChatArguments, setting: &Setting) -> Result<(), Failure> {
    if setting.json {
        let reason = "chat is for people: use `graft run --json` for a document";
        return Err(Failure::Usage(reason.into()));
    }
    let opened = arguments.model.open()?;
    let shown = images(&opened.model, &arguments.images)?;
    let template = opened.model.chat_template(arguments.template.as_deref())?;
    let session = opened.session(arguments.ctx)?;
    let mut talk = Talk {
        chat: Chat::new(session, template),
        entries: opened.adapters,
        images: shown,
        sampling: arguments.sampling.clone(),
        last: None,
        people: io::stdin().is_terminal(),
    };
    if talk.people {
        eprintln!("{}; /help lists the commands", opened.model.name());
    }
    interrupt::release();
    talk.go_on()
}

/// What a line asks for.
enum Line {
    Said(String),
    Command(String),
    End,
}

/// What follows a line.
enum Next {
    GoOn,
    Quit,
}

struct Talk {
    chat: Chat,
    /// What [`Attached`] is made of, those of strength 0 included.
    entries: Vec<(Arc<Adapter>, f32)>,
    /// For the next question.
    images: Vec<Item>,
    sampling: SamplingArguments,
    last: Option<(Speed, Finish)>,
    people: bool,
}

impl Talk {
    fn go_on(&mut self) -> Result<(), Failure> {
        let mut failed = 0u32;
        loop {
            let done = match self.read()? {
                Line::End => break,
                Line::Said(text) if text.is_empty() => continue,
                Line::Said(text) => self.answer(&text).map(|()| Next::GoOn),
                Line::Command(text) => self.command(&text),
            };
            match done {
                Ok(Next::GoOn) => {}
                Ok(Next::Quit) => break,
                Err(Failure::Work(sentence) | Failure::Usage(sentence)) => {
                    eprintln!("graft: {sentence}");
                    failed += 1;
                }
                Err(other) => return Err(other),
            }
        }
        match failed {
            0 => Ok(()),
            _ if self.people => Ok(()),
            1 => Err(Failure::Work("one line failed, see above".into())),
            n => Err(Failure::Work(format!("{n} lines failed, see above"))),
        }
    }

    /// The next line, or several joined by `\`.
    fn read(&self) -> Result<Line, Failure> {
        let mut text = String::new();
        loop {
            if self.people {
                let _ = write!(
                    io::stderr(),
                    "{}",
                    if text.is_empty() { "> " } else { ". " }
                );
            }
            let mut line = String::new();
            let stdin = io::stdin().lock().read_line(&mut line);
            let read = stdin.map_err(|e| Failure::Work(format!("cannot read stdin: {e}")))?;
            if read == 0 && text.is_empty() {
                if self.people {
                    eprintln!();
                }
                return Ok(Line::End);
            }
            let line = line.trim_end_matches(['\n', '\r']);
            match line.strip_suffix('\\') {
                Some(line) if read > 0 => {
                    text += line;
                    text.push('\n');
                }
                _ => {
                    text += line;
                    break;
                }
            }
        }
        let text = text.trim();
        Ok(match text.strip_prefix('/') {
            Some(command) => Line::Command(command.to_owned()),
            None => Line::Said(text.to_owned()),
        })
    }

    fn answer(&mut self, text: &str) -> Result<(), Failure> {
        let cancel = Cancel::new();
        // An answer that Ctrl-C stops is the end of the answer, not of the conversation.
        let _listening = interrupt::listen(&cancel);
        let options = GenerateOptions {
            max_tokens: self.sampling.max_tokens,
            sampling: self.sampling.sampling(),
            stop: Vec::new(),
            cancel,
        };
        let images = std::mem::take(&mut self.images);
        let text = without_markers(text, !images.is_empty());
        let mut out = io::stdout().lock();
        let mut unwritten = None;
        let mut speed = Speed::begin();
        let (mut read, mut blank) = (false, true);
        let answered = self.chat.say(&text, images.clone(), &options, |piece| {
            if !read {
                read = true;
                speed.prompt_done(0);
            }
            // The blank that stands before an answer is not part of it.
            let piece = if blank { piece.trim_start() } else { piece };
            blank = blank && piece.is_empty();
            match out.write_all(piece.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    unwritten = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(error) = unwritten {
            return Err(error.into());
        }
        let answered = match answered {
            Ok(answered) => answered,
            Err(error) => {
                // The images still wait for a question that succeeds.
                self.images = images;
                return Err(error.into());
            }
        };
        speed.answer_done(answered.tokens.len());
        writeln!(out)?;
        let why = explain(answered.finish);
        if let Some(why) = why.strip_prefix("; ") {
            eprintln!("[{why}]");
        }
        if answered.finish == Finish::Cancelled && !self.people {
            return Err(Failure::Interrupted(None));
        }
        self.last = Some((speed, answered.finish));
        Ok(())
    }

    fn command(&mut self, text: &str) -> Result<Next, Failure> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        match name {
            "adapter" | "adapters" => self.adapter(rest)?,
            "image" => self.image(rest)?,
            "reset" => {
                self.chat.reset();
                self.images.clear();
                eprintln!("a new conversation");
            }
            "stats" => self.stats(),
            "help" | "?" => eprintln!("{HELP}"),
            "quit" | "exit" | "q" => return Ok(Next::Quit),
            _ => {
                return Err(Failure::Usage(format!(
                    "there is no command /{name}; /help lists them"
                )));
            }
        }
        Ok(Next::GoOn)
    }

    fn adapter(&mut self, text: &str) -> Result<(), Failure> {
        let (verb, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let mut entries = self.entries.clone();
        match verb {
            "" => {}
            "add" => {
                let argument = adapter_argument(rest)
                    .map_err(|e| Failure::Usage(format!("/adapter add FILE[:SCALE]: {e}")))?;
                entries.push(self.open(&argument)?);
            }
            "scale" => {
                let usage = || Failure::Usage("/adapter scale N SCALE: give two numbers".into());
                let (number, scale) = rest.split_once(char::is_whitespace).ok_or_else(usage)?;
                let scale: f32 = scale.trim().parse().map_err(|_| usage())?;
                if !scale.is_finite() {
                    return Err(usage());
                }
                let at = self.numbered(number)?;
                entries[at].1 = scale;
            }
            "detach" if rest.is_empty() || rest == "all" => entries.clear(),
            "detach" => {
                entries.remove(self.numbered(rest)?);
            }
            _ => {
                let reason = "/adapter takes add, scale or detach; /help says how";
                return Err(Failure::Usage(reason.into()));
            }
        }
        let attached = Attached::new(entries.iter().cloned());
        self.chat.session().set_adapters(attached)?;
        self.entries = entries;
        if self.entries.is_empty() {
            eprintln!("no adapter: the base model answers");
        }
        for (i, (adapter, scale)) in self.entries.iter().enumerate() {
            eprintln!("{}  {} x {scale}", i + 1, adapter.name());
        }
        Ok(())
    }

    fn open(&mut self, argument: &AdapterArgument) -> Result<(Arc<Adapter>, f32), Failure> {
        let model = Arc::clone(self.chat.session().model());
        Ok((argument.open(&model)?, argument.scale))
    }

    /// The place of the adapter that people call number `text`.
    fn numbered(&self, text: &str) -> Result<usize, Failure> {
        let number = text.parse::<usize>().ok();
        let at = number.and_then(|n| n.checked_sub(1));
        at.filter(|&at| at < self.entries.len()).ok_or_else(|| {
            let (count, text) = (self.entries.len(), text.trim());
            Failure::Usage(format!(
                "there is no adapter {text:?}; {count} are attached"
            ))
        })
    }

    fn image(&mut self, path: &str) -> Result<(), Failure> {
        if path.is_empty() {
            return Err(Failure::Usage("/image FILE: name a file".into()));
        }
        let model = Arc::clone(self.chat.session().model());
        let shown = images(&model, &[Path::new(path).to_owned()])?;
        self.images.extend(shown);
        eprintln!("{} image(s) for the next question", self.images.len());
        Ok(())
    }

    fn stats(&mut self) {
        let messages = self.chat.messages().len();
        let session = self.chat.session();
        let (position, capacity) = (session.position(), session.capacity());
        eprintln!("{:18}{position} of {capacity}", "positions");
        eprintln!("{:18}{messages}", "messages");
        if let Some((speed, finish)) = &self.last {
            let (prompt, answer) = (speed.prompt(), speed.answer());
            eprintln!(
                "{:18}begun after {}, {} tokens in {} ({:.1} tokens/s), {}",
                "last answer",
                short(prompt.1),
                answer.0,
                short(answer.1),
                rate(answer),
                finish.name()
            );
        }
        if let Some(bytes) = peak_bytes() {
            eprintln!("{:18}{}", "peak memory", short_bytes(bytes));
        }
    }
}
