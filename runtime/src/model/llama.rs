//! The language model: embedding, layers, final norm and output.

use std::ops::Range;
use std::sync::Arc;

use graft_kernels::Kernels;
use graft_kernels::ops::rope::RopeTable;
use graft_kernels::product::MatMut;

use super::weights::{LlamaWeights, Weight};
use super::{
    Adapted, AdapterView, DeviceLayers, Input, Layer, Linear, LlamaShape, ModelError, Pass,
    Rounding, Saved, Scratch, Site, Wanted, Widest, Words,
};
use crate::Result;
use crate::gguf::Gguf;
use crate::kv_cache::{KvCache, MadeBy};
use crate::memory::{Arena, ArenaError};
use crate::threads::Pool;

/// A LLaMA-architecture model; frozen, shared by any number of sessions and trainers.
#[derive(Debug)]
pub struct Llama {
    shape: LlamaShape,
    embedding: Weight,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    output: Adapted,
    rope_factors: Vec<f32>,
    pool: Pool,
    device: Option<Arc<dyn DeviceLayers>>,
}

impl Llama {
    /// Binds the tensors of a file; products run on `pool`.
    ///
    /// # Errors
    /// Whatever [`LlamaWeights::bind`] refuses.
    pub fn bind(gguf: &Arc<Gguf>, pool: Pool) -> Result<Self, ModelError> {
        let weights = LlamaWeights::bind(gguf)?;
        let shape = weights.shape;
        let layers = weights.layers.into_iter().enumerate();
        Ok(Self {
            embedding: weights.embedding,
            layers: layers.map(|(i, w)| Layer::new(w, &shape, i)).collect(),
            output_norm: weights.output_norm,
            output: Adapted {
                linear: Linear::new(weights.output),
                site: Site::Output,
            },
            rope_factors: weights.rope_factors.unwrap_or_default(),
            shape,
            pool,
            device: None,
        })
    }

    /// Has a device run the layers that it holds.
    pub fn set_device(&mut self, device: Arc<dyn DeviceLayers>) {
        self.device = Some(device);
    }

    /// What runs its upper layers, if not the processor.
    pub fn device(&self) -> Option<&Arc<dyn DeviceLayers>> {
        self.device.as_ref()
    }

    /// Whether training can leave the loss to a device.
    pub fn loss_on_device(&self) -> bool {
        self.device.as_ref().is_some_and(|device| device.has_loss())
    }

    /// The layers that the processor runs when there is a device: those below its first.
    pub fn own_layers(&self) -> &[Layer] {
        match &self.device {
            Some(device) => &self.layers[..device.first().min(self.layers.len())],
            None => &self.layers,
        }
    }

    /// An empty cache for `capacity` positions of one sequence, on the device as well.
    ///
    /// # Errors
    /// If the system or the device has no memory left.
    pub fn kv_cache(&self, capacity: usize) -> Result<KvCache> {
        let cache = KvCache::of_layers(self.own_layers().len(), &self.shape, capacity)?;
        Ok(match &self.device {
            Some(device) => cache.with_device(Arc::clone(device).open_kv(capacity)?),
            None => cache,
        })
    }

    /// Bytes that [`Llama::kv_cache`] takes of the system's memory.
    pub fn kv_bytes(&self, capacity: usize) -> usize {
        KvCache::bytes_of_layers(self.own_layers().len(), &self.shape, capacity)
    }

    /// Its sizes.
    pub fn shape(&self) -> &LlamaShape {
        &self.shape
    }

    /// Its layers, bottom up.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The final norm's weight, `[W]`.
    pub fn output_norm(&self) -> &[f32] {
        &self.output_norm
    }

    /// The output matrix, `[V, W]`, applied after the final norm.
    pub fn output(&self) -> &Linear {
        &self.output.linear
    }

    /// The workers its products run on.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The rotation angles of positions `0..positions`.
    pub fn rope_table(&self, positions: usize) -> RopeTable {
        self.shape.rope_table(&self.rope_factors, positions)
    }

