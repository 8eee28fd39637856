//! Vision tower and projector on a device: [`crate::model::VisionTower`] says what they are.

use std::sync::Arc;

use graft_gpu::{Arena, Device, Matrix, Part, Recorder, Submission, Tensor};
use graft_kernels::ops::attention::AttentionShape;

use super::buffers::LoraScratch;
use super::layer::adapted;
use super::pairs::{Pairs, Resident};
use crate::Result;
use crate::model::{
    AdapterView, DeviceEncoder, Linear, ProjectorKind, Site, TowerKind, Vision, VisionShape,
};

/// What runs one image after the other.
#[derive(Debug)]
pub(super) struct GpuEncoder {
    device: Device,
    weights: Weights,
    buffers: Buffers,
    lora: LoraScratch,
    /// The patches of an image, `[P, 3 p p]`.
    patches: Vec<f32>,
}

/// A part of the vision half whose weights are on the device together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Piece {
    /// Class, patches, and the norm before the blocks.
    Embedding,
    Block(usize),
    Projector(ProjectorKind),
}

impl Piece {
    fn all(shape: &VisionShape) -> impl Iterator<Item = Self> {
        let blocks = (0..shape.blocks).map(Self::Block);
        let projector = [ProjectorKind::First, ProjectorKind::Second].map(Self::Projector);
        std::iter::once(Self::Embedding)
            .chain(blocks)
            .chain(projector)
    }

    fn index(self, shape: &VisionShape) -> usize {
        match self {
            Self::Embedding => 0,
            Self::Block(block) => 1 + block,
            Self::Projector(kind) => 1 + shape.blocks + kind as usize,
        }
    }

    fn linears(self, vision: &Vision) -> Vec<&Linear> {
        match self {
            Self::Embedding => vec![vision.tower().patch()],
            Self::Block(block) => vision.tower().linears(block).collect(),
            Self::Projector(kind) => vec![vision.projector().linear(kind)],
        }
    }

    /// Weights and biases of norms.
    fn norms(self, vision: &Vision) -> Vec<[&[f32]; 2]> {
        match self {
            Self::Embedding => vec![vision.tower().pre_norm()],
            Self::Block(block) => vision.tower().norms(block).into(),
            Self::Projector(_) => vec![],
        }
    }

    /// Bytes of its matrices, and of its vectors.
    fn bytes(self, device: &Device, vision: &Vision) -> (u64, u64) {
        let vector = |values: &[f32]| device.tensor_bytes(1, values.len());
        let linears = self.linears(vision).into_iter();
        let linears = linears.map(|linear| {
            let (ty, outputs) = (linear.weight().quant_type(), linear.outputs());
            // A matrix that no kernel can see refuses itself when it is cut.
            let matrix = device.matrix_bytes(ty, outputs, linear.inputs());
            (matrix.unwrap_or_default(), vector(linear.bias()))
        });
        let norms = self.norms(vision).into_iter().flatten();
        let norms = norms.map(|values| (0, vector(values)));
        let add = |(matrices, vectors), (m, v)| (matrices + m, vectors + v);
        linears.chain(norms).fold((0, 0), add)
    }
}

/// A piece in the device's memory.
#[derive(Debug)]
struct Loaded {
    /// With their biases.
    linears: Vec<(Matrix, Option<Tensor>)>,
    /// Weight and bias.
    norms: Vec<[Tensor; 2]>,
}

impl Loaded {
    /// Cuts a piece's arrays and records that they are written.
    fn write(
        recorder: &mut Recorder,
        (matrices, vectors): (&Arena, &Arena),
        vision: &Vision,
        piece: Piece,
    ) -> Result<Self> {
        let vector = |recorder: &mut Recorder, values: &[f32]| -> Result<Tensor> {
            let tensor = vectors.tensor(1, values.len())?;
            recorder.write(&tensor, values)?;
            Ok(tensor)
        };
        let mut linears = Vec::new();
        for linear in piece.linears(vision) {
            let (weight, bias) = (linear.weight(), linear.bias());
            let matrix = matrices.matrix(weight.quant_type(), weight.outputs(), weight.inputs())?;
            recorder.write_matrix(&matrix, weight.bytes())?;
            let bias = match bias.is_empty() {
                true => None,
                false => Some(vector(recorder, bias)?),
            };
            linears.push((matrix, bias));
        }
        let mut norms = Vec::new();
        for [weight, bias] in piece.norms(vision) {
            norms.push([vector(recorder, weight)?, vector(recorder, bias)?]);
        }
        Ok(Self { linears, norms })
    }
}

