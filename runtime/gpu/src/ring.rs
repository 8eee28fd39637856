//! The way up: a few mapped slots that are written by the processor and copied from by the device, in
//! turn.
//!
//! Slots live as long as the device. One is free, or in the hands of a recorder, or flying: submitted,
//! and mapped again as soon as the device has read it. That mapping is the slot's fence.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::device::{HeldBuffer, Inner};
use crate::{Part, Result};

const SLOTS: u64 = 4;

/// Slots that one recorder holds before it submits by itself: others need some, too.
pub(crate) const SLOTS_OF_A_RECORDER: usize = 2;

/// How long a recorder waits for slots that recorders of other threads hold.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// All slots of a device.
#[derive(Debug)]
pub(crate) struct Ring {
    slot_bytes: u64,
    slots: Mutex<Slots>,
    /// Somebody gave a slot back.
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<Slot>,
    flying: VecDeque<Flying>,
}

/// A slot that the processor may write.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) held: HeldBuffer,
    /// Bytes written.
    pub(crate) used: u64,
}

#[derive(Debug)]
struct Flying {
    held: HeldBuffer,
    submission: wgpu::SubmissionIndex,
    mapped: Fence,
}

/// Whether a mapping is done, and how it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence(Arc<(Mutex<Option<Mapped>>, Condvar)>);

type Mapped = std::result::Result<(), wgpu::BufferAsyncError>;

/// How long the callback of a mapping may take after the device is done; it is called within
/// microseconds, but by another thread if that one was first to ask.
const CALLBACK: Duration = Duration::from_secs(10);

impl Fence {
    /// Asks for a mapping.
    pub(crate) fn map(buffer: &wgpu::Buffer, mode: wgpu::MapMode) -> Self {
        let fence = Self::default();
        let set = fence.clone();
        buffer.slice(..).map_async(mode, move |result| {
            let (mapped, called) = &*set.0;
            *mapped.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            called.notify_all();
        });
        fence
    }

    /// Waits until the mapping of a buffer that `submission` uses is done.
    ///
    /// # Errors
    /// If the device is lost.
    pub(crate) fn wait(&self, inner: &Inner, submission: &wgpu::SubmissionIndex) -> Result<()> {
        inner.wait_for(Some(submission))?;
        let asked = Instant::now();
        while asked.elapsed() < CALLBACK {
            // A mapping asked for after the submission was done needs a round of its own.
            if let Err(e) = inner.poll(wgpu::PollType::Poll)? {
                return Err(inner.failure.internal(e.to_string()));
            }
            let (mapped, called) = &*self.0;
            let mapped = mapped.lock().unwrap_or_else(PoisonError::into_inner);
            let (mapped, _) = called
                .wait_timeout_while(mapped, Duration::from_millis(1), |m| m.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            match &*mapped {
                Some(Ok(())) => return Ok(()),
                Some(Err(e)) => {
                    inner.failure.check()?;
                    return Err(inner.failure.internal(e.to_string()));
                }
                None => inner.failure.check()?,
            }
        }
        Err(inner.failure.internal("a mapping never ended".to_owned()))
    }
}

impl Ring {
    /// A ring whose slots take a thirty-second of the budget, 64 KiB to 16 MiB each.
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            slot_bytes: (budget / 32 / SLOTS / 8 * 8).clamp(64 << 10, 16 << 20),
            slots: Mutex::default(),
            returned: Condvar::default(),
        }
    }

    /// Allocates the slots.
    pub(crate) fn fill(&self, inner: &Inner) -> Result<()> {
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let mut slots = self.lock();
        for _ in 0..SLOTS {
            let held = inner.buffer(Part::Upload, self.slot_bytes, usage)?;
            slots.free.push(Slot { held, used: 0 });
        }
        Ok(())
    }

    pub(crate) fn slot_bytes(&self) -> u64 {
        self.slot_bytes
    }

    /// A slot to write, as soon as there is one; `None` if recorders hold all of them and go on
    /// holding them.
    pub(crate) fn take(&self, inner: &Inner) -> Result<Option<Slot>> {
        let none = |slots: &mut Slots| slots.free.is_empty() && slots.flying.is_empty();
        let (mut slots, _) = self
            .returned
            .wait_timeout_while(self.lock(), PATIENCE, none)
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.free.pop() {
            return Ok(Some(slot));
        }
        let Some(flying) = slots.flying.pop_front() else {
            return Ok(None);
        };
        drop(slots);
        flying.mapped.wait(inner, &flying.submission)?;
        Ok(Some(Slot {
            held: flying.held,
            used: 0,
        }))
    }

    /// Takes back a slot that was not submitted.
    pub(crate) fn give_back(&self, slot: Slot) {
        self.lock().free.push(Slot { used: 0, ..slot });
        self.returned.notify_one();
    }

    /// Takes back a slot that `submission` reads; it is no longer mapped.
    pub(crate) fn submitted(&self, slot: Slot, submission: &wgpu::SubmissionIndex) {
        let mapped = Fence::map(&slot.held.buffer, wgpu::MapMode::Write);
        self.lock().flying.push_back(Flying {
            held: slot.held,
            submission: submission.clone(),
            mapped,
        });
        self.returned.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
