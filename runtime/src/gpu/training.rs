//! Training on a device: what its layers keep between forward and backward, and backward.
//!
//! The adapter in training and its optimizer are the processor's; a layer's pairs are written to the device
//! before its turn, and its gradients are read back after it. The inputs of layers stay on the device, or go to
//! the processor's memory where the budget is small. The loss is computed here too where the placement has room for
//! it, so that the residual stream stays. Of what lies inside a layer the top layers keep as many as
//! there is room for; the others leave it in the processor's memory, where the plan has room for it, or are computed
//! again, as [`crate::model::Activations`] does.

use std::collections::VecDeque;
use std::sync::Arc;

use graft_gpu::{
    Arena, Device, Download, Part, Product, Recorder, RopeTurns, Rounding, Submission, Tensor,
};

use super::buffers::{BackwardScratch, LoraScratch, Scratch};
use super::gradients::{LayerGradients, Learning};
use super::layer::{LayerAt, Pass, Read, Work};
use super::layers::GpuLayers;
use super::loss::GpuLoss;
use super::pairs::{Pairs, Resident};
use super::slots::{Room, Slot, Slots, in_system_memory};
use crate::Result;
use crate::device::DeviceError;
use crate::memory::{self, Floats};
use crate::model::{
    ActivationPlan, AdapterView, DeviceKept, DeviceTraining, GradientView, LlamaShape, Site,
    SiteKind,
};

/// One pass after the other, each with forward and perhaps backward.
#[derive(Debug)]
pub(super) struct GpuTraining {
    layers: Arc<GpuLayers>,
    /// The lowest layer that backward visits here.
    lowest: usize,
    inputs: Inputs,
    slots: Slots,
    /// The residual stream, and its gradient, `[T, W]`.
    x: Tensor,
    dx: Tensor,
    scratch: Scratch,
    back: BackwardScratch,
    lora: LoraScratch,
    rope: RopeTurns,
    /// Layers' pairs.
    pairs: Arena,
    gradients: LayerGradients,
    loss: Option<GpuLoss>,
    /// Rows of the last forward.
    tokens: usize,
}

/// Inputs of layers, `[T, W]` each.
#[derive(Debug)]
enum Inputs {
    Device(Vec<Tensor>),
    /// And the one in use, on the device.
    Host(Vec<Floats>, Tensor),
}

/// Bytes that training takes besides the inputs of layers and all slots but one.
pub(super) fn training_bytes(
    device: &Device,
    shape: &LlamaShape,
    tokens: usize,
    rank: usize,
) -> u64 {
    Slot::bytes(device, shape, tokens)
        + 3 * device.tensor_bytes(tokens, shape.width)
        + Scratch::bytes(device, shape, tokens)
        + BackwardScratch::bytes(device, shape, tokens)
        + LoraScratch::bytes(device, LoraScratch::widest(shape), tokens, rank)
        + device.tensor_bytes(tokens, shape.head_width)
        + pair_bytes(device, shape, rank)
        + LayerGradients::bytes(device, shape, rank)
}

/// What would have room in what is free now.
pub(super) fn kept(layers: &GpuLayers, plan: &ActivationPlan) -> DeviceKept {
    let (device, shape, tokens) = (&layers.device, &layers.shape, plan.tokens);
    let last = layers.first + layers.weights.len();
    let visited = last - plan.lowest.max(layers.first).min(last);
    let loss = layers.head.loss.filter(|_| plan.loss_on_device);
    let ty = layers.head.weight.quant_type();
    let loss = loss.and_then(|way| way.bytes(device, shape, ty, tokens));
    let counted = Slot::bytes(device, shape, tokens) + device.tensor_bytes(tokens, shape.width);
    let fixed = training_bytes(device, shape, tokens, plan.max_rank) - counted;
    let memory = device.memory();
    let taken = memory.held + fixed + loss.unwrap_or(0);
    let free = memory.limit.saturating_sub(taken);
    let room = Room::of(device, shape, tokens, free, visited);
    DeviceKept {
        inputs: room.inputs,
        layers: room.slots.min(visited),
        computes_again: computes_again(device, shape, tokens).unwrap_or(false),
    }
}

/// Whether computing a layer's forward again, but for its last product, is faster than bringing what lies inside it to
/// the system's memory and back. Nothing where the device was not tried: in software there is no way to go.
fn computes_again(device: &Device, shape: &LlamaShape, tokens: usize) -> Option<bool> {
    let trial = device.trial()?;
    let kinds = SiteKind::ALL.iter().filter(|&&kind| kind != SiteKind::Down);
    let weights: usize = kinds
        .map(|&kind| shape.linear(kind))
        .map(|(o, i)| o * i)
        .sum();
    let flop = 2.0 * (tokens * weights) as f64;
    let again = trial.computing(Product::Forward, Rounding::Halves, flop)?;
    let passing = trial.passing(Slot::bytes(device, shape, tokens))?;
    Some(again < passing)
}