/// The weights: all of them from the first image on, or one piece at a time.
#[derive(Debug)]
struct Weights {
    matrices: Arena,
    vectors: Arena,
    /// By [`Piece::index`], if they stay.
    stay: Option<Vec<Option<Arc<Loaded>>>>,
}

impl Weights {
    /// Room for all where they take no more than half of what is free besides what is reserved, for the largest
    /// piece otherwise.
    fn new(device: &Device, vision: &Vision, reserved: u64) -> Result<Self> {
        let pieces = || Piece::all(vision.tower().shape());
        let bytes = || pieces().map(|piece| piece.bytes(device, vision));
        let all = bytes().fold((0, 0), |(m, v), (more_m, more_v)| (m + more_m, v + more_v));
        let memory = device.memory();
        let free = memory.limit.saturating_sub(memory.held + reserved);
        let stays = all.0 + all.1 <= free / 2;
        let (part, runs) = match stays {
            true => (Part::Weights, bytes().collect()),
            false => (Part::StreamedWeights, vec![largest(bytes())]),
        };
        let (matrices, vectors): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
        Ok(Self {
            matrices: device.arena_of(part, matrices)?,
            vectors: device.arena_of(Part::Norms, vectors)?,
            stay: stays.then(|| pieces().map(|_| None).collect()),
        })
    }

    /// A piece, for commands recorded next. Where pieces do not stay, the one before must have been submitted and
    /// dropped.
    fn load(
        &mut self,
        recorder: &mut Recorder,
        vision: &Vision,
        piece: Piece,
    ) -> Result<Arc<Loaded>> {
        let arenas = (&self.matrices, &self.vectors);
        let place = self.stay.as_mut();
        match place.and_then(|all| all.get_mut(piece.index(vision.tower().shape()))) {
            Some(Some(loaded)) => Ok(Arc::clone(loaded)),
            Some(none) => {
                let loaded = Arc::new(Loaded::write(recorder, arenas, vision, piece)?);
                Ok(Arc::clone(none.insert(loaded)))
            }
            None => Ok(Arc::new(Loaded::write(recorder, arenas, vision, piece)?)),
        }
    }
}

fn largest(pieces: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    pieces.fold((0, 0), |(m, v), (matrices, vectors)| {
        (m.max(matrices), v.max(vectors))
    })
}

/// What an image's way writes, T = 1 + P.
#[derive(Debug)]
struct Buffers {
    /// `[P, 3 p p]`.
    patches: Tensor,
    /// The residual stream, `[T, Wv]`.
    x: Tensor,
    /// `[T, Wv]` each.
    normed: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attended: Tensor,
    /// `[T, 2]`.
    statistics: Tensor,
    /// `[heads, T]`.
    lse: Tensor,
    /// Before and after an activation: `[T, F]` in the tower, `[P, W]` in the projector; and the result there.
    hidden: Tensor,
    active: Tensor,
    projected: Tensor,
}

impl Buffers {
    /// Rows and widths, in the order of the fields.
    fn sizes(vision: &Vision) -> [[usize; 2]; 12] {
        let shape = vision.tower().shape();
        let (patches, width) = (shape.patches(), shape.width);
        let tokens = patches + 1;
        let projected = patches * vision.projector().outputs();
        let wide = [1, (tokens * shape.feed_forward).max(projected)];
        let row = [tokens, width];
        [
            [patches, 3 * shape.patch * shape.patch],
            row,
            row,
            row,
            row,
            row,
            row,
            [tokens, 2],
            [shape.heads, tokens],
            wide,
            wide,
            [1, projected],
        ]
    }

    fn bytes(device: &Device, vision: &Vision) -> u64 {
        let sizes = Self::sizes(vision).into_iter();
        sizes
            .map(|[rows, width]| device.tensor_bytes(rows, width))
            .sum()
    }

    fn new(device: &Device, vision: &Vision) -> Result<Self> {
        let arena = device.arena(Part::LayerBuffers, Self::bytes(device, vision))?;
        let mut tensors = Vec::new();
        for [rows, width] in Self::sizes(vision) {
            tensors.push(arena.tensor(rows, width)?);
        }
        let Ok(
            [
                patches,
                x,
                normed,
                q,
                k,
                v,
                attended,
                statistics,
                lse,
                hidden,
                active,
                projected,
            ],
        ) = <[Tensor; 12]>::try_from(tensors)
        else {
            unreachable!("one for each size")
        };
        Ok(Self {
            patches,
            x,
            normed,
            q,
            k,
            v,
            attended,
            statistics,
            lse,
            hidden,
            active,
            projected,
        })
    }
}

