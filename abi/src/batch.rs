//! Batches: sessions that run together, one pass over the weights for all of them.

use std::ops::ControlFlow;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use graft::cancel::Cancel;
use graft::memory::Reservation;
use graft::session::{Batch, BatchOptions, Finish, GenerateOptions, Generated, Given, items_of};

use crate::call::{self, DONE};
use crate::callback::TextSink;
use crate::cancel::CancelToken;
use crate::error::ErrorOut;
use crate::exclusive::Exclusive;
use crate::fault::Fault;
use crate::handle::{Handle, exclusive_kind};
use crate::image::{self, ImageObject};
use crate::model::ModelObject;
use crate::pointer::{In, Out, OutStruct};
use crate::session::{SessionObject, State};
use crate::session_generate::{
    GRAFT_FINISH_CANCELLED, finish_of, graft_generate_request, graft_generate_result, milliseconds,
};
use crate::status::{GRAFT_E_BUDGET, graft_status};
use crate::structs::{CStruct, c_struct, number};
use crate::token::graft_token;

/// Sessions of a batch that does not say how many.
const USUAL_SESSIONS: usize = 8;

/// A batch, for one call at a time.
pub struct BatchObject(Exclusive<Room>);

exclusive_kind!(BatchObject, "batch", graft_batch_release);

/// What a call on a batch has in hand.
struct Room {
    batch: Batch,
    /// What it runs on, and through it the runtime.
    model: Arc<ModelObject>,
    _bytes: Reservation,
}

c_struct! {
    /// How to make a batch.
    graft_batch_options {
        /// Most sessions at once; 0 for 8.
        n_sessions: u32,
        /// Most positions of any of them; 0 for the model's own number, at most 4096.
        n_context: u32,
        /// Positions of all sessions that run at once; 0 for 512.
        n_chunk: u32,
        /// Flags, of which there are none yet.
        flags: u32,
        /// Zero.
        reserved_0: u32,
        /// Most bytes it may plan for; 0 for no limit but the runtime's.
        memory_budget: u64,
    }
}

c_struct! {
    /// What a session of a batch is fed.
    graft_batch_input {
        /// Zero.
        reserved_0: u32,
        /// The session.
        session: Handle<SessionObject>,
        /// Tokens, with places for images.
        tokens: In<graft_token>,
        /// How many.
        n_tokens: usize,
        /// An image for each place.
        images: In<Handle<ImageObject>>,
        /// How many.
        n_images: usize,
    }
}

c_struct! {
    /// What a session of a batch is asked.
    graft_batch_request {
        /// Zero.
        reserved_0: u32,
        /// The session.
        session: Handle<SessionObject>,
        /// What to answer, and how; NULL goes on with what it holds.
        request: In<graft_generate_request>,
        /// What the answer came to; NULL for nobody to know.
        result: OutStruct<graft_generate_result>,
    }
}

/// Sessions in the hands of one call.
struct Taken<'a>(Vec<MutexGuard<'a, State>>);

impl<'a> Taken<'a> {
    /// Takes them all, or none.
    fn all(sessions: &'a [Arc<SessionObject>]) -> Result<Self, Fault> {
        for (n, session) in sessions.iter().enumerate() {
            if sessions[..n]
                .iter()
                .any(|other| Arc::ptr_eq(session, other))
            {
                let message = format!("session {n} is given twice; a batch runs each once");
                return Err(Fault::argument(message));
            }
        }
        let taken = sessions.iter().map(|session| session.enter());
        taken.collect::<Result<_, _>>().map(Self)
    }

    /// Those of the engine.
    fn engine(&mut self) -> Vec<&mut graft::session::Session> {
        let states = self.0.iter_mut();
        states.map(|state| &mut state.session).collect()
    }
}

impl graft_batch_input {
    fn given(&self, model: &ModelObject) -> Result<Given, Fault> {
        let images = self.images.objects(self.n_images, "images")?;
        let images = image::items(&images, model.model())?;
        let ids = self.tokens.slice(self.n_tokens, "tokens")?;
        Ok(Given::Append(items_of(ids, &images)?))
    }
}

impl graft_batch_request {
    /// The request, checked for what only a session alone can do.
    fn request(&self) -> Result<graft_generate_request, Fault> {
        let request = self.request.read()?;
        if request.on_progress.is_some() {
            let message = "the prompts of a batch run together: on_progress is NULL";
            return Err(Fault::argument(message));
        }
        if !self.result.is_null() {
            self.result.check("result")?;
        }
        Ok(request)
    }
}

/// Answers all that is asked, and says of each what it came to, also if it was stopped.
fn answer(room: &mut Room, asked: &[graft_batch_request], cancel: &Cancel) -> Result<(), Fault> {
    let requests = asked.iter().map(graft_batch_request::request);
    let requests = requests.collect::<Result<Vec<_>, _>>()?;
    let sessions = asked.iter().map(|asked| asked.session.get());
    let sessions = sessions.collect::<Result<Vec<_>, _>>()?;
    let mut taken = Taken::all(&sessions)?;
    let (mut given, mut options) = (Vec::new(), Vec::new());
    for (request, state) in requests.iter().zip(&taken.0) {
        let (prompt, how) = request.asked(state, request.cancel.flag()?)?.for_a_batch();
        given.push(prompt);
        options.push(how);
    }
    let mut sinks: Vec<_> = requests
        .iter()
        .map(|request| TextSink::new(request.on_text, request.userdata))
        .collect();
    let mut results: Vec<_> = requests
        .iter()
        .map(|_| graft_generate_result::zeroed())
        .collect();
    let ended = run(
        room,
        &mut taken,
        (given, &options),
        cancel,
        &mut sinks,
        &mut results,
    );
    for (asked, result) in asked.iter().zip(&results) {
        if result.finish != 0 {
            asked.result.set(result)?;
        }
    }
    ended
}

