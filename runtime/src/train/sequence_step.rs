//! One pack, a sequence or several: forward, loss, backward, into gradients.

use super::features::Features;
use super::loss::{LossBuffers, loss};
use super::packs::{Extent, Pack};
use super::parameters::{DropoutStream, Gradients, Parameters};
use crate::Result;
use crate::cancel::Cancel;
use crate::memory::{Arena, Floats, MemoryPlan, Part};
use crate::model::llava::{Sequence, Span};
use crate::model::{
    ActivationPlan, Activations, Llama, LlamaShape, Model, Projector, ProjectorSaved, Widest,
};

/// A sample ready for training: positions, labels, and its images' features before the projector.
#[derive(Clone, Debug)]
pub struct Example {
    /// The sample's id, for messages.
    pub id: String,
    /// Its positions and labels.
    pub sequence: Sequence,
    /// Vision-tower features of each image, `[P, Wv]`.
    pub features: Vec<Features>,
}

impl Example {
    /// Positions that are learned.
    pub fn targets(&self) -> usize {
        self.sequence.targets().count()
    }

    /// What packs and the order of a run depend on.
    pub fn extent(&self) -> Extent {
        Extent::of(&self.sequence)
    }
}

/// Examples that run together.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// The examples of the run.
    pub examples: &'a [Example],
    /// Which of them.
    pub pack: &'a Pack,
}

impl<'a> Packed<'a> {
    /// Each example with its first row.
    fn places(&self) -> impl Iterator<Item = (&'a Example, usize)> + use<'a> {
        let Self { examples, pack } = *self;
        pack.places().map(|(i, row)| (&examples[i], row))
    }
}

/// The largest image of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ImageSizes {
    /// Its patches.
    pub patches: usize,
    /// Values of its features, if they lie on the disk; 0 otherwise.
    pub features: usize,
    /// What a frozen projector reads rounded ([`Projector::rounding`]); nothing for one that learns.
    pub rounding: Widest,
}

/// Buffers for one pack at a time.
#[derive(Debug)]
pub struct SequenceBuffers {
    stream_weights: bool,
    activations: Activations,
    rows: Floats,
    drows: Floats,
    targets: Vec<(usize, i32)>,
    loss: LossBuffers,
    projector: ProjectorSaved,
    projector_work: ProjectorSaved,
    projected: Floats,
    /// Of the image in use, if they lie on the disk.
    features: Floats,
}

impl SequenceBuffers {
    /// Buffers for packs as planned, with images of these sizes.
    ///
    /// # Errors
    /// If the arena refuses, or the disk refuses what the plan puts there.
    pub fn new(
        llama: &Llama,
        plan: &ActivationPlan,
        images: ImageSizes,
        arena: &Arena,
    ) -> Result<Self> {
        let ImageSizes {
            patches,
            features,
            rounding,
        } = images;
        let shape = llama.shape();
        let row = plan.tokens * shape.width;
        let [rows, drows] = arena.arrays(Part::LayerBuffers, [row, row])?;
        let lens = [patches * shape.width, features];
        let [projected, features] = arena.arrays(Part::Projector, lens)?;
        Ok(Self {
            stream_weights: plan.stream_weights,
            activations: Activations::new(llama, plan, arena)?,
            rows,
            drows,
            targets: Vec::with_capacity(plan.tokens),
            loss: LossBuffers::new(llama, plan, arena)?,
            projector: ProjectorSaved::new(patches, shape.width, rounding, arena)?,
            projector_work: ProjectorSaved::new(patches, shape.width, Widest::default(), arena)?,
            projected,
            features,
        })
    }

    /// Adds what [`SequenceBuffers::new`] takes from its arena.
    pub fn add_to(
        memory: &mut MemoryPlan,
        shape: &LlamaShape,
        plan: &ActivationPlan,
        images: ImageSizes,
    ) {
        let ImageSizes {
            patches,
            features,
            rounding,
        } = images;
        let rows = 2 * plan.tokens * shape.width * size_of::<f32>();
        memory.add(Part::LayerBuffers, rows);
        Activations::add_to(memory, shape, plan);
        LossBuffers::add_to(memory, shape, plan);
        let floats = patches * shape.width + features;
        let saved =
            [rounding, Widest::default()].map(|r| ProjectorSaved::bytes(patches, shape.width, r));
        memory.add(
            Part::Projector,
            saved.iter().sum::<usize>() + floats * size_of::<f32>(),
        );
    }
}

/// What is to become of a pack's loss.
pub struct Learning<'a> {
    /// The gradient of `scale * loss` is added to these.
    pub gradients: &'a mut Gradients,
    /// What the loss is multiplied by.
    pub scale: f32,
    /// Called when a layer's gradients are complete.
    pub after_layer: Option<&'a mut AfterLayer<'a>>,
}

/// Gets the number of a layer, which no later part of the backward needs, the parameters and the
/// gradients.
pub type AfterLayer<'a> = dyn FnMut(usize, &mut Parameters, &mut Gradients) -> Result<()> + 'a;

