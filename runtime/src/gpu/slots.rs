//! What lies inside a device's layers between forward and backward. The top layers have a slot of their own on the
//! device; layers below share the lowest of these. What they leave there goes to the system's memory and comes back
//! for backward, as the plan has room for it, or is computed again.

use graft_gpu::{Device, Recorder, Tensor};

use super::buffers::{KeysAndValues, Saved};
use crate::Result;
use crate::memory::{Arena, Floats, Part};
use crate::model::LlamaShape;

/// Everything inside one layer.
#[derive(Debug)]
pub(super) struct Slot {
    pub saved: Saved,
    pub kv: KeysAndValues,
}

impl Slot {
    /// Bytes that it takes.
    pub fn bytes(device: &Device, shape: &LlamaShape, tokens: usize) -> u64 {
        Saved::bytes(device, shape, tokens) + KeysAndValues::bytes(device, shape, tokens)
    }

    fn new(device: &Device, shape: &LlamaShape, tokens: usize) -> Result<Self> {
        Ok(Self {
            saved: Saved::new(device, shape, tokens)?,
            kv: KeysAndValues::new(device, shape, tokens)?,
        })
    }

    /// The floats that a pass of so many tokens writes, array after array.
    fn used(&self, shape: &LlamaShape, tokens: usize) -> Result<Vec<Tensor>> {
        let mut used = self.saved.used(shape, tokens)?;
        used.extend(self.kv.used(shape, tokens)?);
        Ok(used)
    }
}

/// What the memory of a device that is left has room for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Room {
    /// Whether the inputs of all visited layers stay there.
    pub inputs: bool,
    /// Slots besides, at least one.
    pub slots: usize,
}

impl Room {
    /// Of `free` bytes, for `visited` layers and passes of `tokens` rows. The inputs come first: without them every
    /// layer would wait for the processor.
    pub fn of(
        device: &Device,
        shape: &LlamaShape,
        tokens: usize,
        free: u64,
        visited: usize,
    ) -> Self {
        let slot = Slot::bytes(device, shape, tokens);
        let row = device.tensor_bytes(tokens, shape.width);
        let beside_inputs = free.checked_sub((visited as u64).saturating_mul(row));
        let (inputs, left) = match beside_inputs.filter(|&left| left >= slot) {
            Some(left) => (true, left),
            None => (false, free.saturating_sub(row)),
        };
        Self {
            inputs,
            slots: Self::slots(device, shape, tokens, left).max(1),
        }
    }

    /// How many slots fit `free` bytes.
    pub fn slots(device: &Device, shape: &LlamaShape, tokens: usize, free: u64) -> usize {
        let slot = Slot::bytes(device, shape, tokens);
        usize::try_from(free / slot.max(1)).unwrap_or(usize::MAX)
    }
}

/// The slots, and what left them.
#[derive(Debug)]
pub(super) struct Slots {
    /// Of the top layers.
    slots: Vec<Slot>,
    /// Of the layers next below, bottom up.
    away: Vec<Floats>,
    /// The number after the top layer's.
    last: usize,
}

impl Slots {
    /// Slots for the layers below number `last`, for passes of up to `tokens` rows; `away` layers leave theirs in
    /// memory of `system`.
    ///
    /// # Errors
    /// If the budget, the device or the system has no room.
    pub fn new(
        device: &Device,
        shape: &LlamaShape,
        tokens: usize,
        (slots, away): (usize, usize),
        last: usize,
        system: &Arena,
    ) -> Result<Self> {
        let slots = (0..slots).map(|_| Slot::new(device, shape, tokens));
        let floats = Saved::floats(shape, tokens) + KeysAndValues::floats(shape, tokens);
        Ok(Self {
            slots: slots.collect::<Result<_>>()?,
            away: in_system_memory(system, away, floats)?,
            last,
        })
    }

    /// The slot that a layer uses.
    pub fn of(&self, layer: usize) -> &Slot {
        &self.slots[(layer + self.slots.len()).saturating_sub(self.last)]
    }

    /// Where what a layer leaves is while others use its slot: `None` if it has one of its own, or if it is computed
    /// again.
    fn away(&self, layer: usize) -> Option<usize> {
        let below = self.last - self.slots.len();
        let lowest = below.saturating_sub(self.away.len());
        (lowest..below).contains(&layer).then(|| layer - lowest)
    }

    /// Takes what a layer's forward, which was submitted, left in a slot that is not its own; waits for it.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn leave(
        &mut self,
        device: &Device,
        shape: &LlamaShape,
        layer: usize,
        tokens: usize,
    ) -> Result<()> {
        let Some(number) = self.away(layer) else {
            return Ok(());
        };
        let arrays = self.of(layer).used(shape, tokens)?;
        let mut left = &mut self.away[number][..];
        for array in arrays {
            let (now, rest) = std::mem::take(&mut left).split_at_mut(array.len());
            device.read(&array, now)?;
            left = rest;
        }
        Ok(())
    }

    /// Whether a layer's slot has what its forward left, for commands recorded next: it is written there if it was
    /// away.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn fetch(
        &self,
        recorder: &mut Recorder,
        shape: &LlamaShape,
        layer: usize,
        tokens: usize,
    ) -> Result<bool> {
        let Some(number) = self.away(layer) else {
            return Ok(layer + self.slots.len() >= self.last);
        };
        let mut left = &self.away[number][..];
        for array in self.of(layer).used(shape, tokens)? {
            let (now, rest) = left.split_at(array.len());
            recorder.write(&array, now)?;
            left = rest;
        }
        Ok(true)
    }
}

/// As many arrays of zeros, of the system's memory.
///
/// # Errors
/// If they were not planned, or it has none left.
pub(super) fn in_system_memory(
    system: &Arena,
    arrays: usize,
    floats: usize,
) -> Result<Vec<Floats>> {
    let arrays = (0..arrays).map(|_| system.floats(Part::SavedActivations, floats));
    Ok(arrays.collect::<Result<_, _>>()?)
}
