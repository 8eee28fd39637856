//! The way up: a few mapped slots that are written by the processor and copied from by the device, in
//! turn.
//!
//! Slots live as long as the device. One is free, or in the hands of a recorder, or flying: submitted,
//! and mapped again as soon as the device has read it. That mapping is the slot's fence.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::{HeldBuffer, Inner};
use crate::{Part, Result};

const SLOTS: u64 = 4;

/// All slots of a device.
#[derive(Debug)]
pub(crate) struct Ring {
    slot_bytes: u64,
    slots: Mutex<Slots>,
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
type Fence = Arc<Mutex<Option<std::result::Result<(), wgpu::BufferAsyncError>>>>;

/// Asks for a mapping.
pub(crate) fn map(buffer: &wgpu::Buffer, mode: wgpu::MapMode) -> Fence {
    let fence = Fence::default();
    let set = fence.clone();
    buffer.slice(..).map_async(mode, move |result| {
        *set.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    fence
}

/// Waits until the mapping of a buffer that `submission` uses is done.
pub(crate) fn wait(inner: &Inner, submission: &wgpu::SubmissionIndex, fence: &Fence) -> Result<()> {
    inner.wait_for(Some(submission))?;
    // The submission's callbacks have run; one more round for a mapping asked for since.
    for _ in 0..2 {
        let done = fence.lock().unwrap_or_else(PoisonError::into_inner).take();
        match done {
            Some(Ok(())) => return Ok(()),
            Some(Err(e)) => {
                inner.failure.check()?;
                return Err(inner.failure.internal(e.to_string()));
            }
            None => {
                if let Err(e) = inner.poll(wgpu::PollType::Poll)? {
                    return Err(inner.failure.internal(e.to_string()));
                }
            }
        }
    }
    inner.failure.check()?;
    Err(inner.failure.internal("a mapping never ended".to_owned()))
}

impl Ring {
    /// A ring whose slots take a thirty-second of the budget, 64 KiB to 16 MiB each.
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            slot_bytes: (budget / 32 / SLOTS / 8 * 8).clamp(64 << 10, 16 << 20),
            slots: Mutex::default(),
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

    /// A slot to write, as soon as there is one; `None` if recorders hold all of them.
    pub(crate) fn take(&self, inner: &Inner) -> Result<Option<Slot>> {
        let flying = {
            let mut slots = self.lock();
            if let Some(slot) = slots.free.pop() {
                return Ok(Some(slot));
            }
            match slots.flying.pop_front() {
                Some(flying) => flying,
                None => return Ok(None),
            }
        };
        wait(inner, &flying.submission, &flying.mapped)?;
        Ok(Some(Slot {
            held: flying.held,
            used: 0,
        }))
    }

    /// Takes back a slot that was not submitted.
    pub(crate) fn give_back(&self, slot: Slot) {
        self.lock().free.push(Slot { used: 0, ..slot });
    }

    /// Takes back a slot that `submission` reads; it is no longer mapped.
    pub(crate) fn submitted(&self, slot: Slot, submission: &wgpu::SubmissionIndex) {
        let mapped = map(&slot.held.buffer, wgpu::MapMode::Write);
        self.lock().flying.push_back(Flying {
            held: slot.held,
            submission: submission.clone(),
            mapped,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