/// Bytes of a layer's pairs; those of the layer before leave their place when they are recorded.
fn pair_bytes(device: &Device, shape: &LlamaShape, rank: usize) -> u64 {
    let pairs = SiteKind::ALL.map(|kind| {
        let (outputs, inputs) = shape.linear(kind);
        device.tensor_bytes(rank, inputs) + device.tensor_bytes(outputs, rank)
    });
    pairs.iter().sum()
}

impl GpuTraining {
    /// Room for passes as planned.
    ///
    /// # Errors
    /// If the budget, the device or the system has none.
    pub fn new(
        layers: Arc<GpuLayers>,
        plan: &ActivationPlan,
        system: &memory::Arena,
    ) -> Result<Self> {
        let (device, shape, tokens) = (&layers.device, &layers.shape, plan.tokens);
        let last = layers.first + layers.weights.len();
        let lowest = plan.lowest.max(layers.first).min(last);
        let visited = last - lowest;
        let row = device.tensor_bytes(tokens, shape.width);
        let rows = device.arena_of(Part::LayerBuffers, [row, row])?;
        let mut lora = LoraScratch::default();
        lora.reserve(device, LoraScratch::widest(shape), tokens, plan.max_rank)?;
        let rank = plan.max_rank;
        let pairs = device.arena(Part::Trained, pair_bytes(device, shape, rank))?;
        let sums = LayerGradients::bytes(device, shape, rank);
        let sums = device.arena(Part::Trained, sums)?;
        let (scratch, back) = (
            Scratch::new(device, shape, tokens)?,
            BackwardScratch::new(device, shape, tokens)?,
        );
        let rope = layers.rope(tokens)?;
        let loss = plan.loss_on_device;
        let loss = loss.then(|| GpuLoss::new(&layers, tokens, plan.stream_weights));
        let loss = loss.transpose()?;
        let inputs = match plan.host_inputs {
            0 => {
                let runs = std::iter::repeat_n(row, visited);
                let arena = device.arena_of(Part::SavedActivations, runs)?;
                let inputs = (0..visited).map(|_| arena.tensor(tokens, shape.width));
                Inputs::Device(inputs.collect::<Result<_, _>>()?)
            }
            _ => {
                let arena = device.arena(Part::SavedActivations, row)?;
                let inputs = in_system_memory(system, visited, tokens * shape.width)?;
                Inputs::Host(inputs, arena.tensor(tokens, shape.width)?)
            }
        };
        let memory = device.memory();
        let free = memory.limit.saturating_sub(memory.held);
        let kept = plan.kept.min(visited);
        let slots = kept.min(Room::slots(device, shape, tokens, free)).max(1);
        let away = plan.offloaded.min(kept.saturating_sub(slots));
        Ok(Self {
            lowest,
            inputs,
            slots: Slots::new(device, shape, tokens, (slots, away), last, system)?,
            x: rows.tensor(tokens, shape.width)?,
            dx: rows.tensor(tokens, shape.width)?,
            scratch,
            back,
            lora,
            rope,
            pairs,
            gradients: LayerGradients::cut(&sums, shape, rank)?,
            loss,
            tokens: 0,
            layers,
        })
    }

    fn last(&self) -> usize {
        self.layers.first + self.layers.weights.len()
    }

    fn pass<'a>(&'a self, ends: &'a [usize], adapters: &'a Resident<'a>) -> Pass<'a> {
        Pass {
            shape: &self.layers.shape,
            attention: self.layers.attention,
            start: 0,
            ends,
            keeps: true,
            rope: &self.rope,
            adapters,
            scratch: &self.scratch,
            lora: &self.lora,
        }
    }

    /// What a layer's adapters add, written before its turn.
    fn pairs_of<'a>(
        &self,
        recorder: &mut Recorder,
        layer: usize,
        view: &'a dyn AdapterView,
    ) -> Result<Resident<'a>> {
        let sites = SiteKind::ALL.map(|linear| Site::Layer { layer, linear });
        let sizes = &|site| self.layers.shape.sizes(site);
        let pairs = (0..view.count()).map(|n| {
            let sites = sites.into_iter();
            let pairs = Pairs::write(recorder, &self.pairs, view, n, sites, sizes);
            pairs.map(Arc::new)
        });
        Ok(Resident::new(view, pairs.collect::<Result<_>>()?))
    }
}

