//! Sessions: one timeline of tokens and images each, with the adapters at work on it.

use std::sync::{Arc, MutexGuard};

use graft::adapter::Attached;
use graft::memory::{PROGRAM_BYTES, Reservation};
use graft::model::Model;
use graft::session::{Item, Session, SessionOptions, Watch};

use crate::adapter::{AdapterObject, bindings, graft_adapter_binding};
use crate::call::{self, DONE};
use crate::cancel::CancelToken;
use crate::error::ErrorOut;
use crate::exclusive::Exclusive;
use crate::fault::Fault;
use crate::handle::{Handle, exclusive_kind};
use crate::image::ImageObject;
use crate::job::JobObject;
use crate::model::ModelObject;
use crate::pointer::{In, Lent, Out, OutStruct};
use crate::session_generate::{self, graft_generate_request, graft_generate_result};
use crate::status::{GRAFT_E_BUDGET, graft_status};
use crate::structs::{CStruct, c_struct, number};
use crate::token::{graft_token, taken};

/// Keys and values of the past stay as the old set has made them.
pub const GRAFT_SWAP_KEEP_HISTORY: u32 = 1;
/// An image, among tokens.
pub const GRAFT_TOKEN_IMAGE: graft_token = -200;
const _: () = assert!(GRAFT_TOKEN_IMAGE == graft::tokenizer::IMAGE);
/// Something else that was fed.
const OTHER: graft_token = crate::token::GRAFT_TOKEN_NONE;

/// A session, for one call at a time.
pub struct SessionObject(Exclusive<State>);

exclusive_kind!(SessionObject, "session", graft_session_release);

/// What a call on a session has in hand.
pub struct State {
    /// The timeline.
    pub session: Session,
    /// The model, and through it the runtime.
    pub model: Arc<ModelObject>,
    adapters: Vec<(Arc<AdapterObject>, f32)>,
    bytes: Reservation,
}

c_struct! {
    /// How to open a session.
    graft_session_options {
        /// Most positions; 0 for the model's own number, at most 4096.
        n_context: u32,
        /// Positions of a prompt that run at once; 0 for 512.
        n_chunk: u32,
        /// Flags, of which there are none yet.
        flags: u32,
        /// Most bytes it may plan for; 0 for no limit but the runtime's.
        memory_budget: u64,
    }
}

c_struct! {
    /// What a session holds.
    graft_session_info {
        /// Positions in use.
        n_positions: u32,
        /// Most positions.
        n_context: u32,
        /// Tokens and images that were fed.
        n_items: u32,
        /// Bytes it has planned for.
        planned: u64,
    }
}

impl State {
    /// Takes the memory that is planned for, then opens the session.
    fn begin(
        model: Arc<ModelObject>,
        options: &In<graft_session_options>,
        open: impl FnOnce(&SessionOptions) -> Result<Session, Fault>,
    ) -> Result<Self, Fault> {
        let given = options.read()?;
        if given.flags != 0 {
            let message = format!("flags is {:#x}; a session knows none", given.flags);
            return Err(Fault::argument(message));
        }
        let options = SessionOptions {
            context_length: given.n_context as usize,
            chunk: given.n_chunk as usize,
        };
        let needed = planned(model.model(), &options);
        if given.memory_budget > 0 && needed > given.memory_budget {
            let message = format!(
                "the session needs {needed} bytes and may have {}; give it a shorter context or chunk",
                given.memory_budget
            );
            return Err(Fault::new(GRAFT_E_BUDGET, message).with("needed", needed));
        }
        let bytes = model.runtime().budget().reserve(needed)?;
        Ok(Self {
            session: open(&options)?,
            adapters: Vec::new(),
            model,
            bytes,
        })
    }
}

impl SessionObject {
    /// The session, for a call.
    ///
    /// # Errors
    /// If another call uses it.
    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> Result<T, Fault>) -> Result<T, Fault> {
        work(&mut *self.enter()?)
    }

    /// The same for a call that has several in hand.
    ///
    /// # Errors
    /// If another call uses it.
    pub fn enter(&self) -> Result<MutexGuard<'_, State>, Fault> {
        self.0.enter("session")
    }
}

