//! CLIP's vision transformer: an image's patches to features.
//!
//! ```text
//! x = LN([class; W patch_i] + position)
//! x += O(attention(Q n, K n, V n)),   n = LN(x)      (no mask, all with biases)
//! x += Down(act(Up m)),               m = LN(x)      per block, up to the feature layer
//! ```
//! Shapes: pixels `[3, S, S]`; features `[P, Wv]`, the class token dropped, no final norm.
//! Source: Radford et al. 2021, <https://arxiv.org/abs/2103.00020>; LLaVA takes hidden state -2.

use std::convert::Infallible;
use std::sync::Arc;

use graft_kernels::Kernels;
use graft_kernels::ops::attention::AttentionShape;
use rayon::prelude::*;

use super::attention::{self, Arrays};
use super::rowwise::elementwise;
use super::{
    Adapted, AdapterView, Input, Linear, LoraScratch, ModelError, Rounding, Site, TowerKind,
    Unadapted, VisionShape, Weight, Widest, vector,
};
use crate::gguf::Gguf;
use crate::kv_cache::Before;
use crate::memory::{Arena, ArenaError, Floats, Part};

/// A point on the way through the tower.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VisionStage {
    /// Class and patch embeddings with their positions.
    Embedded,
    /// The norm before the blocks.
    Normed,
    /// The block of this number, from 0.
    Block(usize),
}

/// Shown the residual stream after every stage; says whether to go on.
type Checked<'a, E> = &'a mut dyn FnMut(VisionStage, &[f32]) -> Result<(), E>;

/// A frozen vision tower.
#[derive(Debug)]
pub struct VisionTower {
    shape: VisionShape,
    patch: Linear,
    class: Vec<f32>,
    positions: Vec<f32>,
    pre_norm: Norm,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

#[derive(Debug)]
struct Block {
    norm1: Norm,
    norm2: Norm,
    /// In the order of [`TowerKind::ALL`].
    linears: [Adapted; 6],
}

impl VisionTower {
    /// Binds the blocks that are needed; every shape is checked here.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn bind(gguf: &Arc<Gguf>, shape: &VisionShape) -> Result<Self, ModelError> {
        let width = shape.width;
        let positions = Weight::bind(gguf, "v.position_embd.weight", shape.patches() + 1, width)?;
        let mut decoded = vec![0.0; (shape.patches() + 1) * width];
        for (row, out) in decoded.chunks_exact_mut(width).enumerate() {
            positions.decode_row(row, out, Kernels::detect());
        }
        let floats = 3 * shape.patch * shape.patch;
        Ok(Self {
            patch: Linear::new(Weight::bind_flattened(
                gguf,
                "v.patch_embd.weight",
                width,
                floats,
            )?),
            class: vector(gguf, "v.class_embd", width)?,
            positions: decoded,
            pre_norm: Norm::bind(gguf, "v.pre_ln", shape)?,
            blocks: (0..shape.blocks)
                .map(|i| Block::bind(gguf, i, shape))
                .collect::<Result<_, _>>()?,
            shape: *shape,
        })
    }

    /// Its sizes.
    pub fn shape(&self) -> &VisionShape {
        &self.shape
    }

    /// The matrix that patches go through, `[Wv, 3 p p]`.
    pub fn patch(&self) -> &Linear {
        &self.patch
    }

    /// The class token, `[Wv]`.
    pub fn class(&self) -> &[f32] {
        &self.class
    }

    /// What is added to class and patches, `[1 + P, Wv]`.
    pub fn positions(&self) -> &[f32] {
        &self.positions
    }

    /// Weight and bias of the norm before the blocks.
    pub fn pre_norm(&self) -> [&[f32]; 2] {
        self.pre_norm.arrays()
    }

