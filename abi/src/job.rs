//! Jobs: calls that run in the background and tell what happens through a queue.
//!
//! A job never calls the program. What it has to say waits in a queue until the program asks, and where the system has
//! pipes, a descriptor is readable as long as something waits.

use std::collections::VecDeque;
use std::ffi::{CString, c_char};
use std::path::Path;
use std::ptr;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use graft::cancel::Cancel;

use crate::call::{self, DONE, Outcome};
use crate::error::{ErrorOut, c_text};
use crate::exclusive::Exclusive;
use crate::fault::Fault;
use crate::handle::{Handle, Kind};
use crate::metrics::graft_train_metrics;
use crate::pointer::{Out, OutStruct};
use crate::session_generate::graft_generate_result;
use crate::signal::Signal;
use crate::status::{GRAFT_DONE, GRAFT_E_MEMORY, GRAFT_OK, GRAFT_PENDING, graft_status};
use crate::structs::{CStruct, c_struct};

/// A timeout that never comes.
pub const GRAFT_FOREVER: u64 = u64::MAX;

/// How far the job is: `done` of `total`.
pub const GRAFT_EVENT_PROGRESS: u32 = 1;
/// A trainer's metrics, after an update and when it begins or ceases to wait for room on the disk.
pub const GRAFT_EVENT_METRICS: u32 = 2;
/// A checkpoint was saved: `text` is its path.
pub const GRAFT_EVENT_CHECKPOINT: u32 = 3;
/// More of an answer.
pub const GRAFT_EVENT_TEXT: u32 = 5;
/// What an answer came to.
pub const GRAFT_EVENT_ANSWERED: u32 = 6;
/// The job is over: `status` is what it came to.
pub const GRAFT_EVENT_FINISHED: u32 = 4;

/// Events that a later one of their kind makes up for; of these so many wait at most, the latest.
const MOST_PASSING: usize = 1024;

/// A call in the background.
pub struct JobObject {
    shared: Arc<Shared>,
    cancel: Cancel,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What the program was given last; its text lives as long.
    current: Exclusive<Option<Event>>,
}

impl Kind for JobObject {
    const NAME: &'static str = "job";
}

c_struct! {
    /// Something that happened in a job.
    graft_event {
        /// [`GRAFT_EVENT_PROGRESS`] and its like.
        kind: u32,
        /// How far it is.
        done: u64,
        /// Of how much; 0 if that is not known.
        total: u64,
        /// A text, or NULL.
        text: *const c_char,
        /// Its bytes.
        text_len: usize,
        /// Of a trainer, or NULL.
        metrics: *const graft_train_metrics,
        /// Of an answer, or NULL.
        result: *const graft_generate_result,
        /// What the job came to.
        status: graft_status,
        /// Zero.
        reserved_0: u32,
    }
}

/// Something that happened.
pub enum Event {
    /// How far it is.
    Progress { done: u64, total: u64 },
    /// Where training stands.
    Metrics(Box<graft_train_metrics>),
    /// A checkpoint's path.
    Checkpoint(CString),
    /// More of an answer.
    Text(CString),
    /// What an answer came to.
    Answered(Box<graft_generate_result>),
    /// The end.
    Finished(graft_status),
}

impl Event {
    /// A checkpoint was saved.
    pub fn checkpoint(path: &Path) -> Self {
        Self::Checkpoint(c_text(&path.display().to_string()))
    }

    /// More of an answer.
    pub fn text(text: &str) -> Self {
        Self::Text(c_text(text))
    }

    fn passes(&self) -> bool {
        matches!(self, Self::Progress { .. } | Self::Metrics(_))
    }

