//! `graft run`: one completion, shown as it grows.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use graft::session::{Finish, GenerateOptions, Generated};

use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{ModelArguments, SamplingArguments};
use crate::progress::short;
use crate::prompting::{self, PromptArguments};

/// Answer one prompt, streamed to stdout
///
///   graft run -m llava-7b-Q4_K_M.gguf --mmproj mmproj.gguf \
///     --image invoice.png --adapter invoices.gguf:0.8 -p "What is the total?"
///
/// Without --raw the prompt becomes the first question of a conversation, written as the model's
/// chat template says. Speed and the reason of the end go to stderr.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct RunArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    prompt: PromptArguments,
    /// An image that the prompt is about; may be repeated
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Continue the prompt as it is, without a conversation around it
    #[arg(long, conflicts_with = "template")]
    raw: bool,
    /// Conversation template: vicuna_v1, llama_2, … [default: the model's]
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Text that ends the answer and is not part of it; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Positions the context holds [default: the model's own, at most 4096]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    ctx: usize,
    #[command(flatten)]
    sampling: SamplingArguments,
}

/// Runs the command.
pub fn run(arguments: &RunArguments, setting: &Setting) -> Result<(), Failure> {
    let opened = arguments.model.open()?;
    let model = &opened.model;
    let text = arguments.prompt.text()?;
    let mut stop = arguments.stop.clone();
    stop.retain(|text| !text.is_empty());
    let items = match arguments.raw {
        true => prompting::raw(model, &text, &arguments.images)?,
        false => {
            let template = model.chat_template(arguments.template.as_deref())?;
            stop.extend(template.stop().map(str::to_owned));
            prompting::question(model, &template, &text, &arguments.images)?
        }
    };
    let mut session = opened.session(arguments.ctx)?;
    let mut speed = Speed::begin();
    prompting::feed(&mut session, &items, &setting.cancel)?;
    speed.prompt_done(session.position());
    let options = GenerateOptions {
        max_tokens: arguments.sampling.max_tokens,
        sampling: arguments.sampling.sampling(),
        stop,
        cancel: setting.cancel.clone(),
    };
    let mut out = io::stdout().lock();
    let mut unwritten = None;
    let generated = session.generate(&options, |text| {
        if setting.json {
            return ControlFlow::Continue(());
        }
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                unwritten = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = unwritten {
        return Err(error.into());
    }
    speed.answer_done(generated.tokens.len());
    if setting.json {
        let document = speed.document(&generated);
        writeln!(out, "{document}")?;
    } else {
        if !generated.text.ends_with('\n') {
            writeln!(out)?;
        }
        eprintln!("{}", speed.line(generated.finish));
    }
    match generated.finish {
        Finish::Cancelled => Err(Failure::Interrupted(None)),
        _ => Ok(()),
    }
}

/// How long a prompt and its answer took.
pub struct Speed {
    begun: Instant,
    prompt: (usize, Duration),
    answer: (usize, Duration),
}

impl Speed {
    /// Before the prompt is fed.
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            prompt: Default::default(),
            answer: Default::default(),
        }
    }

    /// The prompt was run.
    pub fn prompt_done(&mut self, positions: usize) {
        self.prompt = (positions, self.begun.elapsed());
        self.begun = Instant::now();
    }

    /// The answer is complete.
    pub fn answer_done(&mut self, tokens: usize) {
        self.answer = (tokens, self.begun.elapsed());
    }

    /// Positions of the prompt, and how long they took.
    pub fn prompt(&self) -> (usize, Duration) {
        self.prompt
    }

    /// Tokens of the answer, and how long they took.
    pub fn answer(&self) -> (usize, Duration) {
        self.answer
    }

    fn line(&self, finish: Finish) -> String {
        let ((prompt, reading), (tokens, writing)) = (self.prompt, self.answer);
        let why = explain(finish);
        format!(
            "[prompt {prompt} positions in {}; answer {tokens} tokens in {}, {:.1} tokens/s{why}]",
            short(reading),
            short(writing),
            rate(self.answer),
        )
    }

    fn document(&self, generated: &Generated) -> serde_json::Value {
        let ((prompt, reading), (_, writing)) = (self.prompt, self.answer);
        serde_json::json!({
            "text": generated.text,
            "tokens": generated.tokens,
            "finish": generated.finish.name(),
            "prompt_positions": prompt,
            "prompt_seconds": reading.as_secs_f64(),
            "seconds": writing.as_secs_f64(),
            "tokens_per_second": rate(self.answer),
        })
    }
}

/// Tokens per second.
pub fn rate((tokens, time): (usize, Duration)) -> f64 {
    tokens as f64 / time.as_secs_f64().max(1e-9)
}

/// Why an answer ended, where that is not its own end.
pub fn explain(finish: Finish) -> &'static str {
    match finish {
        Finish::End | Finish::Stop => "",
        Finish::Length => "; cut at --max-tokens",
        Finish::ContextFull => "; the context is full",
        Finish::Cancelled => "; interrupted",
        Finish::TimedOut => "; out of time",
    }
}
