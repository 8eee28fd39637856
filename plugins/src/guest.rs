//! A plugin at work, and how it talks with its caller.
//!
//! The engine runs a plugin on a stack of its own, on the thread of its caller, and leaves it whenever the plugin
//! asks for something or has used up a slice of its fuel. So a plugin that recurses to its limit cannot reach the
//! end of a small stack of ours; what the caller lends (a source, a sink) is used on the caller's thread and need
//! not outlive the call; and a plugin which never asks for anything is stopped between two slices.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use graft::cancel::Cancel;

use crate::caller::Caller;
use crate::error::Exceeded;
use crate::imports::Stop;

/// Fuel between two looks at the clock: some milliseconds.
pub const SLICE: u64 = 5_000_000;

/// Bytes of stack for host functions below the plugin's own.
pub const HOST_STACK_BYTES: usize = 1 << 20;

/// Something that only the caller can do.
type Errand = Box<dyn FnOnce(&mut dyn Caller) + Send>;

/// The plugin's end: asks things of the caller.
#[derive(Clone, Default)]
pub struct CallerLine(Arc<Mutex<Option<Errand>>>);

impl CallerLine {
    /// Has the caller do `errand`, and waits for its result.
    pub async fn ask<T: Send + 'static>(
        &self,
        errand: impl FnOnce(&mut dyn Caller) -> T + Send + 'static,
    ) -> T {
        let reply = Arc::new(Mutex::new(None));
        let slot = reply.clone();
        let errand: Errand = Box::new(move |caller| *open(&slot) = Some(errand(caller)));
        *open(&self.0) = Some(errand);
        let answered = |_: &mut Context<'_>| match open(&reply).take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        };
        std::future::poll_fn(answered).await
    }

    /// The caller's end: runs the plugin's `work` to its end, and its errands with `caller`; ends it when `clock`
    /// says so.
    pub fn serve<R>(
        &self,
        caller: &mut dyn Caller,
        clock: &Clock,
        work: impl Future<Output = wasmtime::Result<R>>,
    ) -> wasmtime::Result<R> {
        let mut work = pin!(work);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(result) = work.as_mut().poll(&mut context) {
                return result;
            }
            let errand = open(&self.0).take();
            match errand {
                Some(errand) => errand(caller),
                None => clock.check()?,
            }
        }
    }
}

/// When a plugin has to end.
pub struct Clock {
    cancel: Cancel,
    /// Time of its own that it has for a call.
    allowed: Duration,
    end: Mutex<Instant>,
}

impl Clock {
    /// The clock of a plugin that its caller ends with `cancel`; it starts now.
    pub fn new(allowed: Duration, cancel: Cancel) -> Self {
        Self {
            cancel,
            allowed,
            end: Mutex::new(Instant::now() + allowed),
        }
    }

    /// Starts it for another call.
    pub fn start(&self) {
        *open(&self.end) = Instant::now() + self.allowed;
    }

    /// Does not count `wait`.
    pub fn forgive(&self, wait: Duration) {
        *open(&self.end) += wait;
    }

    /// Whether the caller wants an end.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_raised()
    }

    /// Whether the plugin has to end now.
    pub fn check(&self) -> Result<(), Stop> {
        if self.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        if Instant::now() > *open(&self.end) {
            return Err(Exceeded::Deadline(self.allowed).into());
        }
        Ok(())
    }
}

/// What is behind a lock that nobody holds for long.
fn open<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
