//! What a layer keeps for its backward, and what it needs while it runs.
//!
//! Every buffer's length is a number of floats per token, stated once in `per_token`: from it the buffers are
//! allocated and the memory planner counts them.

use super::{LlamaShape, LoraScratch, Rounding, Widest, Words};
use crate::memory::{Arena, ArenaError, Floats, Part};

/// What [`super::Layer::forward`] keeps for [`super::Layer::backward`], of up to a number of tokens T.
#[derive(Debug)]
pub struct Saved {
    /// `1 / rms` of the layer's input, `[T]`.
    pub(super) inv_rms_in: Floats,
    /// Rotated queries, `[T, H * D]`.
    pub(super) queries: Floats,
    /// What attention read, `[T, H * D]`.
    pub(super) attended: Floats,
    /// Log of the softmax's sum, `[H, T]`.
    pub(super) lse: Floats,
    /// The residual stream between attention and feed-forward, `[T, W]`.
    pub(super) middle: Floats,
    /// `1 / rms` of it, `[T]`.
    pub(super) inv_rms_middle: Floats,
    /// `[T, F]`.
    pub(super) gate: Floats,
    /// `[T, F]`.
    pub(super) up: Floats,
}

impl Saved {
    /// Room for `tokens` tokens.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(shape: &LlamaShape, tokens: usize, arena: &Arena) -> Result<Self, ArenaError> {
        let [
            inv_rms_in,
            queries,
            attended,
            lse,
            middle,
            inv_rms_middle,
            gate,
            up,
        ] = arena.arrays(
            Part::SavedActivations,
            Self::per_token(shape).map(|floats| floats * tokens),
        )?;
        Ok(Self {
            inv_rms_in,
            queries,
            attended,
            lse,
            middle,
            inv_rms_middle,
            gate,
            up,
        })
    }

    /// Bytes that [`Saved::new`] allocates.
    pub fn bytes(shape: &LlamaShape, tokens: usize) -> usize {
        bytes(Self::per_token(shape), tokens)
    }

    fn per_token(shape: &LlamaShape) -> [usize; 8] {
        let (w, q, f) = (shape.width, shape.query_width(), shape.feed_forward);
        [1, q, q, shape.heads, w, 1, f, f]
    }
}

/// Buffers of a forward whose contents matter to nobody afterwards.
#[derive(Debug)]
pub struct Scratch {
    /// Input of the linear layers after a norm, `[T, W]`.
    pub(super) normed: Floats,
    /// What is about to be added to the residual stream, `[T, W]`.
    pub(super) update: Floats,
    /// `silu(gate) * up`, `[T, F]`.
    pub(super) active: Floats,
    /// The low-rank terms' own.
    pub(super) lora: LoraScratch,
    /// How the linear layers round what they read.
    pub(super) rounding: Rounding,
    tokens: usize,
}

impl Scratch {
    /// Room for `tokens` tokens and, at once or later by [`Scratch::reserve_rank`], for adapters; for training, in
    /// these words.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(
        shape: &LlamaShape,
        tokens: usize,
        words: Words,
        arena: &Arena,
    ) -> Result<Self, ArenaError> {
        let [normed, update, active] = arena.arrays(
            Part::LayerBuffers,
            Self::per_token(shape).map(|floats| floats * tokens),
        )?;
        Ok(Self {
            normed,
            update,
            active,
            lora: LoraScratch::default(),
            rounding: Rounding::learning(words, Part::LayerBuffers, arena)?,
            tokens,
        })
    }

    /// The same for inference, with room for inputs in integers.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn rounding(shape: &LlamaShape, tokens: usize, arena: &Arena) -> Result<Self, ArenaError> {
        let widest = Widest::bytes(tokens * shape.widest_input());
        let rounding = Rounding::new(widest, Part::LayerBuffers, arena)?;
        Ok(Self {
            rounding,
            ..Self::new(shape, tokens, Words::Never, arena)?
        })
    }

    /// Bytes that [`Scratch::new`] allocates.
    pub fn bytes(shape: &LlamaShape, tokens: usize) -> usize {
        bytes(Self::per_token(shape), tokens)
    }

    /// Most tokens of a pass.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Makes room for low-rank terms up to `rank` ([`super::AdapterView::max_rank`]); `dropout` tells whether any
    /// has one. Allocates [`LoraScratch::bytes`] at most.
    pub fn reserve_rank(&mut self, shape: &LlamaShape, rank: usize, dropout: bool) {
        let width = if dropout { shape.widest_input() } else { 0 };
        self.lora.reserve(self.tokens, rank, width);
    }

    fn per_token(shape: &LlamaShape) -> [usize; 3] {
        [shape.width, shape.width, shape.feed_forward]
    }
}

/// Buffers of a backward, gradients of what the forward computed, of up to T tokens.
#[derive(Debug)]
pub struct BackwardScratch {
    /// Of the normed input, `[T, W]`.
    pub(super) dnormed: Floats,
    /// Of what attention read, `[T, H * D]`.
    pub(super) dattended: Floats,
    /// `[T, H * D]`.
    pub(super) dqueries: Floats,
    /// `[T, K * D]`.
    pub(super) dkeys: Floats,
    /// `[T, K * D]`.
    pub(super) dvalues: Floats,
    /// Of `silu(gate) * up`, `[T, F]`.
    pub(super) dactive: Floats,
    /// `[T, F]`.
    pub(super) dgate: Floats,
    /// `[T, F]`.
    pub(super) dup: Floats,
}

impl BackwardScratch {
    /// Room for `tokens` tokens.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(shape: &LlamaShape, tokens: usize, arena: &Arena) -> Result<Self, ArenaError> {
        let [
            dnormed,
            dattended,
            dqueries,
            dkeys,
            dvalues,
            dactive,
            dgate,
            dup,
        ] = arena.arrays(
            Part::LayerBuffers,
            Self::per_token(shape).map(|floats| floats * tokens),
        )?;
        Ok(Self {
            dnormed,
            dattended,
            dqueries,
            dkeys,
            dvalues,
            dactive,
            dgate,
            dup,
        })
    }

    /// Bytes that [`BackwardScratch::new`] allocates.
    pub fn bytes(shape: &LlamaShape, tokens: usize) -> usize {
        bytes(Self::per_token(shape), tokens)
    }

    fn per_token(shape: &LlamaShape) -> [usize; 8] {
        let (q, kv, f) = (shape.query_width(), shape.kv_width(), shape.feed_forward);
        [shape.width, q, q, kv, kv, f, f, f]
    }
}

fn bytes<const N: usize>(per_token: [usize; N], tokens: usize) -> usize {
    per_token.iter().sum::<usize>() * tokens * size_of::<f32>()
}