    /// What divides the rotations' frequencies, `[D / 2]`; empty for nothing.
    pub fn rope_factors(&self) -> &[f32] {
        &self.rope_factors
    }

    /// Writes the embedding of each token to its row of `rows` `[T, W]`, as the file has it.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    ///
    /// # Panics
    /// If `rows` has another length.
    pub fn embed(&self, rows: &mut [f32], tokens: &[u32]) -> Result<(), ModelError> {
        let (width, vocabulary) = (self.shape.width, self.shape.vocabulary);
        assert_eq!(rows.len(), tokens.len() * width, "one row per token");
        for (row, &token) in rows.chunks_exact_mut(width).zip(tokens) {
            if token as usize >= vocabulary {
                return Err(ModelError::Token { token, vocabulary });
            }
            self.embedding
                .decode_row(token as usize, row, Kernels::detect());
        }
        Ok(())
    }

    /// The same with what adapters add to the rows of the embedding: `E[t] + Σ scale · b_t A`, where `b_t` is the
    /// token's row of B.
    ///
    /// # Errors
    /// As [`Llama::embed`].
    ///
    /// # Panics
    /// As [`Llama::embed`].
    pub fn embed_adapted(
        &self,
        rows: &mut [f32],
        tokens: &[u32],
        adapters: &dyn AdapterView,
    ) -> Result<(), ModelError> {
        self.embed(rows, tokens)?;
        let (width, kernels) = (self.shape.width, Kernels::detect());
        for term in adapters.terms(Site::Embedding) {
            let (mut a, mut of_token) = (Vec::new(), Vec::new());
            let a = term.a.floats(kernels, &mut a, term.rank * width);
            for (row, &token) in rows.chunks_exact_mut(width).zip(tokens) {
                let b = term.b.rows(token as usize, 1, term.rank);
                let b = b.floats(kernels, &mut of_token, term.rank);
                for (a, b) in a.chunks_exact(width).zip(b) {
                    let factor = term.scale * b;
                    row.iter_mut().zip(a).for_each(|(x, a)| *x += factor * a);
                }
            }
        }
        Ok(())
    }

    /// The output matrix in parts of the vocabulary, each with the tokens it is about: what takes the parts one
    /// after the other needs no more than one of them in memory.
    pub fn output_parts(&self) -> impl Iterator<Item = (Range<usize>, Linear)> {
        const TOKENS: usize = 8192;
        let vocabulary = self.shape.vocabulary;
        let starts = (0..vocabulary).step_by(TOKENS);
        starts.map(move |start| {
            let tokens = start..vocabulary.min(start + TOKENS);
            (tokens.clone(), self.output.linear.narrow(tokens))
        })
    }

    /// Most bytes of weights in memory at once while `tokens` tokens go through layers that are read
    /// one after the other: a layer, a part of the output matrix, or the rows of the embedding, which come with
    /// their neighbours in the file. What is read ahead lies in the system's cache.
    pub fn streamed_bytes(&self, tokens: usize) -> usize {
        const NEIGHBOURS: usize = 64 << 10;
        let layers = self.layers.iter().map(|layer| {
            let bytes = layer.linears().map(|linear| linear.weight().bytes().len());
            bytes.sum::<usize>()
        });
        let layer = layers.max().unwrap_or(0);
        let embedding = (tokens * NEIGHBOURS).min(self.embedding.bytes().len());
        let parts = self
            .output_parts()
            .map(|(_, part)| part.weight().bytes().len());
        layer.max(parts.max().unwrap_or(0)).max(embedding)
    }

    /// Lets the memory of the embeddings go until they are used again. Only a hint.
    pub fn release_embedding(&self) {
        self.embedding.release();
    }