    /// Weight and bias of a block's norms, in the order in which they run.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn norms(&self, block: usize) -> [[&[f32]; 2]; 2] {
        let Block { norm1, norm2, .. } = &self.blocks[block];
        [norm1.arrays(), norm2.arrays()]
    }

    /// A block's linear layers, in the order of [`TowerKind::ALL`].
    ///
    /// # Panics
    /// If there is no such block.
    pub fn linears(&self, block: usize) -> impl Iterator<Item = &Linear> {
        let linears = self.blocks[block].linears.iter();
        linears.map(|adapted| &adapted.linear)
    }

    /// What its layers need to round what they read.
    pub fn rounding(&self) -> Widest {
        let linears = self.blocks.iter().flat_map(|block| &block.linears);
        let linears = linears.map(|adapted| &adapted.linear);
        Widest::of(linears, self.shape.patches() + 1)
    }

    /// Writes the features `[P, Wv]` of normalised pixels `[3, S, S]`.
    ///
    /// Call it inside a worker pool.
    ///
    /// # Panics
    /// If a length is another.
    pub fn features(&self, features: &mut [f32], pixels: &[f32], work: &mut VisionWork) {
        self.features_adapted(features, pixels, &Unadapted, work);
    }

    /// The same with what adapters add in its blocks.
    ///
    /// # Panics
    /// If a length is another.
    pub fn features_adapted(
        &self,
        features: &mut [f32],
        pixels: &[f32],
        adapters: &dyn AdapterView,
        work: &mut VisionWork,
    ) {
        let Ok(()) = self.run(features, pixels, adapters, work, &mut |_, _| {
            Ok::<(), Infallible>(())
        });
    }

    /// As [`VisionTower::features_adapted`], but `check` is asked after every block whether to go on.
    ///
    /// # Errors
    /// What `check` says.
    ///
    /// # Panics
    /// If a length is another.
    pub fn features_checked<E>(
        &self,
        features: &mut [f32],
        pixels: &[f32],
        adapters: &dyn AdapterView,
        work: &mut VisionWork,
        check: &dyn Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        self.run(features, pixels, adapters, work, &mut |_, _| check())
    }

    /// As [`VisionTower::features`], showing `watch` the residual stream `[1 + P, Wv]` after every
    /// stage: where a tower goes wrong is where its stream first differs.
    ///
    /// # Panics
    /// If a length is another.
    pub fn features_watched(
        &self,
        features: &mut [f32],
        pixels: &[f32],
        work: &mut VisionWork,
        watch: &mut dyn FnMut(VisionStage, &[f32]),
    ) {
        let Ok(()) = self.run(features, pixels, &Unadapted, work, &mut |stage, stream| {
            watch(stage, stream);
            Ok::<(), Infallible>(())
        });
    }

    fn run<E>(
        &self,
        features: &mut [f32],
        pixels: &[f32],
        adapters: &dyn AdapterView,
        work: &mut VisionWork,
        watch: Checked<'_, E>,
    ) -> Result<(), E> {
        let VisionShape { width, .. } = self.shape;
        let tokens = self.shape.patches() + 1;
        assert_eq!(features.len(), self.shape.patches() * width);
        self.patch_rows(&mut work.patches, pixels);
        let (class, rest) = work.x.split_at_mut(width);
        class.copy_from_slice(&self.class);
        self.patch.forward(rest, &work.patches);
        elementwise(&mut work.x, &self.positions, Kernels::add);
        watch(VisionStage::Embedded, &work.x)?;
        work.normed.copy_from_slice(&work.x);
        self.pre_norm
            .run(&mut work.x, &work.normed, &mut work.statistics);
        watch(VisionStage::Normed, &work.x)?;
        let attention = self.shape.attention();
        work.lora.reserve(tokens, self.rank(adapters), 0);
        for (i, block) in self.blocks.iter().enumerate() {
            block.run(work, adapters, &attention, self.shape.quick_gelu);
            watch(VisionStage::Block(i), &work.x)?;
        }
        features.copy_from_slice(&work.x[width..]);
        Ok(())
    }

    /// Largest rank of what is added in its blocks.
    fn rank(&self, adapters: &dyn AdapterView) -> usize {
        let sites = self.blocks.iter().flat_map(|block| &block.linears);
        let ranks = sites.flat_map(|adapted| adapters.terms(adapted.site).map(|term| term.rank));
        ranks.max().unwrap_or(0)
    }

    /// Writes the pixels `[3, S, S]` as rows of patches, `[P, 3 * p * p]`: patches row by row, in each channel, row,
    /// column.
    ///
    /// # Panics
    /// If there are more or fewer pixels.
    pub fn patch_rows(&self, patches: &mut [f32], pixels: &[f32]) {
        let (side, patch) = (self.shape.image_size, self.shape.patch);
        assert_eq!(pixels.len(), 3 * side * side);
        let grid = side / patch;
        let rows = patches.chunks_exact_mut(3 * patch * patch).enumerate();
        for (i, row) in rows {
            let (top, left) = (i / grid * patch, i % grid * patch);
            for (line, out) in row.chunks_exact_mut(patch).enumerate() {
                let (channel, y) = (line / patch, line % patch);
                let start = (channel * side + top + y) * side + left;
                out.copy_from_slice(&pixels[start..start + patch]);
            }
        }
    }
}

