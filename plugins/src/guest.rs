//! A plugin's own thread, and how it talks with the thread of its caller.
//!
//! Why a thread: its stack has a known size, so a plugin that recurses to its limit cannot reach
//! the end of a small stack of ours; and what the caller lends (a source, a sink) need not leave
//! the caller's thread. While the plugin works, the caller runs its errands and ticks the clock
//! that stops a plugin which never asks for anything.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use wasmtime::Engine;

use crate::caller::Caller;
use crate::error::PluginError;

/// How often a running plugin's deadline and cancel flag are looked at.
const TICK: Duration = Duration::from_millis(10);

/// How often a thread that waits for the other gives way before it goes to sleep: some tens of
/// microseconds. An answer mostly comes sooner, and waking a sleeper takes longer than most of
/// them do.
const TURNS: usize = 100;

/// Stack for host functions below the plugin's own.
const HOST_STACK_BYTES: usize = 1 << 20;

/// Something to do on the caller's thread.
type Errand = Box<dyn FnOnce(&mut dyn Caller) + Send>;

/// Something to do on the plugin's thread.
type Work<G> = Box<dyn FnOnce(&mut G) + Send>;

enum Message {
    Errand(Errand),
    Done,
}

/// The plugin's end: asks things of the caller.
pub struct CallerLine(Sender<Message>);

/// The caller's end: the plugin's thread with its state `G`.
pub struct GuestThread<G> {
    plugin: String,
    engine: Engine,
    work: Sender<Work<G>>,
    messages: Receiver<Message>,
}

impl CallerLine {
    /// Does `errand` on the caller's thread and waits for its result; `None` if the caller left.
    pub fn ask<T: Send + 'static>(
        &self,
        errand: impl FnOnce(&mut dyn Caller) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, result) = sync_channel(1);
        let errand: Errand = Box::new(move |caller| {
            // The plugin waits for it; if not, nobody needs it.
            let _ = reply.send(errand(caller));
        });
        self.0.send(Message::Errand(errand)).ok()?;
        soon(&result).or_else(|| result.recv().ok())
    }
}

impl<G: 'static> GuestThread<G> {
    /// Starts the thread of `plugin`; `state` makes its state there.
    pub fn start(
        plugin: &str,
        engine: &Engine,
        stack_bytes: usize,
        state: impl FnOnce(CallerLine) -> G + Send + 'static,
    ) -> Result<Self, PluginError> {
        let (work, todo) = channel::<Work<G>>();
        let (sender, messages) = channel();
        let run = move || {
            let done = sender.clone();
            let mut guest = state(CallerLine(sender));
            while let Some(work) = soon(&todo).or_else(|| todo.recv().ok()) {
                work(&mut guest);
                if done.send(Message::Done).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name(format!("plugin {plugin}"))
            .stack_size(stack_bytes + HOST_STACK_BYTES)
            .spawn(run)
            .map_err(|error| PluginError::Thread {
                plugin: plugin.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            plugin: plugin.to_owned(),
            engine: engine.clone(),
            work,
            messages,
        })
    }

    /// Does `work` on the plugin's thread, and its errands with `caller` on this one.
    pub fn call<R: Send + 'static>(
        &self,
        caller: &mut dyn Caller,
        work: impl FnOnce(&mut G) -> R + Send + 'static,
    ) -> Result<R, PluginError> {
        let lost = || PluginError::Thread {
            plugin: self.plugin.clone(),
            reason: "its thread ended unexpectedly".into(),
        };
        let (reply, result) = sync_channel(1);
        let work: Work<G> = Box::new(move |guest| {
            let _ = reply.send(work(guest));
        });
        self.work.send(work).map_err(|_| lost())?;
        let mut ticked = Instant::now();
        loop {
            match soon(&self.messages).map_or_else(|| self.messages.recv_timeout(TICK), Ok) {
                Ok(Message::Errand(errand)) => errand(caller),
                Ok(Message::Done) => return result.recv().map_err(|_| lost()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(lost()),
            }
            if ticked.elapsed() >= TICK {
                self.engine.increment_epoch();
                ticked = Instant::now();
            }
        }
    }
}

/// What comes while the other thread is given its turns; `None` if nothing did.
fn soon<T>(from: &Receiver<T>) -> Option<T> {
    for _ in 0..TURNS {
        match from.try_recv() {
            Ok(message) => return Some(message),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => thread::yield_now(),
        }
    }
    None
}
