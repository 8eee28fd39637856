//! What an answer is asked for with, and what it comes to.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graft::cancel::Cancel;
use graft::sampler::Sampling;
use graft::session::{
    Finish, GenerateOptions, Given as Prompt, Item, Watch, items_of, prompt_items,
};

use crate::call::DONE;
use crate::callback::{Progress, TextSink, UserData, graft_progress_fn, graft_text_fn};
use crate::cancel::CancelToken;
use crate::chat::{Conversation, graft_chat_options, graft_message};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::image::{self, ImageObject};
use crate::job::{Event, JobObject, Worker};
use crate::pointer::{In, Lent, OutStruct, Text};
use crate::session::{GRAFT_TOKEN_IMAGE, SessionObject, State};
use crate::structs::{CStruct, c_struct, number};
use crate::token::graft_token;

/// What is given goes behind what the session holds, in place of it.
pub const GRAFT_GENERATE_APPEND: u32 = 1;
/// In `text` the names of control tokens are these tokens.
pub const GRAFT_GENERATE_MARKUP: u32 = 2;

c_struct! {
    /// How tokens are chosen.
    graft_sampling {
        /// Divides the logits; 0 takes the likeliest.
        temperature: f32,
        /// Keep this many of the likeliest; 0 keeps all.
        top_k: u32,
        /// Keep the likeliest up to this total probability; 0 keeps all.
        top_p: f32,
        /// Keep what is at least this part as likely as the likeliest; 0 keeps all.
        min_p: f32,
        /// Zero.
        reserved_0: u32,
        /// Of the generator.
        seed: u64,
    }
}

c_struct! {
    /// What to answer, and how.
    graft_generate_request {
        /// [`GRAFT_GENERATE_APPEND`] and [`GRAFT_GENERATE_MARKUP`].
        flags: u32,
        /// Milliseconds for all of it; 0 for any number.
        timeout_ms: u64,
        /// Most tokens of the answer; 0 for as many as the context holds.
        max_tokens: u32,
        /// Zero.
        reserved_0: u32,
        /// A conversation from its first message on.
        messages: In<graft_message>,
        /// Its messages.
        n_messages: usize,
        /// How it is written; NULL for the model's way.
        chat: In<graft_chat_options>,
        /// Or a text to continue.
        text: In<u8>,
        /// Its bytes.
        text_len: usize,
        /// Or tokens to continue.
        tokens: In<graft_token>,
        /// How many.
        n_tokens: usize,
        /// Images in front of the text, or where tokens have their places.
        images: In<Handle<ImageObject>>,
        /// How many.
        n_images: usize,
        /// How tokens are chosen; NULL for the likeliest.
        sampling: In<graft_sampling>,
        /// Texts that end the answer.
        stops: In<Text>,
        /// How many.
        n_stops: usize,
        /// Stops it; NULL for nothing.
        cancel: CancelToken,
        /// Given the text as it grows.
        on_text: graft_text_fn,
        /// Told how far the prompt is.
        on_progress: graft_progress_fn,
        /// First argument of both.
        userdata: UserData,
    }
}

c_struct! {
    /// What an answer came to.
    graft_generate_result {
        /// Why it ended.
        finish: u32,
        /// Positions of the prompt.
        n_prompt: u32,
        /// Positions of it that were not run again.
        n_reused: u32,
        /// Tokens of the answer.
        n_generated: u32,
        /// Zero.
        reserved_0: u32,
        /// Milliseconds until the prompt was run.
        prompt_ms: f64,
        /// Milliseconds that the answer took.
        generate_ms: f64,
    }
}

/// The model ended its turn.
pub const GRAFT_FINISH_END: u32 = 1;
/// A stop text came up.
pub const GRAFT_FINISH_STOP: u32 = 2;
/// As many tokens as were asked for.
pub const GRAFT_FINISH_LENGTH: u32 = 3;
/// No position is left.
pub const GRAFT_FINISH_CONTEXT_FULL: u32 = 4;
/// The callback asked to stop.
pub const GRAFT_FINISH_CALLBACK: u32 = 5;
/// The token was raised.
pub const GRAFT_FINISH_CANCELLED: u32 = 6;
/// The time was over.
pub const GRAFT_FINISH_TIMEOUT: u32 = 7;

