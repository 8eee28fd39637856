//! The language model while it learns: forward that keeps what backward needs, and backward.
//!
//! Every visited layer's input is kept. Of what lies inside a layer (about ten times as much) the
//! top `kept` layers have their own [`Saved`]; those below share the lowest of these, and backward
//! fills it again by calling the layer's forward on its kept input, up to where backward needs no more: the
//! same function on the same bits.
//!
//! The inputs may lie in a file, and the weights of a layer may leave memory after its turn while the
//! next layer's are read: both change where bytes are, not what is computed.

use std::path::PathBuf;
use std::sync::Arc;

use half::bf16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::layer::{Kept, Work};
use super::{
    AdapterView, BackwardScratch, DeviceKept, DeviceTraining, GradientView, Layer, Llama,
    LlamaShape, Pass, Saved, Scratch, Words,
};
use crate::Result;
use crate::cancel::Cancel;
use crate::kv_cache::KvSlice;
use crate::memory::{Arena, Buffer, FloatFile, Floats, Hold, MemoryPlan, Part};
use graft_kernels::ops::rope::RopeTable;

/// What is kept of one sequence between its forward and its backward, and the buffers of both.
#[derive(Debug)]
pub struct Activations {
    /// Inputs of the layers from `lowest` on, `[layers - lowest][T, W]`.
    inputs: Inputs,
    half_inputs: bool,
    /// The top layers have one each; the lowest of these lends its slot to all layers below.
    slots: Vec<Slot>,
    lowest: usize,
    stream_weights: bool,
    /// Ends a pass between two layers.
    cancel: Cancel,
    rope: RopeTable,
    scratch: Scratch,
    back: BackwardScratch,
    /// A recomputed layer's stream, `[T, W]`; empty if none is.
    stream: Floats,
    /// What a device keeps of the layers that it runs.
    device: Option<Box<dyn DeviceTraining>>,
    loss_on_device: bool,
    /// The layer that the processor's backward has just left.
    complete: Option<usize>,
    _counted: [Hold; 2],
}

/// Inputs of layers, `[T, W]` each.
#[derive(Debug)]
enum Inputs {
    Memory(Vec<Floats>),
    /// As the bits of bf16, and the one in use.
    Half(Vec<Buffer<u16>>, Floats),
    /// One after the other, and the one in use.
    File(FloatFile, Floats),
}

/// Everything inside one layer.
#[derive(Debug)]
struct Slot {
    saved: Saved,
    /// `[T, K * D]`.
    keys: Floats,
    /// `[T, K * D]`.
    values: Floats,
}

/// What decides how much memory training takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActivationPlan {
    /// Most rows at once: of the longest sequence, or of all that run together.
    pub tokens: usize,
    /// How many of the layers, from the bottom, the processor runs: [`Llama::own_layers`].
    pub layers: usize,
    /// Whether a device computes the loss: [`Llama::loss_on_device`]. What its layers made of the rows stays there
    /// then, for [`Activations::device_loss`].
    pub loss_on_device: bool,
    /// Lowest layer that backward visits: the lowest trained one, or 0 for gradients of the rows.
    pub lowest: usize,
    /// How many of the top layers keep everything, the others being computed twice: 1 (and 0) for
    /// the least memory, `usize::MAX` for no recomputation.
    pub kept: usize,
    /// How many of these, if a device runs them and has no room, leave it in the system's memory.
    pub offloaded: usize,
    /// How many of the layers that a device runs have their inputs in the system's memory, because it has no room for
    /// them: all that are visited, or none.
    pub host_inputs: usize,
    /// Largest rank of any attached term.
    pub max_rank: usize,
    /// Whether any term has dropout.
    pub dropout: bool,
    /// Whether a layer's weights leave memory after its turn, to be read again for the next.
    pub stream_weights: bool,
    /// The folder of a file that holds the layers' inputs, instead of memory.
    pub inputs_in: Option<PathBuf>,
    /// Whether the layers' inputs are rounded to bf16, wherever they lie.
    pub half_inputs: bool,
    /// Which frozen layers are multiplied in words.
    pub words: Words,
}

impl ActivationPlan {
    /// The same for a model with `layers` layers, the upper of which a device runs: what this has no room for goes to
    /// the system's memory.
    pub fn beside(self, device: DeviceKept, layers: usize) -> Self {
        let visited = layers.saturating_sub(self.layers.max(self.lowest));
        Self {
            offloaded: self.kept.min(visited).saturating_sub(device.layers),
            host_inputs: if device.inputs { 0 } else { visited },
            ..self
        }
    }

