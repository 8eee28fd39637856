//! Session: one mutable timeline of tokens and images over a shared model.
//!
//! A session remembers what it was fed. When its set of adapters changes, keys and values computed
//! under the old set are never used again: the history is run once more under the new set before
//! the next token, so the answer is that of a fresh session with the same history, unless the caller asks
//! for the other by name.

mod batch;
mod chat;
mod feeding;
mod generate;
mod image;
#[cfg(test)]
mod tests;

pub use batch::{Batch, BatchOptions, Given};
pub use chat::{Chat, items_of, prompt_items};
pub use feeding::Watch;
pub use generate::{Finish, GenerateOptions, Generated};
pub use image::ShownImage;

use std::sync::Arc;

use crate::Result;
use crate::adapter::Attached;
use crate::cancel::Cancel;
use crate::kv_cache::{KvCache, MadeBy};
use crate::memory::{MemoryPlan, PROGRAM_BYTES, Part};
use crate::model::{
    Inference, Llama, LlamaShape, Model, ProjectorSaved, VisionWork, Widest, worker_bytes,
};

/// Why a session refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum SessionError {
    #[error(
        "the context is full: {adding} positions after {position} do not fit {capacity}; shorten the prompt or open the session with a larger context"
    )]
    ContextFull {
        position: usize,
        adding: usize,
        capacity: usize,
    },
    #[error("image features are {found} floats, not whole rows of the model's width {width}")]
    Features { found: usize, width: usize },
    #[error("nothing was fed yet, so there is nothing to continue")]
    NothingFed,
    #[error(
        "session {session} of the batch runs on another model than the batch; open it on the batch's"
    )]
    OtherModel { session: usize },
    #[error(
        "session {session} of the batch holds {capacity} positions, the batch is for {batch} at most; open the batch with a larger context"
    )]
    LongerThanBatch {
        session: usize,
        capacity: usize,
        batch: usize,
    },
    #[error(
        "{found} sessions are more than the {most} the batch is for; open it for more, or run two"
    )]
    TooManySessions { found: usize, most: usize },
    #[error("the prompt has {shown} places for images, {given} images are given")]
    Images { shown: usize, given: usize },
    #[error(
        "{id} is no token; ids are numbers from 0 on, or {} for an image",
        crate::tokenizer::IMAGE
    )]
    NoToken { id: i32 },
    #[error("the model has no vision part: give its vision half (--mmproj)")]
    NoVision,
    #[error("the image was prepared for {made_for}, the session runs {found}; prepare it again")]
    OtherModelsImage { made_for: String, found: String },
}

/// How to open a session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SessionOptions {
    /// Most positions it can hold; 0 takes the model's own length, at most 4096.
    pub context_length: usize,
    /// Most positions of a prompt that run at once: more are faster and take more memory. 0 takes
    /// [`Inference::CHUNK`]. A session that only ever runs in a [`Batch`] needs no more than 1.
    pub chunk: usize,
}

impl SessionOptions {
    /// Room for `context_length` positions (0: as many as the model's own, at most 4096).
    pub fn with_context(context_length: usize) -> Self {
        Self {
            context_length,
            ..Self::default()
        }
    }

    fn chunk_of(&self, context_length: usize) -> usize {
        let chunk = match self.chunk {
            0 => Inference::CHUNK,
            asked => asked,
        };
        chunk.min(context_length)
    }
}

/// Something that was fed, in order.
#[derive(Clone, Debug)]
pub enum Item {
    /// One token.
    Token(u32),
    /// Rows of the model's width, such as projected features of the caller's own; they are the same under every
    /// set of adapters.
    Rows(Arc<Vec<f32>>),
    /// An image, whose features are those under the set of adapters at work.
    Image(Arc<ShownImage>),
}

impl Item {
    /// Positions that it takes, in a model of `width`.
    pub fn positions(&self, width: usize) -> usize {
        match self {
            Self::Token(_) => 1,
            Self::Rows(rows) => rows.len() / width,
            Self::Image(image) => image.patches(),
        }
    }

    /// Writes what the model's first layer is given at its positions from `first` on, `[T, W]`, under a set of
    /// adapters.
    ///
    /// # Errors
    /// If a token is outside the vocabulary, or the system has no memory for the tower.
    ///
    /// # Panics
    /// If it has not as many positions.
    pub fn write_rows(
        &self,
        rows: &mut [f32],
        first: usize,
        llama: &Llama,
        adapters: &Attached,
    ) -> Result<()> {
        self.write_rows_unless(rows, first, (llama, adapters), &Cancel::new())
    }

