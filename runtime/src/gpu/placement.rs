//! How much of a model a device's budget holds.

use graft_gpu::Device;

use super::buffers::{KeysAndValues, Saved, Scratch};
use super::encoder;
use super::loss::LossPlace;
use super::training::training_bytes;
use super::weights::LayerWeights;
use crate::Result;
use crate::device::{DeviceError, DeviceOptions};
use crate::model::{Llama, LlamaShape, Vision};

/// Rows whose logits are computed at once.
pub(super) const OUTPUT_ROWS: usize = 8;

/// Positions that are left room for where nobody says how many.
const DEFAULT_CONTEXT: usize = 4096;

/// What goes to the device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Placement {
    /// The first layer that does.
    pub first: usize,
    /// How many of them, the lowest, are written again for each pass because not all fit.
    pub streamed: usize,
    /// Whether the output matrix does, for good.
    pub output: bool,
    /// How training's loss is computed there, if it is.
    pub loss: Option<LossPlace>,
    /// Rows of a pass.
    pub tokens: usize,
    /// Bytes that were left for one sequence, or for training.
    pub reserved: u64,
}

impl Placement {
    /// As many of the upper layers as the device has room for beside what is there, or as were asked for; `None` if none
    /// was.
    ///
    /// # Errors
    /// If what was asked for does not fit, or not one layer does.
    pub fn choose(
        device: &Device,
        llama: &Llama,
        vision: Option<&Vision>,
        options: &DeviceOptions,
        there: Option<There>,
    ) -> Result<Option<Self>> {
        if options.layers == Some(0) {
            return Ok(None);
        }
        let (shape, layers) = (llama.shape(), llama.layers().len());
        let memory = device.memory();
        let free = memory.limit.saturating_sub(memory.held);
        let tokens = [512, 128, 32].into_iter();
        let mut tokens = tokens.filter(|&tokens| pass_bytes(device, shape, tokens) <= free / 8);
        let tokens = match there {
            Some(there) => there.tokens,
            None => tokens.next().unwrap_or(8),
        };
        let sizes = Sizes::of(device, llama, vision, options, tokens, there);
        let count = match (options.layers, options.training) {
            (Some(asked), _) => asked.min(layers),
            (None, Some(_)) => layers,
            (None, None) => {
                let fits = |&count: &usize| sizes.needed(count, 0) <= free;
                (1..=layers).rev().find(fits).unwrap_or(1)
            }
        };
        let most = match (options.training, there) {
            (None, _) => 0,
            (Some(_), None) => count,
            (Some(_), Some(there)) => there.first.saturating_sub(layers - count),
        };
        // As many layers as possible stay; of the ways of the loss that leave them there, the fastest is taken.
        let with_loss = (0..=most).find_map(|streamed| {
            let layers = sizes.needed(count, streamed);
            let fits = |way: &&LossWay| layers + way.bytes + way.matrix <= free;
            Some((streamed, Some(sizes.losses.iter().find(fits)?)))
        });
        let alone = || {
            let streamed = (0..=most).find(|&n| sizes.needed(count, n) <= free)?;
            Some((streamed, None))
        };
        let Some((streamed, loss)) = with_loss.or_else(alone) else {
            return Err(DeviceError::NoRoom {
                device: device.adapter().name.clone(),
                layers: count,
                needed: sizes.needed(count, most),
                context: context_of(shape, options),
                free,
            }
            .into());
        };
        let output = match options.training {
            Some(_) => loss.is_some_and(|loss| loss.way.stays),
            None => {
                let room = |bytes| sizes.needed(count, streamed) + bytes <= free;
                count == layers && sizes.output.is_some_and(room)
            }
        };
        let of_loss = loss.map_or(0, |loss| loss.bytes);
        Ok(Some(Self {
            first: layers - count,
            streamed,
            output,
            loss: loss.map(|loss| loss.way),
            tokens,
            reserved: sizes.single + sizes.kv * count as u64 + of_loss,
        }))
    }
}

/// What a device holds of a model already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct There {
    /// The layers from this one on.
    pub first: usize,
    /// The output matrix, with the logits of sessions.
    pub output: bool,
    /// Rows of a pass.
    pub tokens: usize,
}

