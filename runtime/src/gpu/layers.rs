//! The upper layers of a model on a device, as the model sees them.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graft_gpu::{Arena, Choice, Device, Matrix, Part, Recorder, RopeTurns, Rounding, Tensor};
use graft_kernels::ops::attention::AttentionShape;

use super::buffers::{LoraScratch, Saved, Scratch};
use super::encoder::GpuEncoder;
use super::layer::adapted;
use super::loss::LossPlace;
use super::pairs::{PairStore, Resident};
use super::placement::{OUTPUT_ROWS, Placement, There};
use super::sequence::GpuSequence;
use super::training::{self, GpuTraining};
use super::weights::{LayerSource, LayerWeights};
use crate::Result;
use crate::device::{DeviceChoice, DeviceError, DeviceOptions, TrainingRoom};
use crate::memory;
use crate::model::{
    ActivationPlan, AdapterView, DeviceEncoder, DeviceKept, DeviceKv, DeviceLayers, DeviceReport,
    DeviceTraining, Llama, LlamaShape, Site, Vision, Weight,
};

/// The layers of a model from one on, in a device's memory.
#[derive(Debug)]
pub struct GpuLayers {
    pub(super) device: Device,
    pub(super) shape: LlamaShape,
    pub(super) attention: AttentionShape,
    pub(super) first: usize,
    pub(super) weights: Vec<Place>,
    /// Room for the matrices and norms of layers that do not stay: of even ones and of odd ones.
    passing: Option<[(Arena, Arena); 2]>,
    pub(super) head: Head,
    rope_factors: Vec<f32>,
    /// Bytes that encoders leave free: [`Placement::reserved`].
    reserved: u64,
    /// How many layers were asked for.
    asked: Option<usize>,
    pairs: PairStore,
    work: Arc<Mutex<PassBuffers>>,
}

/// What comes after the last layer.
#[derive(Debug)]
pub(super) struct Head {
    /// The final norm, `[W]`.
    pub norm: Vec<f32>,
    /// The output matrix in the model's file.
    pub weight: Weight,
    /// The same on the device, if it stays there, and room for the logits of a few rows.
    pub resident: Option<(Matrix, Tensor)>,
    /// How training's loss is computed there, if it is.
    pub loss: Option<LossPlace>,
}

/// Where a layer's weights are.
#[derive(Debug)]
pub(super) enum Place {
    /// In the device's memory for good.
    Resident(LayerWeights),
    /// In the model's file, written to the device when it is the layer's turn.
    Streamed(LayerSource),
}

/// What a pass writes besides keys and values; a device does one pass at a time.
#[derive(Debug)]
pub(super) struct PassBuffers {
    /// The residual stream, `[T, W]`.
    pub x: Tensor,
    pub saved: Saved,
    pub scratch: Scratch,
    pub lora: LoraScratch,
}

impl PassBuffers {
    /// For passes of so many rows.
    fn new(device: &Device, shape: &LlamaShape, tokens: usize) -> Result<Self> {
        let x = device.tensor_bytes(tokens, shape.width);
        let x = device.arena(Part::LayerBuffers, x)?;
        Ok(Self {
            x: x.tensor(tokens, shape.width)?,
            saved: Saved::new(device, shape, tokens)?,
            scratch: Scratch::new(device, shape, tokens)?,
            lora: LoraScratch::default(),
        })
    }
}

impl GpuLayers {
    /// Opens a device and writes as much of the model to it as was asked for, or as fits beside what its images
    /// need; `None` if no layer was asked for.
    ///
    /// # Errors
    /// If there is no such device, what was asked for or one layer does not fit it, or it fails.
    pub fn new(
        llama: &Llama,
        vision: Option<&Vision>,
        options: &DeviceOptions,
    ) -> Result<Option<Self>> {
        Self::place(open(options)?, llama, vision, options, None)
    }

