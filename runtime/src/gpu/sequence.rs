//! One sequence on a device: its keys and values, and its passes.

use std::collections::VecDeque;
use std::sync::Arc;

use graft_gpu::{Device, Part, Recorder, RopeTurns, Rounding};

use super::buffers::KeysAndValues;
use super::layer::{LayerAt, Pass, Read};
use super::layers::GpuLayers;
use crate::Result;
use crate::model::{AdapterView, DeviceKv};

/// Layers that may be on their way at once: the device always has work, and stops soon when told to.
const IN_FLIGHT: usize = 2;

/// Keys and values of one sequence in the layers of a device.
#[derive(Debug)]
pub(super) struct GpuSequence {
    layers: Arc<GpuLayers>,
    /// Of each layer.
    kv: Vec<KeysAndValues>,
    rope: RopeTurns,
    capacity: usize,
}

impl GpuSequence {
    /// Room for `capacity` positions.
    ///
    /// # Errors
    /// If the budget or the device has none.
    pub fn new(layers: Arc<GpuLayers>, capacity: usize) -> Result<Self> {
        let (device, shape) = (&layers.device, &layers.shape);
        let each = KeysAndValues::bytes(device, shape, capacity);
        // Keys and values of a layer need not lie in one buffer.
        let runs = std::iter::repeat_n(each / 2, 2 * layers.weights.len());
        let all = device.arena_of(Part::KeysAndValues, runs)?;
        let kv = (0..layers.weights.len()).map(|_| KeysAndValues::cut(&all, shape, capacity));
        Ok(Self {
            kv: kv.collect::<Result<_>>()?,
            rope: layers.rope(capacity)?,
            capacity,
            layers,
        })
    }
}

impl DeviceKv for GpuSequence {
    fn forward(
        &mut self,
        rows: &mut [f32],
        start: usize,
        adapters: &dyn AdapterView,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let layers = &self.layers;
        let (device, width) = (&layers.device, layers.shape.width);
        let mut work = layers.work();
        let resident = layers.adapters(adapters, &mut work)?;
        let mut done = start;
        let at_once = work.x.rows();
        for rows in rows.chunks_mut(at_once * width) {
            let tokens = rows.len() / width;
            let x = work.x.slice(0..tokens)?;
            let pass = Pass {
                shape: &layers.shape,
                attention: layers.attention,
                start: done,
                ends: &[],
                keeps: false,
                rope: &self.rope,
                adapters: &resident,
                scratch: &work.scratch,
                lora: &work.lora,
            };
            let mut flying = VecDeque::with_capacity(IN_FLIGHT + 1);
            let mut recorder = recorder_of(device)?;
            recorder.write(&x, rows)?;
            for (i, kv) in self.kv.iter().enumerate() {
                check()?;
                let number = layers.first + i;
                let weights = layers.weights(number, &mut recorder)?;
                let layer = LayerAt {
                    number,
                    weights: &weights,
                };
                let positions = 0..done + tokens;
                let read = Read {
                    keys: &kv.keys.slice(positions.clone())?,
                    values: &kv.values.slice(positions)?,
                };
                layer.forward(&mut recorder, &x, &work.saved, read, &pass)?;
                let next = recorder_of(device)?;
                flying.push_back(std::mem::replace(&mut recorder, next).submit()?);
                if flying.len() > IN_FLIGHT
                    && let Some(oldest) = flying.pop_front()
                {
                    oldest.wait()?;
                }
            }
            drop(recorder);
            device.read(&x, rows)?;
            done += tokens;
        }
        Ok(())
    }

    fn fork(&self, positions: usize, capacity: usize) -> Result<Box<dyn DeviceKv>> {
        let other = Self::new(Arc::clone(&self.layers), capacity)?;
        let mut recorder = Recorder::new(&self.layers.device)?;
        let kept = 0..positions.min(capacity).min(self.capacity);
        for (to, from) in other.kv.iter().zip(&self.kv) {
            recorder.copy(
                &to.keys.slice(kept.clone())?,
                &from.keys.slice(kept.clone())?,
            )?;
            recorder.copy(
                &to.values.slice(kept.clone())?,
                &from.values.slice(kept.clone())?,
            )?;
        }
        recorder.submit()?;
        Ok(Box::new(other))
    }
}

/// Records what answers: inputs of its products may be rounded to 8 bits, as they are on the processor.
fn recorder_of(device: &Device) -> Result<Recorder> {
    let mut recorder = Recorder::new(device)?;
    recorder.round(Rounding::Bytes);
    Ok(recorder)
}