impl DeviceTraining for GpuTraining {
    fn forward(
        &mut self,
        rows: &mut [f32],
        ends: &[usize],
        adapters: &dyn AdapterView,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let device = self.layers.device.clone();
        let tokens = rows.len() / self.layers.shape.width;
        self.tokens = tokens;
        self.gradients.forget();
        let x = self.x.slice(0..tokens)?;
        let mut recorder = Recorder::new(&device)?;
        recorder.write(&x, rows)?;
        let mut before: Option<Submission> = None;
        let mut coming = VecDeque::new();
        for number in self.layers.first..self.last() {
            check()?;
            if let Some(input) = number.checked_sub(self.lowest) {
                match &mut self.inputs {
                    Inputs::Device(all) => recorder.copy(&all[input].slice(0..tokens)?, &x)?,
                    Inputs::Host(..) if x.len() <= device.slot_floats() => {
                        coming.push_back((input, recorder.read(&x)?));
                    }
                    Inputs::Host(all, _) => {
                        let next = Recorder::new(&device)?;
                        std::mem::replace(&mut recorder, next).submit()?;
                        device.read(&x, &mut all[input][..rows.len()])?;
                    }
                }
            }
            let resident = self.pairs_of(&mut recorder, number, adapters)?;
            let weights = self.layers.weights(number, &mut recorder)?;
            let layer = LayerAt {
                number,
                weights: &weights,
            };
            let Slot { saved, kv } = self.slots.of(number);
            let read = Read {
                keys: &kv.keys.slice(0..tokens)?,
                values: &kv.values.slice(0..tokens)?,
            };
            layer.forward(&mut recorder, &x, saved, read, &self.pass(ends, &resident))?;
            let next = Recorder::new(&device)?;
            let now = std::mem::replace(&mut recorder, next).submit()?;
            if let Some(before) = before.replace(now) {
                before.wait()?;
            }
            // The latest is on its way while the next layer is recorded.
            while coming.len() > 1 {
                self.inputs.take(&mut coming, rows.len())?;
            }
            if number >= self.lowest {
                self.slots
                    .leave(&device, &self.layers.shape, number, tokens)?;
            }
        }
        drop(recorder);
        while !coming.is_empty() {
            self.inputs.take(&mut coming, rows.len())?;
        }
        if self.loss.is_none() {
            device.read(&x, rows)?;
        }
        Ok(())
    }

    fn loss(&mut self, targets: &[(usize, i32)], scale: Option<f32>) -> Result<f64> {
        let Some(loss) = &self.loss else {
            let what = "the loss is not computed on the device";
            return Err(DeviceError::Refused(what.to_owned()).into());
        };
        let rows = 0..self.tokens;
        let (x, dx) = (self.x.slice(rows.clone())?, self.dx.slice(rows)?);
        loss.run(&self.layers, &x, scale.map(|scale| (&dx, scale)), targets)
    }

    fn backward_layer(
        &mut self,
        number: usize,
        drows: &mut [f32],
        ends: &[usize],
        adapters: &dyn AdapterView,
        gradients: &mut dyn GradientView,
        needs_input: bool,
    ) -> Result<()> {
        let device = self.layers.device.clone();
        let (shape, tokens) = (&self.layers.shape, drows.len() / self.layers.shape.width);
        let dx = self.dx.slice(0..tokens)?;
        let mut recorder = Recorder::new(&device)?;
        if number + 1 == self.last() && self.loss.is_none() {
            recorder.write(&dx, drows)?;
        }
        let input = match &self.inputs {
            Inputs::Device(all) => all[number - self.lowest].slice(0..tokens)?,
            Inputs::Host(all, one) => {
                let one = one.slice(0..tokens)?;
                recorder.write(&one, &all[number - self.lowest][..drows.len()])?;
                one
            }
        };
        let resident = self.pairs_of(&mut recorder, number, adapters)?;
        let weights = self.layers.weights(number, &mut recorder)?;
        let layer = LayerAt {
            number,
            weights: &weights,
        };
        let Slot { saved, kv } = self.slots.of(number);
        let read = Read {
            keys: &kv.keys.slice(0..tokens)?,
            values: &kv.values.slice(0..tokens)?,
        };
        let pass = self.pass(ends, &resident);
        if !self.slots.fetch(&mut recorder, shape, number, tokens)? {
            let stream = self.x.slice(0..tokens)?;
            recorder.copy(&stream, &input)?;
            layer.attend(&mut recorder, &stream, saved, read, &pass)?;
        }
        let mut learning: Vec<Learning> = Vec::new();
        for linear in SiteKind::ALL {
            let site = Site::Layer {
                layer: number,
                linear,
            };
            if let (Some(term), Some(sizes)) = (resident.terms(site).next(), shape.sizes(site))
                && gradients.at(site).is_some()
            {
                learning.push((site, term.rank, sizes));
            }
        }
        let sums = self.gradients.begin(&mut recorder, &learning)?;
        let work = Work {
            back: &self.back,
            gradients: &|site| {
                let sums = sums.iter().find(|(at, _)| *at == site);
                sums.map(|(_, sums)| sums.clone())
            },
            needs_input,
        };
        layer.backward(&mut recorder, (&dx, &input), saved, read, &pass, &work)?;
        self.gradients.submit(recorder, number, &learning)?;
        if number == self.lowest && needs_input {
            device.read(&dx, drows)?;
        }
        Ok(())
    }

    fn complete(
        &mut self,
        layer: usize,
        gradients: &mut dyn GradientView,
    ) -> Result<Option<usize>> {
        let ahead = if layer > self.lowest { 1 } else { 0 };
        self.gradients.take(ahead, gradients)
    }
}

impl Inputs {
    /// Waits for the first of those that are under way to the processor.
    fn take(&mut self, coming: &mut VecDeque<(usize, Download)>, len: usize) -> Result<()> {
        if let (Self::Host(all, _), Some((input, download))) = (self, coming.pop_front()) {
            download.wait(&mut all[input][..len])?;
        }
        Ok(())
    }
}