/// Runs one pack and returns its summed loss; a loss that is not finite has no gradient. A raised `cancel` ends it
/// between two layers, as long as nothing has changed.
///
/// # Errors
/// If a token is outside the vocabulary, the disk refuses what lies there, or the pass is cancelled.
pub fn run(
    model: &Model,
    packed: &Packed<'_>,
    parameters: &mut Parameters,
    dropout: DropoutStream,
    learning: Option<Learning<'_>>,
    cancel: &Cancel,
    buffers: &mut SequenceBuffers,
) -> Result<f64> {
    let llama = model.llama();
    let width = llama.shape().width;
    let length = packed.pack.rows() * width;
    let ends = packed.pack.ends();
    let images = Images {
        frozen: model.vision().map(|v| v.projector()),
        parameters,
    };
    for (example, row) in packed.places() {
        embed(llama, example, row, &images, buffers)?;
    }
    let rows = &mut buffers.rows[..length];
    if buffers.stream_weights {
        llama.release_embedding();
    }
    buffers.activations.heed(cancel);
    let training = dropout.view(&parameters.adapter);
    llama.forward_saving(rows, ends, &training, &mut buffers.activations)?;
    buffers.targets.clear();
    for (example, row) in packed.places() {
        let targets = example.sequence.targets();
        let targets = targets.map(|(position, label)| (row + position, label));
        buffers.targets.extend(targets);
    }
    let mut drows = learning.is_some().then(|| {
        let drows = &mut buffers.drows[..length];
        drows.fill(0.0);
        drows
    });
    let (targets, work) = (&buffers.targets, &mut buffers.loss);
    let scale = learning.as_ref().map(|l| l.scale);
    let sum = match buffers.activations.device_loss() {
        Some(device) => device.loss(targets, scale)?,
        None => {
            let (drows, scale) = (drows.as_deref_mut(), scale.unwrap_or_default());
            loss(llama, rows, drows, targets, scale, work)
        }
    };
    let (Some(learning), Some(drows)) = (learning, drows) else {
        return Ok(sum);
    };
    if !sum.is_finite() {
        return Ok(sum);
    }
    let Learning {
        gradients,
        mut after_layer,
        ..
    } = learning;
    let learns = parameters.projector.is_some() && packed.pack.image();
    let activations = &mut buffers.activations;
    if after_layer.is_some() {
        activations.heed(&Cancel::new());
    }
    for layer in activations.visited(llama).rev() {
        let training = dropout.view(&parameters.adapter);
        llama.backward_layer(
            layer,
            drows,
            ends,
            &training,
            gradients,
            learns,
            activations,
        )?;
        while let Some(complete) = activations.complete(layer, gradients)? {
            if let Some(after) = &mut after_layer {
                after(complete, parameters, gradients)?;
            }
        }
    }
    if let (Some(projector), Some(dprojector)) = (&parameters.projector, &mut gradients.projector) {
        let places = packed.places().flat_map(|(example, row)| {
            let places = image_places(&example.sequence).into_iter();
            places.map(move |(start, image, rows)| (example, row + start, image, rows))
        });
        for (example, start, image, rows) in places {
            let x = example.features[image].get(&mut buffers.features)?;
            // Computed again: keeping it for every image would cost more than it saves.
            let y = &mut buffers.projected[..x.len() / projector.inputs() * width];
            let saved = &mut buffers.projector;
            llama.pool().run(|| projector.forward(y, x, saved));
            let dy = &mut buffers.projected[..x.len() / projector.inputs() * width];
            dy.fill(0.0);
            dy[..rows * width].copy_from_slice(&buffers.drows[start * width..][..rows * width]);
            let (saved, work) = (&buffers.projector, &mut buffers.projector_work);
            llama
                .pool()
                .run(|| projector.backward(dprojector, dy, x, saved, work));
        }
    }
    Ok(sum)
}

/// The projector that a sequence's images go through.
struct Images<'a> {
    frozen: Option<&'a Projector>,
    parameters: &'a Parameters,
}

/// Where images stand: first position, number, rows.
fn image_places(sequence: &Sequence) -> Vec<(usize, usize, usize)> {
    let mut at = 0;
    let mut places = Vec::new();
    for span in &sequence.spans {
        if let Span::Image { image, rows } = *span {
            places.push((at, image, rows));
        }
        at += span.len();
    }
    places
}

/// Fills an example's rows, from row `at` on: embeddings of tokens, projected features of images.
fn embed(
    llama: &Llama,
    example: &Example,
    mut at: usize,
    images: &Images<'_>,
    buffers: &mut SequenceBuffers,
) -> Result<()> {
    let width = llama.shape().width;
    for span in &example.sequence.spans {
        let rows = &mut buffers.rows[at * width..(at + span.len()) * width];
        match span {
            Span::Tokens(ids) => llama.embed(rows, ids)?,
            Span::Image { image, .. } => {
                let x = example.features[*image].get(&mut buffers.features)?;
                let saved = &mut buffers.projector;
                let projected = &mut buffers.projected;
                llama
                    .pool()
                    .run(|| match (&images.parameters.projector, images.frozen) {
                        (Some(trained), _) => {
                            let y = &mut projected[..x.len() / trained.inputs() * width];
                            trained.forward(y, x, saved);
                        }
                        (None, Some(frozen)) => {
                            let y = &mut projected[..x.len() / frozen.inputs() * width];
                            frozen.forward(y, x, saved);
                        }
                        (None, None) => {}
                    });
                rows.copy_from_slice(&projected[..rows.len()]);
            }
        }
        at += span.len();
    }
    Ok(())
}
