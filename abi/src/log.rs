//! The engine's messages, on their way to the programs that want them.

use std::ffi::{CString, c_char};
use std::fmt::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::callback::{Destroy, UserData};
use crate::error::c_text;
use crate::fault::Fault;

/// How much is told.
#[allow(non_camel_case_types)]
pub type graft_log_level = u32;

/// Gets a message; may be called from any thread, and from several at once.
#[allow(non_camel_case_types)]
pub type graft_log_fn = Option<
    unsafe extern "C" fn(
        userdata: UserData,
        level: graft_log_level,
        target: *const c_char,
        message: *const c_char,
        message_len: usize,
    ),
>;

/// Nothing.
pub const GRAFT_LOG_OFF: graft_log_level = 0;
/// Errors.
pub const GRAFT_LOG_ERROR: graft_log_level = 1;
/// Warnings too.
pub const GRAFT_LOG_WARN: graft_log_level = 2;
/// What happens.
pub const GRAFT_LOG_INFO: graft_log_level = 3;
/// Details.
pub const GRAFT_LOG_DEBUG: graft_log_level = 4;
/// Everything.
pub const GRAFT_LOG_TRACE: graft_log_level = 5;

/// A level that a program asks for.
///
/// # Errors
/// If it is none.
pub fn check(level: graft_log_level) -> Result<graft_log_level, Fault> {
    match level {
        GRAFT_LOG_OFF..=GRAFT_LOG_TRACE => Ok(level),
        _ => Err(Fault::argument(format!(
            "log level {level}: levels are 0 (GRAFT_LOG_OFF) to {GRAFT_LOG_TRACE} (GRAFT_LOG_TRACE)"
        ))),
    }
}

/// A program's function, and how much it wants.
#[derive(Debug)]
pub struct Listener {
    level: graft_log_level,
    function: graft_log_fn,
    userdata: UserData,
    /// Ends the program's end of it with this value.
    _destroy: Destroy,
}

static LISTENERS: RwLock<Vec<Arc<Listener>>> = RwLock::new(Vec::new());

/// A listener that is told as long as this value lives.
#[derive(Debug)]
pub struct Listening(Arc<Listener>);

impl Listener {
    /// Tells `function` everything up to `level`.
    pub fn new(
        level: graft_log_level,
        function: graft_log_fn,
        userdata: UserData,
        destroy: Destroy,
    ) -> Self {
        Self {
            level,
            function,
            userdata,
            _destroy: destroy,
        }
    }

    /// Begins to listen.
    pub fn listen(self) -> Listening {
        // A host in Rust may have a subscriber of its own; then that one hears it all.
        let _ = tracing::subscriber::set_global_default(ToListeners);
        let listener = Arc::new(self);
        let mut listeners = LISTENERS.write().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::clone(&listener));
        Listening(listener)
    }

    fn tell(&self, level: graft_log_level, target: &CString, message: &CString) {
        let Some(function) = self.function.filter(|_| level <= self.level) else {
            return;
        };
        let (length, text) = (message.as_bytes().len(), message.as_ptr());
        // SAFETY: the program gave this function for this pointer and any thread; both texts outlive the call.
        unsafe { function(self.userdata, level, target.as_ptr(), text, length) };
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listeners = LISTENERS.write().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

/// Hands every message to those who listen.
struct ToListeners;

fn number(level: &Level) -> graft_log_level {
    match *level {
        Level::ERROR => GRAFT_LOG_ERROR,
        Level::WARN => GRAFT_LOG_WARN,
        Level::INFO => GRAFT_LOG_INFO,
        Level::DEBUG => GRAFT_LOG_DEBUG,
        Level::TRACE => GRAFT_LOG_TRACE,
    }
}

fn listeners() -> Vec<Arc<Listener>> {
    LISTENERS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

impl Subscriber for ToListeners {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Listeners come and go.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = number(metadata.level());
        metadata.is_event() && listeners().iter().any(|l| level <= l.level)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Message(String::new());
        event.record(&mut text);
        let target = c_text(event.metadata().target());
        let message = c_text(&text.0);
        // Without the lock: a listener may make or end one.
        for listener in listeners() {
            listener.tell(number(event.metadata().level()), &target, &message);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A message and its fields as one line.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let gap = if self.0.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{gap}{value:?}"),
            name => write!(self.0, "{gap}{name}={value:?}"),
        };
    }
}