/// `[rows, width]` at the beginning of an array.
fn cut(all: &Tensor, rows: usize, width: usize) -> Result<Tensor> {
    let floats = all.reshape(all.len(), 1)?;
    Ok(floats.slice(0..rows * width)?.reshape(rows, width)?)
}

/// Bytes that an encoder takes where there is least room, without adapters.
pub(super) fn smallest_bytes(device: &Device, vision: &Vision) -> u64 {
    let pieces = Piece::all(vision.tower().shape()).map(|piece| piece.bytes(device, vision));
    let (matrices, vectors) = largest(pieces);
    Buffers::bytes(device, vision) + matrices + vectors
}

impl GpuEncoder {
    /// Room for one image at a time. Weights stay only where `reserved` bytes are free for others.
    ///
    /// # Errors
    /// If the budget or the device has none.
    pub fn new(device: &Device, vision: &Vision, reserved: u64) -> Result<Self> {
        // The buffers first: what is left decides whether the weights stay.
        let buffers = Buffers::new(device, vision)?;
        let shape = vision.tower().shape();
        Ok(Self {
            weights: Weights::new(device, vision, reserved)?,
            buffers,
            lora: LoraScratch::default(),
            patches: vec![0.0; shape.patches() * 3 * shape.patch * shape.patch],
            device: device.clone(),
        })
    }

    /// What adapters add at some sites, written to the device, with room for what that computes.
    fn adapters<'a>(
        &mut self,
        vision: &Vision,
        view: &'a dyn AdapterView,
        sites: &[Site],
    ) -> Result<Resident<'a>> {
        let (device, shape) = (&self.device, vision.tower().shape());
        let terms = sites.iter().flat_map(|&site| view.terms(site));
        let rank = terms.map(|term| term.rank).max().unwrap_or(0);
        if rank == 0 {
            return Ok(Resident::new(view, Vec::new()));
        }
        let widest = shape.width.max(shape.feed_forward);
        let widest = widest.max(vision.projector().outputs());
        let tokens = shape.patches() + 1;
        self.lora.reserve(device, widest, tokens, rank)?;
        let upload = |n| {
            let sites = sites.iter().copied();
            Pairs::upload(device, view, n, sites, &|site| vision.sizes(site)).map(Arc::new)
        };
        let pairs = (0..view.count()).map(upload);
        Ok(Resident::new(view, pairs.collect::<Result<_>>()?))
    }
}

impl DeviceEncoder for GpuEncoder {
    fn features(
        &mut self,
        vision: &Vision,
        features: &mut [f32],
        pixels: &[f32],
        adapters: &dyn AdapterView,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let (tower, shape) = (vision.tower(), *vision.tower().shape());
        let tokens = shape.patches() + 1;
        let sites = Site::of_vision(shape.blocks).filter(|site| matches!(site, Site::Tower { .. }));
        let resident = self.adapters(vision, adapters, &sites.collect::<Vec<_>>())?;
        tower.patch_rows(&mut self.patches, pixels);
        let buffers = &self.buffers;
        let (class, rest) = (buffers.x.slice(0..1)?, buffers.x.slice(1..tokens)?);
        let mut recorder = Recorder::new(&self.device)?;
        let piece = self.weights.load(&mut recorder, vision, Piece::Embedding)?;
        recorder.write(&buffers.patches, &self.patches)?;
        recorder.write(&class, tower.class())?;
        recorder.linear(&rest, &buffers.patches, &piece.linears[0].0)?;
        recorder.write(&buffers.normed, tower.positions())?;
        recorder.add(&buffers.x, &buffers.normed, 1.0)?;
        recorder.copy(&buffers.normed, &buffers.x)?;
        let [weight, bias] = &piece.norms[0];
        let eps = f64::from(shape.norm_eps);
        let (x, normed) = (&buffers.x, &buffers.normed);
        recorder.layer_norm(x, &buffers.statistics, normed, weight, bias, eps)?;
        let mut before: Submission = recorder.submit()?;
        drop(piece);
        let work = Work {
            buffers,
            attention: shape.attention(),
            eps,
            quick: shape.quick_gelu,
            adapters: &resident,
            lora: &self.lora,
        };
        for block in 0..shape.blocks {
            check()?;
            let mut recorder = Recorder::new(&self.device)?;
            let piece = self
                .weights
                .load(&mut recorder, vision, Piece::Block(block))?;
            work.block(&mut recorder, block, &piece)?;
            // The device always has work, and stops soon when told to.
            std::mem::replace(&mut before, recorder.submit()?).wait()?;
        }
        Ok(self.device.read(&rest, features)?)
    }