    fn to_c(&self) -> graft_event {
        let mut event = graft_event {
            text: ptr::null(),
            metrics: ptr::null(),
            result: ptr::null(),
            ..graft_event::zeroed()
        };
        match self {
            Self::Progress { done, total } => {
                event.kind = GRAFT_EVENT_PROGRESS;
                (event.done, event.total) = (*done, *total);
            }
            Self::Metrics(metrics) => {
                event.kind = GRAFT_EVENT_METRICS;
                (event.done, event.total) = (metrics.step, metrics.steps);
                event.metrics = &raw const **metrics;
            }
            Self::Checkpoint(path) => {
                event.kind = GRAFT_EVENT_CHECKPOINT;
                (event.text, event.text_len) = (path.as_ptr(), path.as_bytes().len());
            }
            Self::Text(text) => {
                event.kind = GRAFT_EVENT_TEXT;
                (event.text, event.text_len) = (text.as_ptr(), text.as_bytes().len());
            }
            Self::Answered(result) => {
                event.kind = GRAFT_EVENT_ANSWERED;
                event.result = &raw const **result;
            }
            Self::Finished(status) => {
                event.kind = GRAFT_EVENT_FINISHED;
                event.status = *status;
            }
        }
        event
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    passing: usize,
    outcome: Option<Outcome>,
    signal: Option<Signal>,
}

impl State {
    fn push(&mut self, event: Event) {
        if event.passes() {
            if self.passing == MOST_PASSING
                && let Some(oldest) = self.events.iter().position(Event::passes)
            {
                self.events.remove(oldest);
                self.passing -= 1;
            }
            self.passing += 1;
        }
        self.events.push_back(event);
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.passing -= usize::from(event.passes());
        Some(event)
    }