    /// Runs rows `[T, W]` (embeddings or image features) through all layers, in place, as the
    /// positions after those in `kv`, and appends theirs to it.
    ///
    /// Any T: prompts are cut into chunks of what `run` has room for.
    ///
    /// # Errors
    /// If a device that runs layers fails.
    ///
    /// # Panics
    /// If `kv` or the rotary table has no room for T more positions, or `kv` is another model's.
    pub fn forward(
        &self,
        rows: &mut [f32],
        kv: &mut KvCache,
        adapters: &dyn AdapterView,
        by: MadeBy,
        run: &mut Inference,
    ) -> Result<()> {
        let rows = (rows, Wanted::All);
        self.forward_checked(rows, kv, (adapters, by), run, &|| Ok(()))
    }

    /// As [`Llama::forward`] for whoever reads only the last row, as generation does: the others are left
    /// meaningless.
    ///
    /// # Errors
    /// As [`Llama::forward`].
    ///
    /// # Panics
    /// As [`Llama::forward`].
    pub fn forward_last(
        &self,
        rows: &mut [f32],
        kv: &mut KvCache,
        adapters: &dyn AdapterView,
        by: MadeBy,
        run: &mut Inference,
    ) -> Result<()> {
        let rows = (rows, Wanted::Last);
        self.forward_checked(rows, kv, (adapters, by), run, &|| Ok(()))
    }

    /// As [`Llama::forward`] or [`Llama::forward_last`], but `check` is asked several times in each layer whether
    /// to go on. If not, the rows are meaningless, and the cache has grown by the chunks that were complete.
    ///
    /// # Errors
    /// What `check` says, and as [`Llama::forward`].
    ///
    /// # Panics
    /// As [`Llama::forward`].
    pub fn forward_checked(
        &self,
        (rows, wanted): (&mut [f32], Wanted),
        kv: &mut KvCache,
        (adapters, by): (&dyn AdapterView, MadeBy),
        run: &mut Inference,
        check: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<()> {
        run.reserve(self, adapters);
        let chunk = run.scratch.tokens() * self.shape.width;
        for rows in rows.chunks_mut(chunk) {
            self.pool.run(|| {
                let pass = Pass {
                    start: kv.len(),
                    ends: &[],
                    starts: &[],
                    rope: &run.rope,
                    adapters,
                };
                for (i, layer) in self.own_layers().iter().enumerate() {
                    let (kv, pass) = (kv.layer(i), (&pass, check as _));
                    let (saved, scratch) = (&mut run.saved, &mut run.scratch);
                    match wanted {
                        Wanted::Last if i + 1 == self.layers.len() => {
                            layer.forward_last_checked(rows, saved, kv, pass, scratch)?;
                        }
                        _ => layer.forward_checked(rows, saved, kv, pass, scratch)?,
                    }
                }
                Ok::<(), crate::Error>(())
            })?;
            self.forward_device(rows, kv, adapters, check)?;
            kv.advance(rows.len() / self.shape.width, by);
        }
        Ok(())
    }

    /// Runs rows that come from the processor's layers through the device's, if there is one.
    pub(super) fn forward_device(
        &self,
        rows: &mut [f32],
        kv: &mut KvCache,
        adapters: &dyn AdapterView,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        if self.device.is_none() {
            return Ok(());
        }
        let start = kv.len();
        let device = kv.device().expect("a cache of this model");
        device.forward(rows, start, adapters, check)
    }

    /// Applies the final norm to `n` rows `[n, W]` that [`Llama::forward`] produced; keeps
    /// `1 / rms` of each in `inv_rms` `[n]` for its backward.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn final_norm(&self, normed: &mut [f32], inv_rms: &mut [f32], rows: &[f32]) {
        let eps = self.shape.norm_eps;
        Kernels::detect().rms_norm_forward(normed, inv_rms, rows, &self.output_norm, eps);
    }