    fn project(
        &mut self,
        vision: &Vision,
        rows: &mut [f32],
        features: &[f32],
        adapters: &dyn AdapterView,
    ) -> Result<()> {
        let (patches, projector) = (vision.tower().shape().patches(), vision.projector());
        let sites = [ProjectorKind::First, ProjectorKind::Second].map(Site::Projector);
        let resident = self.adapters(vision, adapters, &sites)?;
        let buffers = &self.buffers;
        let of = |all: &Tensor| cut(all, patches, projector.outputs());
        let x = buffers.x.slice(0..patches)?;
        let (hidden, active) = (of(&buffers.hidden)?, of(&buffers.active)?);
        let projected = of(&buffers.projected)?;
        let mut recorder = Recorder::new(&self.device)?;
        recorder.write(&x, features)?;
        for (kind, y, x) in [
            (ProjectorKind::First, &hidden, &x),
            (ProjectorKind::Second, &projected, &active),
        ] {
            let piece = Piece::Projector(kind);
            let piece = self.weights.load(&mut recorder, vision, piece)?;
            let terms = (&resident, &self.lora);
            linear(&mut recorder, &piece, 0, Site::Projector(kind), y, x, terms)?;
            if kind == ProjectorKind::First {
                recorder.gelu(&active, &hidden)?;
            }
            let next = Recorder::new(&self.device)?;
            std::mem::replace(&mut recorder, next).submit()?;
        }
        Ok(self.device.read(&projected, rows)?)
    }
}

/// What is the same for every block of an image's way.
struct Work<'a> {
    buffers: &'a Buffers,
    attention: AttentionShape,
    eps: f64,
    quick: bool,
    adapters: &'a Resident<'a>,
    lora: &'a LoraScratch,
}

impl Work<'_> {
    /// Runs the residual stream through a block, in place.
    fn block(&self, recorder: &mut Recorder, block: usize, piece: &Loaded) -> Result<()> {
        let Buffers {
            x,
            normed,
            q,
            k,
            v,
            attended,
            statistics,
            lse,
            ..
        } = self.buffers;
        let terms = (self.adapters, self.lora);
        let apply = |recorder: &mut Recorder, kind: TowerKind, y: &Tensor, x: &Tensor| {
            let site = Site::Tower {
                block,
                linear: kind,
            };
            linear(recorder, piece, kind as usize, site, y, x, terms)
        };
        let [[weight1, bias1], [weight2, bias2]] = &piece.norms[..] else {
            unreachable!("a block has two norms")
        };
        recorder.layer_norm(normed, statistics, x, weight1, bias1, self.eps)?;
        apply(recorder, TowerKind::Q, q, normed)?;
        apply(recorder, TowerKind::K, k, normed)?;
        apply(recorder, TowerKind::V, v, normed)?;
        recorder.attention(attended, lse, [q, k, v], &self.attention)?;
        apply(recorder, TowerKind::O, normed, attended)?;
        recorder.add(x, normed, 1.0)?;
        recorder.layer_norm(normed, statistics, x, weight2, bias2, self.eps)?;
        let (up, _) = &piece.linears[TowerKind::Up as usize];
        let hidden = cut(&self.buffers.hidden, x.rows(), up.rows())?;
        let active = cut(&self.buffers.active, x.rows(), up.rows())?;
        apply(recorder, TowerKind::Up, &hidden, normed)?;
        match self.quick {
            true => recorder.quick_gelu(&active, &hidden)?,
            false => recorder.gelu(&active, &hidden)?,
        }
        apply(recorder, TowerKind::Down, normed, &active)?;
        Ok(recorder.add(x, normed, 1.0)?)
    }
}

/// A linear layer of a piece, with its bias and what adapters add.
fn linear(
    recorder: &mut Recorder,
    piece: &Loaded,
    which: usize,
    site: Site,
    y: &Tensor,
    x: &Tensor,
    terms: (&Resident<'_>, &LoraScratch),
) -> Result<()> {
    let (matrix, bias) = &piece.linears[which];
    adapted(recorder, (matrix, site, 0), y, x, terms)?;
    match bias {
        Some(bias) => Ok(recorder.bias(y, bias)?),
        None => Ok(()),
    }
}