    /// The same, unless the flag is raised while an image is looked at.
    fn write_rows_unless(
        &self,
        rows: &mut [f32],
        first: usize,
        (llama, adapters): (&Llama, &Attached),
        cancel: &Cancel,
    ) -> Result<()> {
        let from = first * llama.shape().width;
        match self {
            Self::Token(id) => llama.embed_adapted(rows, &[*id], adapters)?,
            Self::Rows(own) => rows.copy_from_slice(&own[from..][..rows.len()]),
            Self::Image(image) => {
                rows.copy_from_slice(&image.rows_unless(adapters, cancel)?[from..][..rows.len()]);
            }
        }
        Ok(())
    }

    /// The same token, or the very same rows or image.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(a), Self::Token(b)) => a == b,
            (Self::Rows(a), Self::Rows(b)) => Arc::ptr_eq(a, b),
            (Self::Image(a), Self::Image(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// One timeline. Sessions of one model run in parallel on threads of their own.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    attached: Attached,
    kv: KvCache,
    run: Inference,
    history: Vec<Item>,
    /// The last row of the last layer, `[W]`.
    last: Vec<f32>,
    rows: Vec<f32>,
    logits: Vec<f32>,
}

impl Session {
    /// Longest context taken from a model without being asked for.
    const DEFAULT_CONTEXT: usize = 4096;

    /// An empty timeline.
    ///
    /// # Errors
    /// If the system has no memory for it.
    pub fn new(model: Arc<Model>, options: &SessionOptions) -> Result<Self> {
        let llama = model.llama();
        let kv = llama.kv_cache(Self::context_length_of(llama.shape(), options))?;
        Self::around(kv, model, options)
    }

    fn around(kv: KvCache, model: Arc<Model>, options: &SessionOptions) -> Result<Self> {
        let shape = model.llama().shape().clone();
        let context_length = kv.capacity();
        let chunk = options.chunk_of(context_length);
        Ok(Self {
            kv,
            run: Inference::new(model.llama(), chunk, context_length)?,
            history: Vec::new(),
            last: vec![0.0; shape.width],
            rows: vec![0.0; chunk * shape.width],
            logits: vec![0.0; shape.vocabulary],
            attached: Attached::default(),
            model,
        })
    }

    /// Every large buffer of a session, and the model's files: what [`Session::new`] and its use take, all
    /// at once.
    pub fn plan(model: &Model, options: &SessionOptions) -> MemoryPlan {
        let (llama, shape) = (model.llama(), model.llama().shape());
        let context_length = Self::context_length_of(shape, options);
        let chunk = options.chunk_of(context_length);
        let float = size_of::<f32>();
        let mut plan = MemoryPlan::default();
        plan.add(Part::Program, PROGRAM_BYTES);
        plan.add(Part::Weights, model.gguf().file_bytes() as usize);
        plan.add(Part::KeysAndValues, llama.kv_bytes(context_length));
        let rows = (chunk + 1) * shape.width * float;
        let buffers = Inference::bytes(shape, chunk, context_length);
        plan.add(Part::LayerBuffers, buffers + rows);
        plan.add(Part::Loss, shape.vocabulary * float);
        let threads = llama.pool().threads();
        let mut each = worker_bytes(&shape.attention(), chunk, context_length, false);
        let mut rounding = Widest::bytes(chunk * shape.widest_input());
        if let Some(vision) = model.vision() {
            plan.add(Part::VisionTower, VisionWork::bytes(vision.tower()));
            let tower = vision.tower().shape();
            let (patches, width) = (tower.patches(), shape.width);
            let tokens = patches + 1;
            each = each.max(worker_bytes(&tower.attention(), tokens, tokens, false));
            plan.add(Part::VisionWeights, vision.gguf().file_bytes() as usize);
            let rows = patches * (tower.width + width) * float;
            let projector = vision.projector().rounding(patches);
            let saved = ProjectorSaved::bytes(patches, width, projector);
            plan.add(Part::Projector, saved + rows);
            rounding = rounding.and(vision.tower().rounding()).and(projector);
        }
        each += rounding.worker_bytes();
        plan.add(Part::Attention, threads * each);
        plan
    }

    fn context_length_of(shape: &LlamaShape, options: &SessionOptions) -> usize {
        match options.context_length {
            0 => shape.context_length.clamp(1, Self::DEFAULT_CONTEXT),
            asked => asked,
        }
    }

    /// The model it runs on.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Positions in use.
    pub fn position(&self) -> usize {
        self.positions_of(&self.history)
    }

    /// Most positions it can hold.
    pub fn capacity(&self) -> usize {
        self.kv.capacity()
    }

    /// How many positions of its past, from the first, lie in memory that it shares since a [`Session::fork`].
    pub fn shared_positions(&self) -> usize {
        self.kv.shared_positions()
    }

    /// Whether no position is free.
    pub fn is_full(&self) -> bool {
        self.position() == self.capacity()
    }

    /// What it was fed.
    pub fn history(&self) -> &[Item] {
        &self.history
    }

    /// The adapters at work.
    pub fn adapters(&self) -> &Attached {
        &self.attached
    }

    /// Replaces the set of adapters; it counts from the next token on, as if it had been there from the first:
    /// the history is run again then.
    ///
    /// # Errors
    /// If an adapter was made for another model; the old set stays then.
    pub fn set_adapters(&mut self, adapters: Attached) -> Result<()> {
        self.replace_adapters(adapters, |kv, by| kv.rewind(kv.valid_prefix(by)))
    }

    /// The same, but the past stays as the old set has seen it, so that nothing is run again. The answer is none
    /// that the new set alone would give.
    ///
    /// # Errors
    /// As [`Session::set_adapters`].
    pub fn set_adapters_keeping_history(&mut self, adapters: Attached) -> Result<()> {
        self.catch_up(&mut Watch::of(&Cancel::new()))?;
        self.replace_adapters(adapters, KvCache::attribute)
    }

    fn replace_adapters(
        &mut self,
        adapters: Attached,
        history: impl FnOnce(&mut KvCache, MadeBy),
    ) -> Result<()> {
        for (adapter, _) in adapters.entries() {
            adapter.check_base(&self.model)?;
        }
        if adapters != self.attached {
            self.run.reserve(self.model.llama(), &adapters);
            history(&mut self.kv, adapters.made_by());
            self.attached = adapters;
        }
        Ok(())
    }

    /// Another session with the same adapters and the same past, which is neither run again nor held again: both
    /// read its keys and values from one piece of memory. What each goes on with is its own, and so is what it
    /// takes back of that past. Sums over it are taken in another order than in a session of its own, so that
    /// logits differ in their last bits.
    ///
    /// # Errors
    /// If the past does not fit the other's context, or the system has no memory.
    pub fn fork(&mut self, options: &SessionOptions) -> Result<Self> {
        self.catch_up(&mut Watch::of(&Cancel::new()))?;
        let capacity = Self::context_length_of(self.model.llama().shape(), options);
        let adding = self.position();
        if adding > capacity {
            return Err(SessionError::ContextFull {
                position: 0,
                adding,
                capacity,
            }
            .into());
        }
        let kv = self.kv.share(capacity)?;
        let mut other = Self::around(kv, Arc::clone(&self.model), options)?;
        other.run.reserve(self.model.llama(), &self.attached);
        other.attached = self.attached.clone();
        other.history.clone_from(&self.history);
        other.last.copy_from_slice(&self.last);
        Ok(other)
    }

    /// The logits of what comes next, `[V]`.
    ///
    /// # Errors
    /// If nothing was fed.
    pub fn logits(&mut self) -> Result<&[f32]> {
        self.logits_unless(&Cancel::new())
    }

    /// The same, unless the flag is raised while a past is run that is not in the cache, as after a change of
    /// adapters; the history stays whole.
    ///
    /// # Errors
    /// As [`Session::logits`], and if the flag is raised.
    pub fn logits_unless(&mut self, cancel: &Cancel) -> Result<&[f32]> {
        if self.history.is_empty() {
            return Err(SessionError::NothingFed.into());
        }
        self.catch_up(&mut Watch::of(cancel))?;
        let llama = self.model.llama();
        let normed = &mut self.rows[..self.last.len()];
        llama.final_norm(normed, &mut [0.0], &self.last);
        self.run
            .logits(llama, &mut self.logits, normed, &self.attached)?;
        Ok(&self.logits)
    }

    /// Forgets every item from number `items` on.
    pub fn rewind(&mut self, items: usize) {
        if items < self.history.len() {
            // The last row must be computed again, so its item is too.
            self.history.truncate(items);
            let keep = self.positions_of(&self.history[..items.saturating_sub(1)]);
            self.kv.rewind(keep);
        }
    }

    /// Forgets everything from a position on, and an image that it lies inside of.
    pub fn truncate(&mut self, positions: usize) {
        let width = self.sizes().0;
        let mut end = 0;
        let ends = self.history.iter().map(|item| {
            end += item.positions(width);
            end
        });
        let whole = ends.take_while(|&end| end <= positions).count();
        self.rewind(whole);
    }

    /// Forgets everything but the adapters.
    pub fn reset(&mut self) {
        self.history.clear();
        self.kv.rewind(0);
    }

    /// How many of the first items are already in its history.
    pub fn common_prefix(&self, items: &[Item]) -> usize {
        self.history
            .iter()
            .zip(items)
            .take_while(|(a, b)| a.is(b))
            .count()
    }

    fn sizes(&self) -> (usize, usize) {
        let shape = self.model.llama().shape();
        (shape.width, shape.vocabulary)
    }

    fn positions_of(&self, items: &[Item]) -> usize {
        let width = self.sizes().0;
        items.iter().map(|item| item.positions(width)).sum()
    }
}