/// Tokens that one piece of a norm works on.
const TOKENS_PER_PIECE: usize = 16;

impl Norm {
    fn bind(gguf: &Arc<Gguf>, name: &str, shape: &VisionShape) -> Result<Self, ModelError> {
        Ok(Self {
            weight: vector(gguf, &format!("{name}.weight"), shape.width)?,
            bias: vector(gguf, &format!("{name}.bias"), shape.width)?,
            eps: shape.norm_eps,
        })
    }

    fn arrays(&self) -> [&[f32]; 2] {
        [&self.weight, &self.bias]
    }

    fn run(&self, y: &mut [f32], x: &[f32], statistics: &mut [f32]) {
        let floats = TOKENS_PER_PIECE * self.weight.len();
        y.par_chunks_mut(floats)
            .zip(x.par_chunks(floats))
            .zip(statistics.par_chunks_mut(2 * TOKENS_PER_PIECE))
            .for_each(|((y, x), statistics)| {
                let rows = x.len() / self.weight.len();
                let kept = &mut statistics[..2 * rows];
                Kernels::detect().layer_norm_forward(
                    y,
                    kept,
                    x,
                    &self.weight,
                    &self.bias,
                    self.eps,
                );
            });
    }
}

impl Block {
    fn bind(gguf: &Arc<Gguf>, block: usize, shape: &VisionShape) -> Result<Self, ModelError> {
        let bind = |name: &str, outputs: usize, inputs: usize| -> Result<Linear, ModelError> {
            let name = format!("v.blk.{block}.{name}");
            let weight = Weight::bind(gguf, &format!("{name}.weight"), outputs, inputs)?;
            Ok(Linear::with_bias(
                weight,
                vector(gguf, &format!("{name}.bias"), outputs)?,
            ))
        };
        let norm = |name: &str| Norm::bind(gguf, &format!("v.blk.{block}.{name}"), shape);
        let swapped = shape.swaps_feed_forward(gguf, block);
        let adapted = |linear: TowerKind| -> Result<Adapted, ModelError> {
            let (outputs, inputs) = shape.linear(linear);
            let name = match linear {
                TowerKind::Up if swapped => TowerKind::Down.gguf_name(),
                TowerKind::Down if swapped => TowerKind::Up.gguf_name(),
                linear => linear.gguf_name(),
            };
            Ok(Adapted {
                linear: bind(name, outputs, inputs)?,
                site: Site::Tower { block, linear },
            })
        };
        use TowerKind::{Down, K, O, Q, Up, V};
        Ok(Self {
            norm1: norm("ln1")?,
            norm2: norm("ln2")?,
            linears: [
                adapted(Q)?,
                adapted(K)?,
                adapted(V)?,
                adapted(O)?,
                adapted(Up)?,
                adapted(Down)?,
            ],
        })
    }