    /// The same on a device that is open, beside what `there` holds on it.
    fn place(
        device: Device,
        llama: &Llama,
        vision: Option<&Vision>,
        options: &DeviceOptions,
        there: Option<&Self>,
    ) -> Result<Option<Self>> {
        let held = there.map(Self::there);
        let Some(placement) = Placement::choose(&device, llama, vision, options, held)? else {
            return Ok(None);
        };
        let (shape, first) = (llama.shape().clone(), placement.first);
        let layers = &llama.layers()[first..];
        // The top ones stay, and some of them may be there.
        let streamed = placement.streamed;
        let held = held.map_or(layers.len(), |there| there.first.saturating_sub(first));
        let held = held.clamp(streamed, layers.len());
        let bytes = layers
            .iter()
            .map(|layer| LayerWeights::bytes(&device, layer));
        let bytes: Vec<u64> = bytes.collect();
        let matrices = device.arena_of(Part::Weights, bytes[streamed..held].iter().copied())?;
        let norm = LayerWeights::norm_bytes(&device, shape.width);
        let norms = device.arena(Part::Norms, norm * (held - streamed) as u64)?;
        let room = |&largest: &u64| -> Result<_> {
            let room = || -> Result<_> {
                let matrices = device.arena(Part::StreamedWeights, largest)?;
                Ok((matrices, device.arena(Part::Norms, norm)?))
            };
            Ok([room()?, room()?])
        };
        let passing = bytes[..streamed].iter().max().map(room).transpose()?;
        let mut weights = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            let source = LayerSource::of(layer);
            let there = there.and_then(|there| there.resident(first + i));
            weights.push(match there {
                Some(there) => Place::Resident(there.clone()),
                None if i < streamed => Place::Streamed(source),
                None => {
                    let mut recorder = Recorder::new(&device)?;
                    let written = source.write(&mut recorder, (&matrices, &norms))?;
                    recorder.submit()?;
                    layer.release();
                    Place::Resident(written)
                }
            });
        }
        let resident = match there.and_then(|there| there.head.resident.clone()) {
            None if placement.output => Some(output(&device, llama)?),
            there => there,
        };
        let head = Head {
            norm: llama.output_norm().to_vec(),
            weight: llama.output().weight().clone(),
            resident,
            loss: placement.loss,
        };
        let work = match there {
            Some(there) => Arc::clone(&there.work),
            None => {
                let work = PassBuffers::new(&device, &shape, placement.tokens)?;
                Arc::new(Mutex::new(work))
            }
        };
        Ok(Some(Self {
            attention: shape.attention(),
            rope_factors: llama.rope_factors().to_vec(),
            reserved: placement.reserved,
            asked: options.layers,
            // Not shared: of what layers an adapter has pairs there depends on the first of them.
            pairs: PairStore::default(),
            work,
            device,
            shape,
            first,
            weights,
            passing,
            head,
        }))
    }

    /// What another placement of the same model finds on the device.
    fn there(&self) -> There {
        let streamed = |place: &&Place| matches!(place, Place::Streamed(_));
        There {
            first: self.first + self.weights.iter().take_while(streamed).count(),
            output: self.head.resident.is_some(),
            tokens: self.work().x.rows(),
        }
    }

    /// The weights of a layer that stays on the device.
    fn resident(&self, number: usize) -> Option<&LayerWeights> {
        match self.weights.get(number.checked_sub(self.first)?)? {
            Place::Resident(weights) => Some(weights),
            Place::Streamed(_) => None,
        }
    }

    /// The pass's buffers, as soon as no other pass has them.
    pub(super) fn work(&self) -> MutexGuard<'_, PassBuffers> {
        // What a panic left there is overwritten by the next pass.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The weights of a layer, for commands recorded next; where they do not stay, they are written first.
    pub(super) fn weights(
        &self,
        number: usize,
        recorder: &mut Recorder,
    ) -> Result<Cow<'_, LayerWeights>> {
        match (&self.weights[number - self.first], &self.passing) {
            (Place::Resident(weights), _) => Ok(Cow::Borrowed(weights)),
            (Place::Streamed(source), Some(rooms)) => {
                let (matrices, norms) = &rooms[number % 2];
                Ok(Cow::Owned(source.write(recorder, (matrices, norms))?))
            }
            (Place::Streamed(_), None) => unreachable!("room was made for what is streamed"),
        }
    }

    /// The turns of positions `0..positions`, in memory of their own.
    pub(super) fn rope(&self, positions: usize) -> Result<RopeTurns> {
        let table = self.shape.rope_table(&self.rope_factors, positions);
        let bytes = self.device.tensor_bytes(positions, table.dims());
        let arena = self.device.arena(Part::Norms, bytes)?;
        let turns = arena.tensor(positions, table.dims())?;
        let mut recorder = Recorder::new(&self.device)?;
        recorder.write(&turns, bytemuck::cast_slice(table.turns()))?;
        recorder.submit()?;
        Ok(RopeTurns {
            layout: table.layout(),
            turns,
        })
    }

    /// A pass's adapters in the device's memory, with room for what they compute.
    pub(super) fn adapters<'a>(
        &self,
        view: &'a dyn AdapterView,
        work: &mut PassBuffers,
    ) -> Result<Resident<'a>> {
        let last = self.first + self.weights.len();
        let sites = || {
            let sites = Site::of_layers(last).filter(|site| match site.in_layer() {
                Some((layer, _)) => layer >= self.first,
                None => false,
            });
            sites
                .chain(self.head.resident.as_ref().map(|_| Site::Output))
                .collect()
        };
        let resident = self
            .pairs
            .resident(&self.device, view, sites, &self.shape)?;
        let (tokens, widest) = (work.x.rows(), LoraScratch::widest(&self.shape));
        work.lora
            .reserve(&self.device, widest, tokens, view.max_rank())?;
        Ok(resident)
    }
}

impl DeviceLayers for GpuLayers {
    fn first(&self) -> usize {
        self.first
    }