    /// Adds to `drows` `[n, W]` what the gradient of [`Llama::final_norm`]'s result means for
    /// the rows it was given.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn final_norm_backward(
        &self,
        drows: &mut [f32],
        dnormed: &[f32],
        rows: &[f32],
        inv_rms: &[f32],
    ) {
        let weight = &self.output_norm;
        Kernels::detect().rms_norm_backward(drows, dnormed, rows, weight, inv_rms);
    }

    /// Writes the logits `[n, V]` of `n` normalised rows `[n, W]` ([`Llama::final_norm`]), as
    /// training computes them, in words if these layers are; [`Inference::logits`] is faster.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn logits(&self, logits: &mut [f32], normed: &[f32], words: Words) {
        let output = &self.output.linear;
        let rows = normed.len() / self.shape.width;
        let logits = MatMut::new(logits, rows, output.outputs());
        self.pool.run(|| output.forward_to(logits, normed, words));
    }

    /// Adds to `dnormed` `[n, W]` what the gradient of the logits `[n, V]` means for the
    /// normalised rows.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn logits_backward(&self, dnormed: &mut [f32], dlogits: &[f32], words: Words) {
        let output = &self.output.linear;
        self.pool
            .run(|| output.backward(dnormed, true, dlogits, words));
    }
}

/// The buffers of one inference timeline besides its KV cache.
#[derive(Debug)]
pub struct Inference {
    pub(super) saved: Saved,
    pub(super) scratch: Scratch,
    pub(super) rope: RopeTable,
}

impl Inference {
    /// Tokens of a prompt that run through the model at once, unless the caller chooses: enough
    /// to make decoding the weights cheap, few enough to keep the buffers small.
    pub const CHUNK: usize = 512;

    /// Room for chunks of `chunk` tokens and positions up to `context_length`.
    ///
    /// # Errors
    /// If the system has no memory left.
    pub fn new(llama: &Llama, chunk: usize, context_length: usize) -> Result<Self, ArenaError> {
        let arena = Arena::unlimited();
        Ok(Self {
            saved: Saved::new(&llama.shape, chunk, &arena)?,
            scratch: Scratch::rounding(&llama.shape, chunk, &arena)?,
            rope: llama.rope_table(context_length),
        })
    }

    /// Bytes that [`Inference::new`] allocates.
    pub fn bytes(shape: &LlamaShape, chunk: usize, context_length: usize) -> usize {
        let rope = context_length * shape.head_width * size_of::<f32>();
        let rounding = Rounding::bytes(Widest::bytes(chunk * shape.widest_input()));
        Saved::bytes(shape, chunk) + Scratch::bytes(shape, chunk) + rounding + rope
    }

    /// Writes the logits `[n, V]` of `n` normalised rows `[n, W]` ([`Llama::final_norm`]) of the model this
    /// was made for, with what adapters add to its output.
    ///
    /// # Errors
    /// If a device that holds the output fails.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn logits(
        &mut self,
        llama: &Llama,
        logits: &mut [f32],
        normed: &[f32],
        adapters: &dyn AdapterView,
    ) -> Result<()> {
        if let Some(device) = llama.device.as_ref().filter(|device| device.has_output()) {
            return device.logits(logits, normed, adapters);
        }
        let ranks = adapters.terms(Site::Output).map(|term| term.rank);
        let rank = ranks.max().unwrap_or(0);
        self.scratch.reserve_rank(&llama.shape, rank, false);
        let (width, vocabulary) = (llama.shape.width, llama.shape.vocabulary);
        let chunk = self.scratch.tokens();
        let logits = logits.chunks_mut(chunk * vocabulary);
        for (logits, normed) in logits.zip(normed.chunks(chunk * width)) {
            llama.pool.run(|| {
                let room = &mut self.scratch.rounding;
                let input = Input::rounded(normed, Some(room), [&llama.output.linear]);
                let lora = &mut self.scratch.lora;
                llama.output.forward(logits, &input, adapters, lora);
            });
        }
        Ok(())
    }

    /// Makes room for a set of adapters, at most [`super::LoraScratch::bytes`]; otherwise the first
    /// pass with them does.
    pub fn reserve(&mut self, llama: &Llama, adapters: &dyn AdapterView) {
        self.scratch
            .reserve_rank(&llama.shape, adapters.max_rank(), false);
    }
}