    fn run(
        &self,
        work: &mut VisionWork,
        adapters: &dyn AdapterView,
        attention: &AttentionShape,
        quick: bool,
    ) {
        let tokens = work.x.len() / self.norm1.weight.len();
        let (rounding, lora) = (&mut work.rounding, &mut work.lora);
        self.norm1
            .run(&mut work.normed, &work.x, &mut work.statistics);
        let [q, k, v, o, up, down] = &self.linears;
        let readers = [&q.linear, &k.linear, &v.linear];
        let x = Input::rounded(&work.normed, rounding.as_mut(), readers);
        q.forward(&mut work.q, &x, adapters, lora);
        k.forward(&mut work.k, &x, adapters, lora);
        v.forward(&mut work.v, &x, adapters, lora);
        let arrays = Arrays {
            q: &work.q,
            k: &work.k,
            v: &work.v,
        };
        let lse = &mut work.lse[..tokens * attention.heads];
        attention::forward(
            &mut work.attended,
            lse,
            (&arrays, Before::default()),
            &[],
            attention,
        );
        let attended = Input::rounded(&work.attended, rounding.as_mut(), [&o.linear]);
        o.forward(&mut work.normed, &attended, adapters, lora);
        elementwise(&mut work.x, &work.normed, Kernels::add);
        self.norm2
            .run(&mut work.normed, &work.x, &mut work.statistics);
        let x = Input::rounded(&work.normed, rounding.as_mut(), [&up.linear]);
        up.forward(&mut work.hidden, &x, adapters, lora);
        let activate = match quick {
            true => Kernels::quick_gelu_forward,
            false => Kernels::gelu_forward,
        };
        elementwise(&mut work.active, &work.hidden, activate);
        let active = Input::rounded(&work.active, rounding.as_mut(), [&down.linear]);
        down.forward(&mut work.normed, &active, adapters, lora);
        elementwise(&mut work.x, &work.normed, Kernels::add);
    }
}

/// Buffers of one image's way through the tower; reused from image to image.
#[derive(Debug)]
pub struct VisionWork {
    patches: Floats,
    x: Floats,
    normed: Floats,
    statistics: Floats,
    q: Floats,
    k: Floats,
    v: Floats,
    attended: Floats,
    lse: Floats,
    hidden: Floats,
    active: Floats,
    /// For inputs of linear layers in integers.
    rounding: Option<Rounding>,
    /// What is added to linear layers goes through here; it grows when adapters of the tower are met.
    lora: LoraScratch,
}

impl VisionWork {
    /// Buffers for this tower.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(tower: &VisionTower, arena: &Arena) -> Result<Self, ArenaError> {
        let rounding = Rounding::if_any(tower.rounding(), Part::VisionTower, arena)?;
        Ok(Self {
            rounding,
            ..Self::exact(tower, arena)?
        })
    }

    /// The same without room for integers: all products are of floats, to compare with.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn exact(tower: &VisionTower, arena: &Arena) -> Result<Self, ArenaError> {
        let [
            patches,
            x,
            normed,
            statistics,
            q,
            k,
            v,
            attended,
            lse,
            hidden,
            active,
        ] = arena.arrays(Part::VisionTower, Self::floats(&tower.shape))?;
        Ok(Self {
            patches,
            x,
            normed,
            statistics,
            q,
            k,
            v,
            attended,
            lse,
            hidden,
            active,
            rounding: None,
            lora: LoraScratch::default(),
        })
    }

    /// Bytes that [`VisionWork::new`] allocates.
    pub fn bytes(tower: &VisionTower) -> usize {
        let floats: usize = Self::floats(&tower.shape).iter().sum();
        floats * size_of::<f32>() + Rounding::bytes(tower.rounding())
    }

    fn floats(shape: &VisionShape) -> [usize; 11] {
        let tokens = shape.patches() + 1;
        let (w, f) = (tokens * shape.width, tokens * shape.feed_forward);
        let patches = shape.patches() * 3 * shape.patch * shape.patch;
        // Statistics are cut by pieces of tokens; the last piece may be short.
        [
            patches,
            w,
            w,
            2 * tokens,
            w,
            w,
            w,
            w,
            tokens * shape.heads,
            f,
            f,
        ]
    }
}
