//! Several sequences in one pass: every frozen product is computed once for the rows of all, while each
//! sequence has its own cache and its own adapters.
//!
//! A layer sees one list of low-rank terms, each with the rows it is for. Sequences with the same adapters
//! that lie side by side share their terms, so that A and B are read once for them.

use std::any::Any;
use std::sync::Arc;

use super::{AdapterView, Inference, Llama, LlamaShape, LoraRef, Pass, RowSpan, Site};
use crate::Result;
use crate::kv_cache::{KvCache, KvSlice, MadeBy};
use crate::memory::{Arena, ArenaError, Floats, Part};

/// One sequence of a batch.
pub struct Lane<'a> {
    /// Its rows in this pass.
    pub rows: usize,
    /// What it has seen before.
    pub kv: &'a mut KvCache,
    /// Its adapters.
    pub adapters: &'a dyn AdapterView,
    /// Their number in the cache.
    pub by: MadeBy,
    /// Neighbours with the same number have the same adapters.
    pub group: usize,
}

/// Keys and values of a pass before they go to the caches of their sequences, `[T, K * D]` each.
#[derive(Debug)]
pub struct FreshKv {
    keys: Floats,
    values: Floats,
}

impl FreshKv {
    /// Room for `tokens` tokens.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(shape: &LlamaShape, tokens: usize, arena: &Arena) -> Result<Self, ArenaError> {
        let len = tokens * shape.kv_width();
        let [keys, values] = arena.arrays(Part::LayerBuffers, [len, len])?;
        Ok(Self { keys, values })
    }

    /// Bytes that [`FreshKv::new`] allocates.
    pub fn bytes(shape: &LlamaShape, tokens: usize) -> usize {
        2 * tokens * shape.kv_width() * size_of::<f32>()
    }
}

impl Llama {
    /// Runs the lanes' rows `[T, W]`, one lane behind the other, through all layers, in place, each as the
    /// positions after those in its cache, and appends them to it. `check` is asked several times in each layer
    /// whether to go on; if not, the rows are meaningless, and no cache has grown. A device runs one lane after the
    /// other.
    ///
    /// # Errors
    /// What `check` says; if a device that runs layers fails.
    ///
    /// # Panics
    /// If `run`, `fresh` or a cache has no room for them, or there are not as many rows as the lanes have.
    pub fn forward_batch(
        &self,
        rows: &mut [f32],
        lanes: &mut [Lane<'_>],
        run: &mut Inference,
        fresh: &mut FreshKv,
        check: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<()> {
        let mut end = 0;
        let ends = lanes.iter().map(|lane| {
            end += lane.rows;
            end
        });
        let ends: Vec<_> = ends.collect();
        assert_eq!(rows.len(), end * self.shape().width, "a row for each token");
        let starts: Vec<_> = lanes.iter().map(|lane| lane.kv.len()).collect();
        let adapters = Terms::of(lanes);
        run.reserve(self, &adapters);
        let Inference {
            saved,
            scratch,
            rope,
        } = run;
        let pass = Pass {
            start: 0,
            ends: &ends,
            starts: &starts,
            rope,
            adapters: &adapters,
        };
        self.pool().run(|| {
            for (i, layer) in self.own_layers().iter().enumerate() {
                let mut caches: Vec<_> = lanes.iter_mut().map(|lane| lane.kv.layer(i)).collect();
                let fresh = KvSlice::of(&mut fresh.keys, &mut fresh.values);
                let (caches, pass) = ((fresh, &mut caches[..]), (&pass, check as _));
                layer.forward_batch(rows, saved, caches, pass, scratch)?;
            }
            Ok::<(), crate::Error>(())
        })?;
        let mut left = rows;
        for lane in lanes.iter_mut() {
            let (rows, others) = left.split_at_mut(lane.rows * self.shape().width);
            self.forward_device(rows, lane.kv, lane.adapters, check)?;
            left = others;
        }
        for lane in lanes {
            lane.kv.advance(lane.rows, lane.by);
        }
        Ok(())
    }
}

impl Inference {
    /// The same as [`Inference::logits`] for rows of several sequences, each with its own adapters; neighbours with
    /// equal ones share them.
    ///
    /// # Errors
    /// As [`Inference::logits`].
    ///
    /// # Panics
    /// If the lengths do not fit together, or there are more rows than run at once.
    pub fn logits_of_each<A: AdapterView + PartialEq>(
        &mut self,
        llama: &Llama,
        logits: &mut [f32],
        normed: &[f32],
        adapters: &[&A],
    ) -> Result<()> {
        let rows = normed.len() / llama.shape().width;
        assert_eq!(rows, adapters.len(), "adapters for each row");
        assert!(rows <= self.scratch.tokens(), "rows of one pass");
        let mut terms = Terms { terms: Vec::new() };
        let mut first = 0;
        for equal in adapters.chunk_by(|a, b| a == b) {
            first = terms.push(first, equal.len(), equal[0]);
        }
        self.logits(llama, logits, normed, &terms)
    }
}

/// The adapters of all lanes, each for the rows of its lanes.
struct Terms<'a> {
    /// Rows, adapters, and which of these it is.
    terms: Vec<(RowSpan, &'a dyn AdapterView, usize)>,
}

impl<'a> Terms<'a> {
    fn of(lanes: &[Lane<'a>]) -> Self {
        let mut terms = Self { terms: Vec::new() };
        let mut first = 0;
        for lanes in lanes.chunk_by(|a, b| a.group == b.group) {
            let count = lanes.iter().map(|lane| lane.rows).sum();
            first = terms.push(first, count, lanes[0].adapters);
        }
        terms
    }

    /// Adds adapters for `count` rows from `first` on; returns the row after them.
    fn push(&mut self, first: usize, count: usize, adapters: &'a dyn AdapterView) -> usize {
        let rows = RowSpan { first, count };
        let terms = (0..adapters.count()).map(|n| (rows, adapters, n));
        self.terms.extend(terms);
        first + count
    }
}

impl AdapterView for Terms<'_> {
    fn count(&self) -> usize {
        self.terms.len()
    }

    fn term(&self, n: usize, site: Site) -> Option<LoraRef<'_>> {
        let &(rows, adapters, n) = self.terms.get(n)?;
        let term = adapters.term(n, site)?;
        Some(LoraRef { rows, ..term })
    }

    fn max_rank(&self) -> usize {
        let ranks = self
            .terms
            .iter()
            .map(|(_, adapters, _)| adapters.max_rank());
        ranks.max().unwrap_or(0)
    }

    fn owner(&self, n: usize) -> Option<Arc<dyn Any + Send + Sync>> {
        let &(_, adapters, n) = self.terms.get(n)?;
        adapters.owner(n)
    }
}