    /// Makes the descriptor readable if something waits, and only then.
    fn tell(&mut self) {
        let waits = !self.events.is_empty() || self.outcome.is_some();
        if let Some(signal) = &mut self.signal {
            signal.set(waits);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.tell();
        drop(state);
        self.changed.notify_all();
    }

    /// What `ready` finds, or `None` if it found nothing within `timeout_ms`.
    fn wait<T>(&self, timeout_ms: u64, ready: impl Fn(&mut State) -> Option<T>) -> Option<T> {
        let end = match timeout_ms {
            GRAFT_FOREVER => None,
            ms => Instant::now().checked_add(Duration::from_millis(ms)),
        };
        let mut state = self.lock();
        loop {
            if let Some(found) = ready(&mut state) {
                state.tell();
                return Some(found);
            }
            state = match end {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.checked_duration_since(Instant::now())?;
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// What a job's work is given.
pub struct Worker {
    shared: Arc<Shared>,
    cancel: Cancel,
    begun: SyncSender<()>,
}

impl Worker {
    /// Says that the work has all it needs: the call that started the job returns now.
    pub fn begun(&self) {
        // Nobody waits any more if it was said before.
        let _ = self.begun.try_send(());
    }

    /// Raised when the job is to end.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Says what happened.
    pub fn tell(&self, event: Event) {
        self.shared.change(|state| state.push(event));
    }

    fn finish(&self, outcome: Outcome) {
        let status = match &outcome {
            Ok(status) => *status,
            Err(fault) => fault.status(),
        };
        self.shared.change(|state| {
            state.push(Event::Finished(status));
            state.outcome = Some(outcome);
        });
    }
}

impl JobObject {
    /// Runs `work`, a part of the exported `function`, in the background, and returns once it has begun.
    ///
    /// # Errors
    /// If there are no threads, or the work ended before it had begun: then with its failure.
    pub fn start(
        function: &'static str,
        work: impl FnOnce(&Worker) -> Outcome + Send + 'static,
    ) -> Result<Self, Fault> {
        let (begun, begins) = mpsc::sync_channel(1);
        let (shared, cancel) = (Arc::new(Shared::default()), Cancel::new());
        let worker = Worker {
            shared: Arc::clone(&shared),
            cancel: cancel.clone(),
            begun,
        };
        let thread = thread::Builder::new()
            .name("graft-job".into())
            .spawn(move || {
                let outcome = call::background(function, || work(&worker));
                worker.finish(outcome);
            })
            .map_err(|e| {
                let message = format!("cannot start a thread for the job: {e}");
                Fault::new(GRAFT_E_MEMORY, message)
            })?;
        let job = Self {
            shared,
            cancel,
            thread: Mutex::new(Some(thread)),
            current: Exclusive::new(None),
        };
        if begins.recv().is_err()
            && let Some(Err(fault)) = job
                .shared
                .wait(GRAFT_FOREVER, |state| state.outcome.clone())
        {
            return Err(fault);
        }
        Ok(job)
    }
}

impl Drop for JobObject {
    fn drop(&mut self) {
        self.cancel.raise();
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // It catches its panics itself.
            let _ = thread.join();
        }
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_job_wait(
    job: Handle<JobObject>,
    timeout_ms: u64,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_job_wait", err, || {
        let job = job.get()?;
        let outcome = job.shared.wait(timeout_ms, |state| state.outcome.clone());
        outcome.unwrap_or(Ok(GRAFT_PENDING))
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_job_next_event(
    job: Handle<JobObject>,
    timeout_ms: u64,
    out: OutStruct<graft_event>,
) -> graft_status {
    call::status("graft_job_next_event", || {
        let job = job.get()?;
        out.check("out")?;
        let mut current = job.current.enter("job")?;
        let next = job.shared.wait(timeout_ms, |state| match state.pop() {
            None if state.outcome.is_some() => Some(None),
            event => event.map(Some),
        });
        match next {
            None => Ok(GRAFT_PENDING),
            Some(None) => Ok(GRAFT_DONE),
            Some(Some(event)) => {
                out.set(&current.insert(event).to_c())?;
                Ok(GRAFT_OK)
            }
        }
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_job_event_fd(
    job: Handle<JobObject>,
    out: Out<isize>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_job_event_fd", err, || {
        let job = job.get()?;
        out.check("out")?;
        let mut state = job.shared.lock();
        let signal = match state.signal.take() {
            Some(signal) => signal,
            None => Signal::new()?,
        };
        let fd = state.signal.insert(signal).fd();
        state.tell();
        out.set(fd);
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_job_cancel(job: Handle<JobObject>) {
    call::value("graft_job_cancel", (), || {
        job.get()?.cancel.raise();
        Ok(())
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_job_release(job: Handle<JobObject>) {
    call::value("graft_job_release", (), || {
        if !job.is_null() {
            // A call that waits for it keeps the object; the work ends now all the same.
            job.get()?.cancel.raise();
        }
        job.release()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(job: &JobObject) -> Option<Event> {
        job.shared.wait(GRAFT_FOREVER, |state| match state.pop() {
            None if state.outcome.is_some() => Some(None),
            event => event.map(Some),
        })?
    }

    #[test]
    fn events_come_in_order_and_the_oldest_of_too_many_passing_ones_go() {
        let job = JobObject::start("a test", |worker| {
            worker.begun();
            worker.tell(Event::checkpoint(Path::new("kept")));
            for done in 0..MOST_PASSING as u64 + 10 {
                worker.tell(Event::Progress { done, total: 0 });
            }
            Ok(GRAFT_OK)
        })
        .unwrap();
        let ended = job
            .shared
            .wait(GRAFT_FOREVER, |state| state.outcome.clone());
        assert!(matches!(ended, Some(Ok(GRAFT_OK))));
        assert!(matches!(next(&job), Some(Event::Checkpoint(_))));
        assert!(matches!(next(&job), Some(Event::Progress { done: 10, .. })));
        let mut last = 10;
        while let Some(event) = next(&job) {
            match event {
                Event::Progress { done, .. } => last = done,
                Event::Finished(status) => assert_eq!((status, last), (GRAFT_OK, 1033)),
                _ => panic!("an event that nobody told"),
            }
        }
    }

    #[test]
    fn work_that_never_began_fails_the_start_and_a_panic_is_a_failure() {
        let refused = JobObject::start("a test", |_| Err(Fault::argument("no")));
        assert!(refused.is_err_and(|fault| fault.message() == "no"));
        let broken = JobObject::start("a test", |worker| {
            worker.begun();
            std::panic::resume_unwind(Box::new("a bug"))
        });
        let broken = broken.unwrap();
        let ended = broken
            .shared
            .wait(GRAFT_FOREVER, |state| state.outcome.clone());
        let fault = ended.unwrap().unwrap_err();
        assert_eq!(fault.status(), crate::status::GRAFT_E_INTERNAL);
    }

    #[test]
    fn a_wait_ends_when_its_time_is_over_and_a_dropped_job_has_ended() {
        let job = JobObject::start("a test", |worker| {
            worker.begun();
            while !worker.cancel().is_raised() {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(GRAFT_OK)
        })
        .unwrap();
        assert!(job.shared.wait(5, |state| state.outcome.clone()).is_none());
        let shared = Arc::clone(&job.shared);
        drop(job);
        assert!(shared.lock().outcome.is_some());
    }
}