    fn visited(&self) -> usize {
        self.layers - self.lowest.min(self.layers)
    }

    /// None where the processor runs no layer.
    fn slots(&self) -> usize {
        self.kept.min(self.visited()).max(self.layers.min(1))
    }

    /// What a device leaves in the system's memory: what lies inside a layer, as its `Saved` holds it and keys and
    /// values, and inputs.
    pub fn host_bytes(&self, shape: &LlamaShape) -> usize {
        let (query, kv) = (shape.query_width(), shape.kv_width());
        let norms = 2;
        let inside = norms + 2 * (query + kv + shape.feed_forward) + shape.heads + shape.width;
        let floats = self.offloaded * inside + self.host_inputs * shape.width;
        self.tokens * floats * size_of::<f32>()
    }

    fn stream_floats(&self, shape: &LlamaShape) -> usize {
        match self.slots() < self.visited() {
            true => self.tokens * shape.width,
            false => 0,
        }
    }

    fn lora_bytes(&self, shape: &LlamaShape) -> usize {
        let width = if self.dropout {
            shape.widest_input()
        } else {
            0
        };
        super::LoraScratch::bytes(self.tokens, self.max_rank, width)
    }
}

impl Activations {
    /// Buffers for sequences as planned.
    ///
    /// # Errors
    /// If the arena refuses, or the disk refuses the file of the inputs.
    pub fn new(llama: &Llama, plan: &ActivationPlan, arena: &Arena) -> Result<Self> {
        let (shape, tokens) = (llama.shape(), plan.tokens);
        let row = tokens * shape.width;
        let mut scratch = Scratch::new(shape, tokens, plan.words, arena)?;
        let lora = arena.hold(Part::LayerBuffers, plan.lora_bytes(shape))?;
        scratch.reserve_rank(shape, plan.max_rank, plan.dropout);
        let visited = plan.visited();
        let saved = |_| arena.floats(Part::SavedActivations, row);
        Ok(Self {
            inputs: match &plan.inputs_in {
                Some(folder) => Inputs::File(FloatFile::create(folder, visited * row)?, saved(0)?),
                None if plan.half_inputs => {
                    let half = |_| arena.buffer(Part::SavedActivations, row);
                    Inputs::Half((0..visited).map(half).collect::<Result<_, _>>()?, saved(0)?)
                }
                None => Inputs::Memory((0..visited).map(saved).collect::<Result<_, _>>()?),
            },
            half_inputs: plan.half_inputs,
            slots: (0..plan.slots())
                .map(|_| Slot::new(shape, tokens, arena))
                .collect::<Result<_>>()?,
            lowest: plan.lowest,
            stream_weights: plan.stream_weights,
            cancel: Cancel::new(),
            _counted: [
                lora,
                arena.hold(Part::LayerBuffers, rope_bytes(shape, tokens))?,
            ],
            rope: llama.rope_table(tokens),
            scratch,
            back: BackwardScratch::new(shape, tokens, arena)?,
            stream: arena.floats(Part::RecomputeScratch, plan.stream_floats(shape))?,
            device: match llama.device() {
                Some(device) => Some(Arc::clone(device).open_training(plan, arena)?),
                None => None,
            },
            loss_on_device: plan.loss_on_device,
            complete: None,
        })
    }

    /// Adds what [`Activations::new`] takes from its arena.
    pub fn add_to(memory: &mut MemoryPlan, shape: &LlamaShape, plan: &ActivationPlan) {
        let tokens = plan.tokens;
        let row = tokens * shape.width;
        let float = size_of::<f32>();
        let inputs = match plan.inputs_in {
            Some(_) => row * float,
            None if plan.half_inputs => (plan.visited() * size_of::<u16>() + float) * row,
            None => plan.visited() * row * float,
        };
        let slots = plan.slots();
        memory.add(
            Part::SavedActivations,
            inputs + slots * Saved::bytes(shape, tokens) + plan.host_bytes(shape),
        );
        memory.add(Part::KeysAndValues, slots * Slot::kv_bytes(shape, tokens));
        memory.add(Part::RecomputeScratch, plan.stream_floats(shape) * float);
        memory.add(
            Part::LayerBuffers,
            rope_bytes(shape, tokens)
                + Scratch::bytes(shape, tokens)
                + plan.lora_bytes(shape)
                + BackwardScratch::bytes(shape, tokens),
        );
    }

    /// Passes end between two layers, with [`crate::Error::Cancelled`], once `cancel` is raised.
    pub fn heed(&mut self, cancel: &Cancel) {
        self.cancel = cancel.clone();
    }

