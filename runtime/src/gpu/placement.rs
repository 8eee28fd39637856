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
    /// As many of the upper layers as the device has room for, or as were asked for; `None` if none was.
    ///
    /// # Errors
    /// If what was asked for does not fit, or not one layer does.
    pub fn choose(
        device: &Device,
        llama: &Llama,
        vision: Option<&Vision>,
        options: &DeviceOptions,
    ) -> Result<Option<Self>> {
        let (shape, layers) = (llama.shape(), llama.layers());
        let context = match options.context_length {
            0 => shape.context_length.clamp(1, DEFAULT_CONTEXT),
            asked => asked,
        };
        let memory = device.memory();
        let free = memory.limit.saturating_sub(memory.held);
        let tokens = [512, 128, 32].into_iter();
        let mut tokens = tokens.filter(|&tokens| pass_bytes(device, shape, tokens) <= free / 8);
        let tokens = tokens.next().unwrap_or(8);
        let norms = LayerWeights::norm_bytes(device, shape.width);
        let images = vision.map_or(0, |vision| encoder::smallest_bytes(device, vision));
        // Of each layer and of all together, for a sequence or for training.
        let (kv, single) = match options.training {
            // Sessions that look at what was learned take what is left.
            Some(room) => (0, training_bytes(device, shape, room.tokens, room.rank)),
            None => {
                let kv = KeysAndValues::bytes(device, shape, context);
                (kv, device.tensor_bytes(context, shape.head_width))
            }
        };
        let beside = match options.training {
            // Images are encoded before.
            Some(_) => single.max(images),
            None => single + images,
        };
        let (each, fixed) = (norms + kv, beside + pass_bytes(device, shape, tokens));
        let bytes = layers
            .iter()
            .map(|layer| LayerWeights::bytes(device, layer));
        let bytes: Vec<u64> = bytes.collect();
        // What the upper `count` layers need if the lowest `streamed` of them do not stay.
        let needed = |count: usize, streamed: usize| {
            let (passing, stay) = bytes[layers.len() - count..].split_at(streamed);
            let largest = passing.iter().max().copied().unwrap_or(0);
            let ring = if streamed > 0 {
                2 * (largest + norms)
            } else {
                0
            };
            fixed + each * count as u64 + stay.iter().sum::<u64>() + ring
        };
        let count = match (options.layers, options.training) {
            (Some(asked), _) => asked.min(layers.len()),
            (None, Some(_)) => layers.len(),
            (None, None) => (1..=layers.len())
                .rev()
                .find(|&n| needed(n, 0) <= free)
                .unwrap_or(0),
        };
        if options.layers == Some(0) {
            return Ok(None);
        }
        let count = count.max(1);
        let most = if options.training.is_some() { count } else { 0 };
        let output = output_bytes(device, llama);
        let mut losses = Vec::new();
        if let Some(room) = options.training {
            let ty = llama.output().weight().quant_type();
            let ways = LossPlace::ways(shape, room.tokens).filter_map(|way| {
                let buffers = way.bytes(device, shape, ty, room.tokens)?;
                let matrix = if way.stays { output? } else { 0 };
                Some((way, buffers + matrix))
            });
            losses.extend(ways);
        }
        // As many layers as possible stay; of the ways of the loss that leave them there, the fastest is taken.
        let with_loss = (0..=most).find_map(|streamed| {
            let layers = needed(count, streamed);
            let fits = |&&(_, bytes): &&(LossPlace, u64)| layers + bytes <= free;
            let &(way, _) = losses.iter().find(fits)?;
            Some((streamed, Some(way)))
        });
        let alone = || Some(((0..=most).find(|&n| needed(count, n) <= free)?, None));
        let Some((streamed, loss)) = with_loss.or_else(alone) else {
            return Err(DeviceError::NoRoom {
                device: device.adapter().name.clone(),
                layers: count,
                needed: needed(count, most),
                context,
                free,
            }
            .into());
        };
        let output = match options.training {
            Some(_) => loss.is_some_and(|way| way.stays),
            None => {
                let fits = output.is_some_and(|bytes| needed(count, streamed) + bytes <= free);
                fits && count == layers.len()
            }
        };
        let of_loss = loss.zip(options.training).and_then(|(way, room)| {
            let ty = llama.output().weight().quant_type();
            way.bytes(device, shape, ty, room.tokens)
        });
        let reserved = single + kv * count as u64 + of_loss.unwrap_or(0);
        Ok(Some(Self {
            first: layers.len() - count,
            streamed,
            output,
            loss,
            tokens,
            reserved,
        }))
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