/// Bytes of a session's own: the weights are the model's, and the program is there already.
fn planned(model: &Model, options: &SessionOptions) -> u64 {
    let plan = Session::plan(model, options);
    plan.anonymous_peak().saturating_sub(PROGRAM_BYTES as u64)
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_create(
    model: Handle<ModelObject>,
    options: In<graft_session_options>,
    out: Out<Handle<SessionObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_create", err, || {
        let model = model.get()?;
        out.check("out")?;
        let engine = Arc::clone(model.model());
        let open = |options: &SessionOptions| Ok(Session::new(engine, options)?);
        let state = State::begin(model, &options, open)?;
        out.give(SessionObject(Exclusive::new(state)))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_fork(
    session: Handle<SessionObject>,
    options: In<graft_session_options>,
    out: Out<Handle<SessionObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_fork", err, || {
        let session = session.get()?;
        out.check("out")?;
        let fork = session.with(|first| {
            let model = Arc::clone(&first.model);
            let open = |options: &SessionOptions| Ok(first.session.fork(options)?);
            let fork = State::begin(model, &options, open)?;
            let adapters = first.adapters.clone();
            Ok(State { adapters, ..fork })
        })?;
        out.give(SessionObject(Exclusive::new(fork)))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_get_info(
    session: Handle<SessionObject>,
    out: OutStruct<graft_session_info>,
) -> graft_status {
    call::status("graft_session_get_info", || {
        let session = session.get()?;
        out.check("out")?;
        session.with(|state| {
            out.set(&graft_session_info {
                n_positions: number(state.session.position()),
                n_context: number(state.session.capacity()),
                n_items: number(state.session.history().len()),
                planned: state.bytes.bytes(),
                ..graft_session_info::zeroed()
            })
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_tokens(
    session: Handle<SessionObject>,
    tokens: Out<graft_token>,
    capacity: usize,
    needed: Out<usize>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_tokens", err, || {
        session.get()?.with(|state| {
            let items = state.session.history().iter().map(|item| match item {
                Item::Token(id) => id.cast_signed(),
                Item::Image(_) => GRAFT_TOKEN_IMAGE,
                Item::Rows(_) => OTHER,
            });
            tokens.fill(capacity, &needed, &items.collect::<Vec<_>>())
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_reset(
    session: Handle<SessionObject>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_reset", err, || {
        session.get()?.with(|state| {
            state.session.reset();
            Ok(())
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_truncate(
    session: Handle<SessionObject>,
    n_positions: u32,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_truncate", err, || {
        session.get()?.with(|state| {
            state.session.truncate(n_positions as usize);
            Ok(())
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_feed(
    session: Handle<SessionObject>,
    tokens: In<graft_token>,
    n_tokens: usize,
    cancel: CancelToken,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_feed", err, || {
        let (session, cancel) = (session.get()?, cancel.flag()?);
        let ids = taken(tokens.slice(n_tokens, "tokens")?)?;
        let items = ids.into_iter().map(Item::Token).collect();
        session.with(|state| Ok(state.session.feed_watched(items, &mut Watch::of(&cancel))?))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_feed_image(
    session: Handle<SessionObject>,
    image: Handle<ImageObject>,
    cancel: CancelToken,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_feed_image", err, || {
        let (session, image, cancel) = (session.get()?, image.get()?, cancel.flag()?);
        session.with(|state| {
            let items = vec![image.item(state.model.model())?];
            Ok(state.session.feed_watched(items, &mut Watch::of(&cancel))?)
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_logits(
    session: Handle<SessionObject>,
    cancel: CancelToken,
    logits: Out<*const f32>,
    n_logits: Out<usize>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_logits", err, || {
        let (session, cancel) = (session.get()?, cancel.flag()?);
        logits.check("logits")?;
        session.with(|state| {
            let found = state.session.logits_unless(&cancel)?;
            logits.set(found.as_ptr());
            n_logits.set(found.len());
            Ok(())
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_logprobs(
    session: Handle<SessionObject>,
    tokens: In<graft_token>,
    n_tokens: usize,
    cancel: CancelToken,
    out: Out<f32>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_logprobs", err, || {
        let (session, cancel) = (session.get()?, cancel.flag()?);
        let ids = taken(tokens.slice(n_tokens, "tokens")?)?;
        if n_tokens > 0 {
            out.check("out")?;
        }
        let scored =
            |state: &mut State| Ok(state.session.feed_scored(&ids, &mut Watch::of(&cancel))?);
        let scores = session.with(scored)?;
        out.set_all(&scores);
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_set_adapters(
    session: Handle<SessionObject>,
    adapters: In<graft_adapter_binding>,
    n_adapters: usize,
    flags: u32,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_set_adapters", err, || {
        let session = session.get()?;
        if flags & !GRAFT_SWAP_KEEP_HISTORY != 0 {
            let message = format!("flags is {flags:#x}; GRAFT_SWAP_KEEP_HISTORY is known");
            return Err(Fault::argument(message));
        }
        let adapters = bindings(&adapters, n_adapters)?;
        let engine = adapters
            .iter()
            .map(|(adapter, strength)| (adapter.shared(), *strength));
        let attached = Attached::new(engine);
        session.with(|state| {
            match flags & GRAFT_SWAP_KEEP_HISTORY {
                0 => state.session.set_adapters(attached)?,
                _ => state.session.set_adapters_keeping_history(attached)?,
            }
            state.adapters = adapters;
            Ok(())
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_adapters(
    session: Handle<SessionObject>,
    adapters: OutStruct<graft_adapter_binding>,
    capacity: usize,
    needed: Out<usize>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_adapters", err, || {
        session.get()?.with(|state| {
            let bindings = state.adapters.iter().map(|(adapter, strength)| {
                Ok(graft_adapter_binding {
                    strength: *strength,
                    adapter: Handle::share(Arc::clone(adapter))?,
                    ..graft_adapter_binding::zeroed()
                })
            });
            adapters.fill(capacity, &needed, "adapter", bindings)
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_generate_start(
    session: Handle<SessionObject>,
    request: In<graft_generate_request>,
    out: Out<Handle<JobObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_generate_start", err, || {
        let session = session.get()?;
        out.check("out")?;
        let request = request.read()?;
        if request.calls_back() {
            let message = "a job calls nobody back and has a token of its own: on_text, on_progress and cancel are NULL";
            return Err(Fault::argument(message));
        }
        out.give(session_generate::start(session, Lent::during(request))?)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_session_generate(
    session: Handle<SessionObject>,
    request: In<graft_generate_request>,
    out: OutStruct<graft_generate_result>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_session_generate", err, || {
        let session = session.get()?;
        if !out.is_null() {
            out.check("out")?;
        }
        let request = request.read()?;
        session.with(|state| session_generate::run(state, &request, &out))?;
        DONE
    })
}