    /// What computes the loss of the last forward instead of the processor, if that was planned.
    pub fn device_loss(&mut self) -> Option<&mut dyn DeviceTraining> {
        match self.loss_on_device {
            true => self.device.as_deref_mut().map(|device| device as _),
            false => None,
        }
    }

    /// A layer whose gradients are complete and were not said to be before, once [`Llama::backward_layer`] is done
    /// with `layer`; to be asked until there is none. A device's gradients are added here, and may be one layer late.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn complete(
        &mut self,
        layer: usize,
        gradients: &mut dyn GradientView,
    ) -> Result<Option<usize>> {
        match (&mut self.device, self.complete.take()) {
            (_, Some(layer)) => Ok(Some(layer)),
            (Some(device), None) => device.complete(layer, gradients),
            (None, None) => Ok(None),
        }
    }

    /// The layers that backward visits, bottom up.
    pub fn visited(&self, llama: &Llama) -> std::ops::Range<usize> {
        self.lowest..llama.layers().len()
    }

    /// A layer's turn: if weights are streamed, the next layer's are read while it lasts, and its own
    /// leave memory when it ends.
    fn turn<'a>(&self, layer: &'a Layer, next: Option<&Layer>) -> Option<Turn<'a>> {
        self.stream_weights.then(|| {
            if let Some(next) = next {
                next.prefetch();
            }
            Turn(layer)
        })
    }

    /// Which slot a layer of a model with `layers` layers uses.
    fn slot(&self, layer: usize, layers: usize) -> usize {
        (layer + self.slots.len()).saturating_sub(layers)
    }
}

/// A layer whose weights leave memory when this is dropped.
struct Turn<'a>(&'a Layer);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Inputs {
    fn keep(&mut self, layer: usize, rows: &[f32], half: bool) -> Result<()> {
        match self {
            Self::Memory(all) => all[layer][..rows.len()].copy_from_slice(rows),
            Self::Half(all, _) => {
                let bits: &mut [bf16] = all[layer][..rows.len()].reinterpret_cast_mut();
                bits.convert_from_f32_slice(rows);
            }
            Self::File(file, row) if half => {
                let rounded = &mut row[..rows.len()];
                for (to, from) in rounded.iter_mut().zip(rows) {
                    *to = bf16::from_f32(*from).to_f32();
                }
                file.write(layer * row.len(), &row[..rows.len()])?;
            }
            Self::File(file, row) => file.write(layer * row.len(), rows)?,
        }
        Ok(())
    }

    fn get(&mut self, layer: usize, len: usize) -> Result<&[f32]> {
        match self {
            Self::Memory(all) => Ok(&all[layer][..len]),
            Self::Half(all, row) => {
                let bits: &[bf16] = all[layer][..len].reinterpret_cast();
                bits.convert_to_f32_slice(&mut row[..len]);
                Ok(&row[..len])
            }
            Self::File(file, row) => {
                file.read(layer * row.len(), &mut row[..len])?;
                Ok(&row[..len])
            }
        }
    }
}

fn rope_bytes(shape: &LlamaShape, tokens: usize) -> usize {
    tokens * shape.head_width * size_of::<f32>()
}

impl Slot {
    fn new(shape: &LlamaShape, tokens: usize, arena: &Arena) -> Result<Self> {
        let len = tokens * shape.kv_width();
        let [keys, values] = arena.arrays(Part::KeysAndValues, [len, len])?;
        Ok(Self {
            saved: Saved::new(shape, tokens, arena)?,
            keys,
            values,
        })
    }

    fn kv_bytes(shape: &LlamaShape, tokens: usize) -> usize {
        2 * tokens * shape.kv_width() * size_of::<f32>()
    }

    fn parts(&mut self) -> (&mut Saved, KvSlice<'_>) {
        let kv = KvSlice::of(&mut self.keys, &mut self.values);
        (&mut self.saved, kv)
    }
}