impl graft_sampling {
    fn sampling(&self) -> Result<Sampling, Fault> {
        let share = |value: f32| (0.0..=1.0).contains(&value);
        let refuse = |field: &str, value: f32, range: &str| {
            let message = format!("sampling.{field} is {value}; it is {range}");
            Err(Fault::argument(message).with("field", field))
        };
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("temperature", self.temperature, "0 or more");
        }
        if !share(self.top_p) {
            return refuse("top_p", self.top_p, "from 0 to 1");
        }
        if !share(self.min_p) {
            return refuse("min_p", self.min_p, "from 0 to 1");
        }
        Ok(Sampling {
            temperature: self.temperature,
            top_k: self.top_k as usize,
            top_p: if self.top_p == 0.0 { 1.0 } else { self.top_p },
            min_p: self.min_p,
            seed: self.seed,
        })
    }
}

/// What is given to be answered.
enum Given {
    Nothing,
    Items(Vec<Item>),
}

impl graft_generate_request {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// What is given; the stop text of a template joins `stops`.
    fn given(&self, state: &State, stops: &mut Vec<String>) -> Result<Given, Fault> {
        let model = state.model.model();
        let kinds = [self.n_messages > 0, !self.text.is_null(), self.n_tokens > 0];
        let kinds = kinds.iter().filter(|&&given| given).count();
        if kinds > 1 {
            let message = "messages, text and tokens exclude each other; give one of them";
            return Err(Fault::argument(message));
        }
        if self.has(!(GRAFT_GENERATE_APPEND | GRAFT_GENERATE_MARKUP)) {
            let message = format!("flags is {:#x}; see GRAFT_GENERATE_APPEND", self.flags);
            return Err(Fault::argument(message));
        }
        if self.n_messages > 0 {
            if self.has(GRAFT_GENERATE_APPEND) || self.n_images > 0 {
                let message = "messages are a whole conversation with images of their own: nothing to append, \
                               no images beside them";
                return Err(Fault::argument(message));
            }
            let chat = self.chat.read()?;
            let template = chat.template(model)?;
            if !chat.opens() {
                let message =
                    "an answer needs a conversation that is open for it, without GRAFT_CHAT_CLOSED";
                return Err(Fault::argument(message));
            }
            let conversation = Conversation::read(&self.messages, self.n_messages)?;
            stops.extend(template.stop().map(str::to_owned));
            let images = image::items(&conversation.images, model)?;
            let messages = &conversation.messages;
            return Ok(Given::Items(prompt_items(
                model, &template, messages, &images,
            )?));
        }
        let images = self.images.objects(self.n_images, "images")?;
        let images = image::items(&images, model)?;
        if kinds == 0 && images.is_empty() {
            return Ok(Given::Nothing);
        }
        let mut ids = Vec::new();
        if self.n_tokens > 0 {
            ids.extend(self.tokens.slice(self.n_tokens, "tokens")?);
        } else {
            let tokenizer = model.tokenizer()?;
            let begins = !self.has(GRAFT_GENERATE_APPEND) || state.session.history().is_empty();
            let first = tokenizer.bos().filter(|_| begins && tokenizer.adds_bos());
            ids.extend(first.map(u32::cast_signed));
            ids.extend(images.iter().map(|_| GRAFT_TOKEN_IMAGE));
            let text = match self.text.is_null() {
                true => "",
                false => self.text.text(self.text_len, "text")?,
            };
            let markup = self.has(GRAFT_GENERATE_MARKUP);
            ids.extend(
                tokenizer
                    .encode(text, false, markup)?
                    .into_iter()
                    .map(u32::cast_signed),
            );
        }
        Ok(Given::Items(items_of(&ids, &images)?))
    }