fn run(
    room: &mut Room,
    taken: &mut Taken<'_>,
    (given, options): (Vec<Given>, &[GenerateOptions]),
    cancel: &Cancel,
    sinks: &mut [TextSink],
    results: &mut [graft_generate_result],
) -> Result<(), Fault> {
    let begun = Instant::now();
    let reused = room.batch.give(&mut taken.engine(), given, cancel);
    for (result, state) in results.iter_mut().zip(&taken.0) {
        result.prompt_ms = milliseconds(begun);
        result.n_prompt = number(state.session.position());
        if matches!(reused, Err(graft::Error::Cancelled)) {
            result.finish = GRAFT_FINISH_CANCELLED;
        }
    }
    for (result, reused) in results.iter_mut().zip(reused?) {
        result.n_reused = number(reused);
    }
    let begun = Instant::now();
    let mut stopped = vec![false; sinks.len()];
    let told = |n: usize, text: &str| -> ControlFlow<()> {
        let flow = sinks[n].give(text);
        stopped[n] |= flow.is_break();
        flow
    };
    let answers = room
        .batch
        .generate_unless(&mut taken.engine(), options, cancel, told)?;
    for (n, (result, answer)) in results.iter_mut().zip(&answers).enumerate() {
        result.generate_ms = milliseconds(begun);
        result.n_generated = number(answer.tokens.len());
        result.finish = finish_of(answer.finish, stopped[n]);
    }
    let is_over = |answer: &Generated| answer.finish == Finish::Cancelled;
    match cancel.is_raised() && answers.iter().any(is_over) {
        true => Err(graft::Error::Cancelled.into()),
        false => Ok(()),
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_batch_create(
    model: Handle<ModelObject>,
    options: In<graft_batch_options>,
    out: Out<Handle<BatchObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_batch_create", err, || {
        let (model, given) = (model.get()?, options.read()?);
        out.check("out")?;
        if given.flags != 0 {
            let message = format!("flags is {:#x}; a batch knows none", given.flags);
            return Err(Fault::argument(message));
        }
        let options = BatchOptions {
            sessions: match given.n_sessions {
                0 => USUAL_SESSIONS,
                most => most as usize,
            },
            context_length: given.n_context as usize,
            chunk: given.n_chunk as usize,
        };
        let needed = Batch::bytes(model.model().llama().shape(), &options) as u64;
        if given.memory_budget > 0 && needed > given.memory_budget {
            let message = format!(
                "the batch needs {needed} bytes and may have {}; make it for fewer sessions, a shorter context or chunk",
                given.memory_budget
            );
            return Err(Fault::new(GRAFT_E_BUDGET, message).with("needed", needed));
        }
        let bytes = model.runtime().budget().reserve(needed)?;
        let room = Room {
            batch: Batch::new(Arc::clone(model.model()), &options)?,
            model,
            _bytes: bytes,
        };
        out.give(BatchObject(Exclusive::new(room)))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_batch_feed(
    batch: Handle<BatchObject>,
    inputs: In<graft_batch_input>,
    n_inputs: usize,
    cancel: CancelToken,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_batch_feed", err, || {
        let (batch, cancel) = (batch.get()?, cancel.flag()?);
        let inputs = inputs.structs(n_inputs, "inputs")?;
        let room = &mut *batch.0.enter("batch")?;
        let sessions = inputs.iter().map(|input| input.session.get());
        let sessions = sessions.collect::<Result<Vec<_>, _>>()?;
        let given = inputs.iter().map(|input| input.given(&room.model));
        let given = given.collect::<Result<Vec<_>, _>>()?;
        let mut taken = Taken::all(&sessions)?;
        room.batch.give(&mut taken.engine(), given, &cancel)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_batch_logits(
    batch: Handle<BatchObject>,
    sessions: In<Handle<SessionObject>>,
    n_sessions: usize,
    cancel: CancelToken,
    logits: Out<*const f32>,
    n_logits: Out<usize>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_batch_logits", err, || {
        let (batch, cancel) = (batch.get()?, cancel.flag()?);
        logits.check("logits")?;
        let sessions = sessions.objects(n_sessions, "sessions")?;
        let room = &mut *batch.0.enter("batch")?;
        let mut taken = Taken::all(&sessions)?;
        let found = room.batch.logits_unless(&mut taken.engine(), &cancel)?;
        logits.set(found.as_ptr());
        n_logits.set(found.len() / n_sessions.max(1));
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_batch_generate(
    batch: Handle<BatchObject>,
    requests: In<graft_batch_request>,
    n_requests: usize,
    cancel: CancelToken,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_batch_generate", err, || {
        let (batch, cancel) = (batch.get()?, cancel.flag()?);
        let requests = requests.structs(n_requests, "requests")?;
        answer(&mut *batch.0.enter("batch")?, &requests, &cancel)?;
        DONE
    })
}