impl Llama {
    /// Runs rows `[T, W]` through all layers in place and keeps what [`Llama::backward`] needs. They
    /// are the whole sequences that end at `ends`, one behind the other ([`Pass::ends`]); one sequence
    /// if there are none. If the loss is planned on a device, the result stays there, and `rows` are
    /// meaningless.
    ///
    /// # Errors
    /// If the disk refuses the inputs of the layers, the device fails, or the pass is cancelled.
    ///
    /// # Panics
    /// If there are more rows than planned.
    pub fn forward_saving(
        &self,
        rows: &mut [f32],
        ends: &[usize],
        adapters: &dyn AdapterView,
        activations: &mut Activations,
    ) -> Result<()> {
        let own = self.own_layers();
        let layers = own.len();
        self.pool().run(|| {
            for (i, layer) in own.iter().enumerate() {
                activations.cancel.check()?;
                if let Some(input) = i.checked_sub(activations.lowest) {
                    let half = activations.half_inputs;
                    activations.inputs.keep(input, rows, half)?;
                }
                let _turn = activations.turn(layer, own.get(i + 1));
                if activations.stream_weights && i + 1 == layers {
                    let first = self.output_parts().next();
                    first.iter().for_each(|(_, part)| part.prefetch());
                }
                let slot = activations.slot(i, layers);
                let (saved, kv) = activations.slots[slot].parts();
                let pass = Pass {
                    start: 0,
                    ends,
                    starts: &[],
                    rope: &activations.rope,
                    adapters,
                };
                layer.forward(rows, saved, kv, &pass, &mut activations.scratch);
            }
            Ok::<(), crate::Error>(())
        })?;
        if let Some(device) = &mut activations.device {
            let cancel = &activations.cancel;
            device.forward(rows, ends, adapters, &|| cancel.check())?;
        }
        Ok(())
    }

    /// With the gradient of [`Llama::forward_saving`]'s result in `drows` `[T, W]`, or on the device that
    /// computed the loss: adds to the gradients of adapter 0 and, if `needs_rows` (the plan's `lowest` is 0 then), leaves the
    /// gradient of the rows it was given in `drows`, which is meaningless otherwise.
    ///
    /// `ends` and `adapters` are those of the forward.
    ///
    /// # Errors
    /// If the disk refuses the inputs of the layers, or the pass is cancelled.
    ///
    /// # Panics
    /// If there are more rows than planned, or gradients of rows were not planned for.
    pub fn backward(
        &self,
        drows: &mut [f32],
        ends: &[usize],
        adapters: &(dyn AdapterView + '_),
        gradients: &mut (dyn GradientView + Send + '_),
        needs_rows: bool,
        activations: &mut Activations,
    ) -> Result<()> {
        for layer in activations.visited(self).rev() {
            self.backward_layer(
                layer,
                drows,
                ends,
                adapters,
                gradients,
                needs_rows,
                activations,
            )?;
            while activations.complete(layer, gradients)?.is_some() {}
        }
        Ok(())
    }

    /// One layer's part of [`Llama::backward`], for whoever has something to do in between. The layers
    /// come in the order of [`Activations::visited`], the top one first; [`Activations::complete`] is asked after each.
    ///
    /// # Errors
    /// As [`Llama::backward`].
    ///
    /// # Panics
    /// As [`Llama::backward`].
    #[allow(clippy::too_many_arguments)] // those of backward, and which layer
    pub fn backward_layer(
        &self,
        layer: usize,
        drows: &mut [f32],
        ends: &[usize],
        adapters: &(dyn AdapterView + '_),
        gradients: &mut (dyn GradientView + Send + '_),
        needs_rows: bool,
        activations: &mut Activations,
    ) -> Result<()> {
        let layers = self.own_layers().len();
        let lowest = activations.lowest;
        assert!(
            !needs_rows || lowest == 0,
            "layers below {lowest} were not kept"
        );
        if layer >= layers
            && let Some(device) = &mut activations.device
        {
            activations.cancel.check()?;
            let needs_input = needs_rows || layer > lowest;
            return device.backward_layer(layer, drows, ends, adapters, gradients, needs_input);
        }
        let slot = activations.slot(layer, layers);
        let recompute = layer + activations.slots.len() < layers;
        let below = layer.checked_sub(1).filter(|&below| below >= lowest);
        let below = below.map(|below| &self.layers()[below]);
        let needs_input = needs_rows || layer > lowest;
        let number = layer - lowest;
        activations.cancel.check()?;
        activations.complete = Some(layer);
        let layer = &self.layers()[layer];
        self.pool().run(|| {
            let pass = Pass {
                start: 0,
                ends,
                starts: &[],
                rope: &activations.rope,
                adapters,
            };
            let _turn = activations.turn(layer, below);
            let x = activations.inputs.get(number, drows.len())?;
            let scratch = &mut activations.scratch;
            if recompute {
                let stream = &mut activations.stream[..drows.len()];
                stream.copy_from_slice(x);
                let (saved, kv) = activations.slots[slot].parts();
                layer.recompute(stream, saved, kv, &pass, scratch);
            }
            let (saved, kv) = activations.slots[slot].parts();
            let work = Work {
                gradients,
                needs_input,
                scratch,
                back: &mut activations.back,
            };
            layer.backward(drows, Kept { x, saved, kv }, &pass, work);
            Ok(())
        })
    }
}