    fn stops(&self) -> Result<Vec<String>, Fault> {
        let stops = self.stops.texts(self.n_stops, "stops")?;
        match stops.iter().any(|stop| stop.is_empty()) {
            true => Err(Fault::argument(
                "a stop text is empty; every answer has that",
            )),
            false => Ok(stops.into_iter().map(str::to_owned).collect()),
        }
    }

    /// A flag that is raised as well when the time given is over.
    fn until_timeout(&self, cancel: Cancel) -> Cancel {
        let time = Duration::from_millis(self.timeout_ms);
        let deadline = Instant::now().checked_add(time);
        match deadline.filter(|_| self.timeout_ms > 0) {
            Some(deadline) => cancel.until(deadline),
            None => cancel,
        }
    }

    /// All that is asked for, with nothing of the program's memory in it.
    ///
    /// # Errors
    /// If the request cannot be meant.
    pub fn asked(&self, state: &State, cancel: Cancel) -> Result<Asked, Fault> {
        let cancel = self.until_timeout(cancel);
        let mut stop = self.stops()?;
        let sampling = self.sampling.read()?.sampling()?;
        Ok(Asked {
            given: self.given(state, &mut stop)?,
            append: self.has(GRAFT_GENERATE_APPEND),
            options: GenerateOptions {
                max_tokens: self.max_tokens as usize,
                sampling,
                stop,
                cancel,
            },
        })
    }

    /// Whether it names functions or a token of the program's.
    pub fn calls_back(&self) -> bool {
        self.on_text.is_some() || self.on_progress.is_some() || !self.cancel.is_null()
    }
}

/// A request, ready to be answered.
pub struct Asked {
    given: Given,
    append: bool,
    options: GenerateOptions,
}

impl Asked {
    /// What a session of a batch is given, and how it answers.
    pub fn for_a_batch(self) -> (Prompt, GenerateOptions) {
        let given = match self.given {
            Given::Nothing => Prompt::Append(Vec::new()),
            Given::Items(items) if self.append => Prompt::Append(items),
            Given::Items(items) => Prompt::History(items),
        };
        (given, self.options)
    }
}

/// Hears of an answer while it is made.
pub trait Listener {
    /// Positions of the prompt that were run, of how many.
    fn prompt(&mut self, done: usize, of: usize) -> ControlFlow<()>;
    /// More of the answer's text, in whole characters.
    fn text(&mut self, text: &str) -> ControlFlow<()>;
}

/// The program's functions.
struct Callbacks {
    progress: Progress,
    sink: TextSink,
}

impl Listener for Callbacks {
    fn prompt(&mut self, done: usize, of: usize) -> ControlFlow<()> {
        self.progress.ask(c"prompt", done as u64, of as u64)
    }

    fn text(&mut self, text: &str) -> ControlFlow<()> {
        self.sink.give(text)
    }
}

/// Answers with the program's functions, and says in `out` what it came to, also if it was cancelled.
///
/// # Errors
/// If the request cannot be meant, the prompt does not fit, or it is cancelled.
pub fn run(
    state: &mut State,
    request: &graft_generate_request,
    out: &OutStruct<graft_generate_result>,
) -> Result<(), Fault> {
    let asked = request.asked(state, request.cancel.flag()?)?;
    let mut callbacks = Callbacks {
        progress: Progress::new(request.on_progress, request.userdata),
        sink: TextSink::new(request.on_text, request.userdata),
    };
    let (result, ended) = answer(state, asked, &mut callbacks);
    if result.finish != 0 {
        out.set(&result)?;
    }
    ended
}

