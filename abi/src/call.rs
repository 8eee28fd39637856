//! The one way in: every exported function runs its body here, so that no panic leaves the library and every
//! failure becomes a status and an error object.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::status::{self, graft_status};

/// What the body of an exported function comes to.
pub type Outcome = Result<graft_status, Fault>;

/// Success, for the end of a body.
pub const DONE: Outcome = Ok(status::GRAFT_OK);

/// Runs the body of the exported `function`. A failure's object goes to `err` unless the caller wants none.
pub fn call(function: &'static str, err: ErrorOut, body: impl FnOnce() -> Outcome) -> graft_status {
    match caught(function, body) {
        Ok(Ok(status)) => status,
        Ok(Err(fault)) | Err(fault) => err.give(fault),
    }
}

/// The same for functions without an error object.
pub fn status(function: &'static str, body: impl FnOnce() -> Outcome) -> graft_status {
    match caught(function, body) {
        Ok(Ok(status)) => status,
        Ok(Err(fault)) | Err(fault) => {
            tracing::debug!("{function}: {}", fault.message());
            fault.status()
        }
    }
}

/// The same for functions that return a value: `otherwise` if they cannot.
pub fn value<T>(
    function: &'static str,
    otherwise: T,
    body: impl FnOnce() -> Result<T, Fault>,
) -> T {
    match caught(function, body) {
        Ok(Ok(value)) => value,
        Ok(Err(fault)) | Err(fault) => {
            tracing::debug!("{function}: {}", fault.message());
            otherwise
        }
    }
}

/// The same for work in the background, whose failure waits to be asked for.
pub fn background(function: &'static str, body: impl FnOnce() -> Outcome) -> Outcome {
    caught(function, body).unwrap_or_else(Err)
}

thread_local! {
    /// How many calls this thread is in, one inside the other.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

fn caught<T>(function: &'static str, body: impl FnOnce() -> T) -> Result<T, Fault> {
    quiet_panics();
    DEPTH.set(DEPTH.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        fail_if_armed(function);
        body()
    }));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| {
        let reason = reason(&*payload);
        // What was thrown may itself panic when it goes.
        let _ = panic::catch_unwind(AssertUnwindSafe(move || drop(payload)));
        Fault::internal(format!(
            "{function} has met a bug of graft: {reason}; what it worked on is unusable now, please report this"
        ))
    })
}

fn reason(payload: &(dyn Any + Send)) -> String {
    match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        _ => "it says nothing".to_owned(),
    }
}

/// Sees to it that a panic inside the library goes to the log and not to the host's stderr. Panics of the host's
/// own Rust code keep the hook they had.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let ours = thread
                .name()
                .is_some_and(|name| name.starts_with("graft-") || name.starts_with("plugin "));
            match ours || DEPTH.get() > 0 {
                true => tracing::error!("{info}"),
                false => others(info),
            }
        }));
    });
}

#[cfg(feature = "failpoints")]
fn fail_if_armed(function: &str) {
    if std::env::var("GRAFT_FAILPOINT").is_ok_and(|armed| armed == function) {
        panic!("the failpoint of {function}");
    }
}

#[cfg(not(feature = "failpoints"))]
fn fail_if_armed(_: &str) {}