    fn has_output(&self) -> bool {
        self.head.resident.is_some()
    }

    fn has_loss(&self) -> bool {
        self.head.loss.is_some()
    }

    fn open_kv(self: Arc<Self>, capacity: usize) -> Result<Box<dyn DeviceKv>> {
        Ok(Box::new(GpuSequence::new(self, capacity)?))
    }

    fn for_training(
        &self,
        llama: &Llama,
        vision: Option<&Vision>,
        room: TrainingRoom,
    ) -> Result<Arc<dyn DeviceLayers>> {
        let options = DeviceOptions {
            layers: self.asked,
            training: Some(room),
            ..DeviceOptions::CPU
        };
        let device = self.device.clone();
        let layers = Self::place(device, llama, vision, &options, Some(self))?;
        let none = || DeviceError::Refused("no layer was to be on the device".to_owned());
        Ok(Arc::new(layers.ok_or_else(none)?))
    }

    fn open_training(
        self: Arc<Self>,
        plan: &ActivationPlan,
        arena: &memory::Arena,
    ) -> Result<Box<dyn DeviceTraining>> {
        Ok(Box::new(GpuTraining::new(self, plan, arena)?))
    }

    fn kept(&self, plan: &ActivationPlan) -> DeviceKept {
        training::kept(self, plan)
    }

    fn open_encoder(&self, vision: &Vision) -> Result<Box<dyn DeviceEncoder>> {
        Ok(Box::new(GpuEncoder::new(
            &self.device,
            vision,
            self.reserved,
        )?))
    }

    fn logits(&self, logits: &mut [f32], normed: &[f32], adapters: &dyn AdapterView) -> Result<()> {
        let Some((matrix, room)) = &self.head.resident else {
            let what = "the device does not hold the output matrix";
            return Err(DeviceError::Refused(what.to_owned()).into());
        };
        let mut work = self.work();
        let resident = self.adapters(adapters, &mut work)?;
        let (width, vocabulary) = (self.shape.width, self.shape.vocabulary);
        let at_once = OUTPUT_ROWS.min(work.x.rows());
        let logits = logits.chunks_mut(at_once * vocabulary);
        for (i, (logits, normed)) in logits.zip(normed.chunks(at_once * width)).enumerate() {
            let rows = normed.len() / width;
            let (x, y) = (work.x.slice(0..rows)?, room.slice(0..rows)?);
            let mut recorder = Recorder::new(&self.device)?;
            recorder.round(Rounding::Bytes);
            recorder.write(&x, normed)?;
            let linear = (matrix, Site::Output, i * at_once);
            adapted(&mut recorder, linear, &y, &x, (&resident, &work.lora))?;
            recorder.submit()?;
            self.device.read(&y, logits)?;
        }
        Ok(())
    }

    fn give_up(&self) {
        self.device.destroy();
    }

    fn report(&self) -> DeviceReport {
        let memory = self.device.memory();
        let parts = memory
            .parts
            .iter()
            .map(|&(part, bytes)| (part.name(), bytes));
        DeviceReport {
            device: self.device.adapter().name.clone(),
            layers: self.weights.len(),
            output: self.has_output(),
            loss: self.has_loss(),
            budget: memory.limit,
            parts: parts.collect(),
        }
    }
}

/// Opens the device that was asked for.
fn open(options: &DeviceOptions) -> Result<Device> {
    let choice = match &options.device {
        DeviceChoice::Gpu(Some(name)) => match name.parse() {
            Ok(index) => Choice::Index(index),
            Err(_) => Choice::Name(name.clone()),
        },
        _ => Choice::Best,
    };
    let device = Device::open(&graft_gpu::DeviceOptions {
        choice,
        budget: options.memory,
        cache: graft_gpu::cache_folder(),
        ..graft_gpu::DeviceOptions::default()
    })?;
    if let Some(trial) = device.trial() {
        tracing::debug!(device = device.adapter().name, %trial, "products of the device");
    }
    Ok(device)
}

/// The output matrix, and room for some rows of logits.
fn output(device: &Device, llama: &Llama) -> Result<(Matrix, Tensor)> {
    let weight = llama.output().weight();
    let (ty, outputs, inputs) = (weight.quant_type(), weight.outputs(), weight.inputs());
    let bytes = device.matrix_bytes(ty, outputs, inputs).unwrap_or_default();
    let matrix = device
        .arena(Part::Weights, bytes)?
        .matrix(ty, outputs, inputs)?;
    let mut recorder = Recorder::new(device)?;
    recorder.write_matrix(&matrix, weight.bytes())?;
    recorder.submit()?;
    llama.output().release();
    let bytes = device.tensor_bytes(OUTPUT_ROWS, outputs);
    let logits = device
        .arena(Part::Loss, bytes)?
        .tensor(OUTPUT_ROWS, outputs)?;
    Ok((matrix, logits))
}