/// Answers. Of what was stopped the result says how far it came; otherwise a failure leaves its finish 0.
pub fn answer(
    state: &mut State,
    asked: Asked,
    listener: &mut dyn Listener,
) -> (graft_generate_result, Result<(), Fault>) {
    let mut result = graft_generate_result::zeroed();
    let ended = make(state, asked, listener, &mut result);
    if let Err(error) = &ended {
        result.finish = match error {
            graft::Error::Cancelled => GRAFT_FINISH_CANCELLED,
            graft::Error::TimedOut => GRAFT_FINISH_TIMEOUT,
            _ => 0,
        };
    }
    (result, ended.map_err(Fault::from))
}

fn make(
    state: &mut State,
    asked: Asked,
    listener: &mut dyn Listener,
    result: &mut graft_generate_result,
) -> graft::Result<()> {
    let begun = Instant::now();
    let options = asked.options;
    let reused = feed(state, asked.given, asked.append, &options.cancel, listener);
    result.prompt_ms = milliseconds(begun);
    result.n_prompt = number(state.session.position());
    result.n_reused = number(reused?);
    let begun = Instant::now();
    let mut stopped = false;
    let generated = state.session.generate(&options, |text| {
        let flow = listener.text(text);
        stopped |= flow.is_break();
        flow
    })?;
    result.generate_ms = milliseconds(begun);
    result.n_generated = number(generated.tokens.len());
    result.finish = finish_of(generated.finish, stopped);
    match result.finish {
        GRAFT_FINISH_CANCELLED => Err(graft::Error::Cancelled),
        GRAFT_FINISH_TIMEOUT => Err(graft::Error::TimedOut),
        _ => Ok(()),
    }
}

/// Why an answer ended, as programs are told; `stopped` if its callback asked for it.
pub fn finish_of(finish: Finish, stopped: bool) -> u32 {
    match finish {
        Finish::End => GRAFT_FINISH_END,
        Finish::Stop => GRAFT_FINISH_STOP,
        Finish::Length => GRAFT_FINISH_LENGTH,
        Finish::ContextFull => GRAFT_FINISH_CONTEXT_FULL,
        Finish::Cancelled if stopped => GRAFT_FINISH_CALLBACK,
        Finish::Cancelled => GRAFT_FINISH_CANCELLED,
        Finish::TimedOut => GRAFT_FINISH_TIMEOUT,
    }
}

/// Feeds what is given; returns how many positions were not run again.
fn feed(
    state: &mut State,
    given: Given,
    append: bool,
    cancel: &Cancel,
    listener: &mut dyn Listener,
) -> graft::Result<usize> {
    let mut tell = |done: usize, of: usize| listener.prompt(done, of);
    let mut watch = Watch {
        cancel,
        progress: Some(&mut tell),
    };
    let held = state.session.position();
    match given {
        Given::Nothing => Ok(held),
        Given::Items(items) if append => {
            state.session.feed_watched(items, &mut watch)?;
            Ok(held)
        }
        Given::Items(items) => state.session.set_history(items, &mut watch),
    }
}

/// An answer in the background: what happens waits as events.
struct Events<'a>(&'a Worker);

impl Listener for Events<'_> {
    fn prompt(&mut self, done: usize, of: usize) -> ControlFlow<()> {
        let (done, total) = (done as u64, of as u64);
        self.0.tell(Event::Progress { done, total });
        ControlFlow::Continue(())
    }

    fn text(&mut self, text: &str) -> ControlFlow<()> {
        self.0.tell(Event::text(text));
        ControlFlow::Continue(())
    }
}

/// Answers in a job.
///
/// # Errors
/// If the request cannot be meant, or the session is in use.
pub fn start(
    session: Arc<SessionObject>,
    request: Lent<graft_generate_request>,
) -> Result<JobObject, Fault> {
    JobObject::start("graft_session_generate_start", move |worker| {
        session.with(|state| {
            // Whoever started the job waits, and what the request leads to is there, until the job has begun.
            let asked = request.get().asked(state, worker.cancel().clone())?;
            worker.begun();
            let (result, ended) = answer(state, asked, &mut Events(worker));
            worker.tell(Event::Answered(Box::new(result)));
            ended
        })?;
        DONE
    })
}

/// How long it has taken since.
pub fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
