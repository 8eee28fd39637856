//! The way down: slots that the device copies to and the processor reads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::device::{HeldBuffer, Inner};
use crate::ring::{Fence, PATIENCE};
use crate::{Device, GpuError, Part, Recorder, Result, Tensor};

const SLOTS: u64 = 4;

/// All slots of a device that no [`Download`] holds.
#[derive(Debug)]
pub(crate) struct Downloads {
    slot_bytes: u64,
    free: Mutex<Vec<HeldBuffer>>,
    /// Somebody gave slots back.
    returned: Condvar,
}

impl Downloads {
    /// Slots that take a sixty-fourth of the budget, 64 KiB to 8 MiB each.
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            slot_bytes: (budget / 64 / SLOTS / 8 * 8).clamp(64 << 10, 8 << 20),
            free: Mutex::default(),
            returned: Condvar::default(),
        }
    }

    /// Allocates the slots.
    pub(crate) fn fill(&self, inner: &Inner) -> Result<()> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        for _ in 0..SLOTS {
            let held = inner.buffer(Part::Download, self.slot_bytes, usage)?;
            self.lock().push(held);
        }
        Ok(())
    }

    /// Enough slots for `bytes`; `None` if there are not as many, or others go on holding them.
    pub(crate) fn take(&self, bytes: u64) -> Option<Vec<HeldBuffer>> {
        let count = usize::try_from(bytes.div_ceil(self.slot_bytes)).ok()?;
        if count > SLOTS as usize {
            return None;
        }
        let few = |free: &mut Vec<HeldBuffer>| free.len() < count;
        let (mut free, _) = self
            .returned
            .wait_timeout_while(self.lock(), PATIENCE, few)
            .unwrap_or_else(PoisonError::into_inner);
        let kept = free.len().checked_sub(count)?;
        Some(free.split_off(kept))
    }

    pub(crate) fn slot_bytes(&self) -> u64 {
        self.slot_bytes
    }

    fn lock(&self) -> MutexGuard<'_, Vec<HeldBuffer>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a recorder says what its submission was; empty until then.
pub(crate) type Submitted = Arc<Mutex<Option<wgpu::SubmissionIndex>>>;

/// Floats on their way down; made by [`Recorder::read`].
#[derive(Debug)]
pub struct Download {
    pub(crate) device: Device,
    pub(crate) slots: Vec<HeldBuffer>,
    /// Whether the slots are mapped, or will be.
    pub(crate) mapped: bool,
    pub(crate) floats: usize,
    pub(crate) submitted: Submitted,
}

impl Download {
    /// How many floats come.
    pub fn len(&self) -> usize {
        self.floats
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.floats == 0
    }

    /// Waits for them.
    ///
    /// # Errors
    /// If they were never submitted, `out` is not as long, or the device is lost.
    pub fn wait(mut self, out: &mut [f32]) -> Result<()> {
        let shape = |what| GpuError::Shape { op: "read", what };
        if out.len() != self.floats {
            let what = format!("{} floats come and {} are awaited", self.floats, out.len());
            return Err(shape(what));
        }
        let inner = &self.device.0;
        let submitted = self.submitted.lock();
        let submitted = submitted.unwrap_or_else(PoisonError::into_inner).clone();
        let Some(submission) = submitted else {
            return Err(shape("what was recorded was not submitted".to_owned()));
        };
        let slot_floats = (inner.downloads.slot_bytes / 4) as usize;
        self.mapped = true;
        let fences = self.slots.iter();
        let fences = fences.map(|slot| Fence::map(&slot.buffer, wgpu::MapMode::Read));
        let fences: Vec<_> = fences.collect();
        for ((slot, fence), out) in self
            .slots
            .iter()
            .zip(fences)
            .zip(out.chunks_mut(slot_floats))
        {
            fence.wait(inner, &submission)?;
            let bytes = 0..4 * out.len() as u64;
            let view = slot.buffer.slice(bytes).get_mapped_range();
            let view = view.map_err(|e| inner.failure.internal(e.to_string()))?;
            bytemuck::cast_slice_mut(out).copy_from_slice(&view);
        }
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.mapped {
            self.slots.iter().for_each(|slot| slot.buffer.unmap());
        }
        let downloads = &self.device.0.downloads;
        downloads.lock().append(&mut self.slots);
        downloads.returned.notify_all();
    }
}

impl Device {
    /// Floats that one slot on the way down holds. There are four for all who read: a program that lets downloads wait
    /// while it records more leaves the others some if each takes one.
    pub fn slot_floats(&self) -> usize {
        (self.0.downloads.slot_bytes / 4) as usize
    }

    /// Reads an array of any size, and waits for it and all that was submitted before.
    ///
    /// # Errors
    /// If `out` is not as long, all staging is in use, or the device is lost.
    pub fn read(&self, from: &Tensor, out: &mut [f32]) -> Result<()> {
        if out.len() != from.len() {
            return Err(GpuError::Shape {
                op: "read",
                what: format!("{} floats for {}", out.len(), from.len()),
            });
        }
        let column = from.reshape(from.len(), 1)?;
        let at_once = self.slot_floats();
        for (i, out) in out.chunks_mut(at_once).enumerate() {
            let mut recorder = Recorder::new(self)?;
            let piece = column.slice(i * at_once..i * at_once + out.len())?;
            let download = recorder.read(&piece)?;
            recorder.submit()?;
            download.wait(out)?;
        }
        Ok(())
    }
}