/// What the parts of a placement take, in bytes; nothing for what is there.
struct Sizes {
    /// The matrices and norms of each layer of the model, bottom up.
    layers: Vec<u64>,
    /// A layer's keys and values of one sequence; none in training.
    kv: u64,
    /// What one sequence or training takes besides.
    single: u64,
    /// All that does not depend on how many layers there are.
    fixed: u64,
    /// The output matrix with the logits of sessions, if a kernel can see a row.
    output: Option<u64>,
    /// How training's loss could be computed, the fastest first.
    losses: Vec<LossWay>,
}

/// One way of computing training's loss.
struct LossWay {
    way: LossPlace,
    bytes: u64,
    /// The output matrix, if it stays.
    matrix: u64,
}

impl Sizes {
    fn of(
        device: &Device,
        llama: &Llama,
        vision: Option<&Vision>,
        options: &DeviceOptions,
        tokens: usize,
        there: Option<There>,
    ) -> Self {
        let shape = llama.shape();
        let images = vision.map_or(0, |vision| encoder::smallest_bytes(device, vision));
        let (kv, single, beside) = match options.training {
            // Sessions that look at what was learned take what is left; images are encoded before.
            Some(room) => {
                let training = training_bytes(device, shape, room.tokens, room.rank);
                (0, training, training.max(images))
            }
            None => {
                let context = context_of(shape, options);
                let rope = device.tensor_bytes(context, shape.head_width);
                let kv = KeysAndValues::bytes(device, shape, context);
                (kv, rope, rope + images)
            }
        };
        let output = match there {
            Some(There { output: true, .. }) => Some(0),
            _ => output_bytes(device, llama),
        };
        let ty = llama.output().weight().quant_type();
        let losses = options.training.map(|room| {
            let ways = LossPlace::ways(shape, room.tokens).filter_map(|way| {
                let bytes = way.bytes(device, shape, ty, room.tokens)?;
                let matrix = if way.stays { output? } else { 0 };
                Some(LossWay { way, bytes, matrix })
            });
            ways.collect()
        });
        let norms = LayerWeights::norm_bytes(device, shape.width);
        let first_there = there.map_or(usize::MAX, |there| there.first);
        let layers = llama.layers().iter().enumerate();
        let layers = layers.map(|(i, layer)| match i < first_there {
            true => LayerWeights::bytes(device, layer) + norms,
            false => 0,
        });
        let passes = match there {
            Some(_) => 0,
            None => pass_bytes(device, shape, tokens),
        };
        Self {
            layers: layers.collect(),
            kv,
            single,
            fixed: beside + passes,
            output,
            losses: losses.unwrap_or_default(),
        }
    }

    /// What the upper `count` layers need if the lowest `streamed` of them do not stay.
    fn needed(&self, count: usize, streamed: usize) -> u64 {
        let (passing, stay) = self.layers[self.layers.len() - count..].split_at(streamed);
        let ring = match passing.iter().max() {
            Some(largest) => 2 * largest,
            None => 0,
        };
        self.fixed + self.kv * count as u64 + stay.iter().sum::<u64>() + ring
    }
}

/// Positions to leave room for.
fn context_of(shape: &LlamaShape, options: &DeviceOptions) -> usize {
    match options.context_length {
        0 => shape.context_length.clamp(1, DEFAULT_CONTEXT),
        asked => asked,
    }
}

/// Bytes of the output matrix and of the logits of sessions, if a kernel can see a row.
fn output_bytes(device: &Device, llama: &Llama) -> Option<u64> {
    let weight = llama.output().weight();
    let (ty, outputs) = (weight.quant_type(), weight.outputs());
    let matrix = device.matrix_bytes(ty, outputs, weight.inputs())?;
    Some(matrix + device.tensor_bytes(OUTPUT_ROWS, outputs))
}

/// Bytes that passes write besides keys and values.
fn pass_bytes(device: &Device, shape: &LlamaShape, tokens: usize) -> u64 {
    Saved::bytes(device, shape, tokens)
        + Scratch::bytes(device, shape, tokens)
        + device.tensor_bytes(tokens, shape.width)
}
