//! Feeding a session: what is new is run in strides, between which and inside which it can be stopped.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Item, Session, SessionError};
use crate::adapter::Attached;
use crate::cancel::Cancel;
use crate::model::{Llama, LlamaShape, ModelError, Wanted};
use crate::{Error, Result};

/// Multiplications of the longest part of a layer that nobody can stop: some 60 ms of two cores.
const UNSTOPPABLE: usize = 1 << 33;
/// Positions of a stride are a multiple of this, so that how it is cut changes no position's bits.
const STRIDE_UNIT: usize = 32;

/// Who looks on while positions are run.
pub struct Watch<'a> {
    /// Stops the work when raised, within a part of a layer.
    pub cancel: &'a Cancel,
    /// Told how many positions of how many were run, after each stride; a break stops the work as a raised flag
    /// does.
    pub progress: Option<&'a mut dyn FnMut(usize, usize) -> ControlFlow<()>>,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("cancel", self.cancel)
            .finish_non_exhaustive()
    }
}

impl<'a> Watch<'a> {
    /// The flag stops; nobody is told.
    pub fn of(cancel: &'a Cancel) -> Self {
        Self {
            cancel,
            progress: None,
        }
    }

    fn tell(&mut self, done: usize, of: usize) -> Result<()> {
        let flow = self.progress.as_mut().map(|progress| progress(done, of));
        match flow {
            Some(ControlFlow::Break(())) => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}

impl Session {
    /// Feeds tokens.
    ///
    /// # Errors
    /// If they do not fit the context or are outside the vocabulary; nothing was fed then.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        self.feed_items(tokens.iter().map(|&id| Item::Token(id)).collect())
    }

    /// Feeds rows of the model's width, such as [`crate::model::Model`]'s image features.
    ///
    /// # Errors
    /// If they do not fit the context or are not whole rows; nothing was fed then.
    pub fn feed_rows(&mut self, rows: Arc<Vec<f32>>) -> Result<()> {
        self.feed_items(vec![Item::Rows(rows)])
    }

    /// Feeds tokens, rows and images in order.
    ///
    /// # Errors
    /// As [`Self::feed`] and [`Self::feed_rows`].
    pub fn feed_items(&mut self, items: Vec<Item>) -> Result<()> {
        self.feed_watched(items, &mut Watch::of(&Cancel::new()))
    }

    /// The same while somebody looks on. Where it is stopped, the items that were run whole stay fed.
    ///
    /// # Errors
    /// As [`Session::feed_items`], or if it is stopped.
    pub fn feed_watched(&mut self, items: Vec<Item>, watch: &mut Watch<'_>) -> Result<()> {
        self.feed_wanted(items, Wanted::Last, watch)
    }

    fn feed_wanted(
        &mut self,
        items: Vec<Item>,
        wanted: Wanted,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        self.check(self.position(), &items)?;
        let before = self.history.len();
        self.history.extend(items);
        let run = self.run_pending(wanted, watch);
        if run.is_err() {
            self.keep_what_was_run(before);
        }
        run
    }

    /// Makes `items` all that it was fed: what its history begins with in common stays, the rest is forgotten and
    /// fed. Returns how many positions were not run again.
    ///
    /// # Errors
    /// As [`Session::feed_watched`]. If they cannot be fed, the history stays as it was.
    pub fn set_history(&mut self, items: Vec<Item>, watch: &mut Watch<'_>) -> Result<usize> {
        self.check(0, &items)?;
        let known = self.common_prefix(&items);
        self.rewind(known);
        self.history.extend(items.into_iter().skip(known));
        let reused = self.position() - self.pending()?;
        let run = self.catch_up(watch);
        if run.is_err() {
            self.keep_what_was_run(known);
        }
        run.map(|()| reused)
    }

    /// Feeds tokens and returns the natural logarithm of each one's probability after what stood before it.
    ///
    /// # Errors
    /// If nothing was fed before, or as [`Session::feed_watched`].
    pub fn feed_scored(&mut self, tokens: &[u32], watch: &mut Watch<'_>) -> Result<Vec<f32>> {
        let items: Vec<_> = tokens.iter().map(|&id| Item::Token(id)).collect();
        self.check(self.position(), &items)?;
        let Some((&first, rest)) = tokens.split_first() else {
            return Ok(Vec::new());
        };
        let mut scores = vec![log_probability(self.logits_unless(watch.cancel)?, first)];
        // The row of each token says what follows it.
        let mut following = rest.iter();
        let mut done = 0;
        for items in items.chunks(self.stride(watch.cancel)) {
            let mut stopped = Watch::of(watch.cancel);
            self.feed_wanted(items.to_vec(), Wanted::All, &mut stopped)?;
            let width = self.sizes().0;
            let llama = self.model.llama();
            let rows = self.rows[..items.len() * width].chunks_exact(width);
            let mut normed = vec![0.0; width];
            for (row, &next) in rows.zip(following.by_ref()) {
                watch.cancel.check()?;
                llama.final_norm(&mut normed, &mut [0.0], row);
                self.run
                    .logits(llama, &mut self.logits, &normed, &self.attached)?;
                scores.push(log_probability(&self.logits, next));
            }
            done += items.len();
            watch.tell(done, tokens.len())?;
        }
        Ok(scores)
    }

    /// Refuses what cannot be fed at a position.
    pub(super) fn check(&self, position: usize, items: &[Item]) -> Result<()> {
        let (width, vocabulary) = self.sizes();
        for item in items {
            match item {
                Item::Token(token) if *token as usize >= vocabulary => {
                    let token = *token;
                    return Err(ModelError::Token { token, vocabulary }.into());
                }
                Item::Rows(rows) if rows.is_empty() || !rows.len().is_multiple_of(width) => {
                    let found = rows.len();
                    return Err(SessionError::Features { found, width }.into());
                }
                Item::Image(image) if !Arc::ptr_eq(image.model(), &self.model) => {
                    let (made_for, found) = (image.model().name(), self.model.name());
                    return Err(SessionError::OtherModelsImage { made_for, found }.into());
                }
                _ => {}
            }
        }
        let (adding, capacity) = (self.positions_of(items), self.capacity());
        if position + adding > capacity {
            return Err(SessionError::ContextFull {
                position,
                adding,
                capacity,
            }
            .into());
        }
        Ok(())
    }

    /// Positions of the history that are not in the cache under the present adapters; what is there under
    /// others is forgotten.
    ///
    /// # Errors
    /// If the system has no memory for them.
    pub(super) fn pending(&mut self) -> Result<usize> {
        let valid = self.kv.valid_prefix(self.attached.made_by());
        self.kv.rewind(valid);
        self.kv.make_room()?;
        Ok(self.position() - valid)
    }

    /// Runs what is pending, to know what follows it.
    pub(super) fn catch_up(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        self.run_pending(Wanted::Last, watch)
    }

    /// Runs what is pending; of each stride the rows that are wanted are left in `rows`.
    fn run_pending(&mut self, wanted: Wanted, watch: &mut Watch<'_>) -> Result<()> {
        let width = self.sizes().0;
        let stride = self.stride(watch.cancel);
        let by = self.attached.made_by();
        let all = self.pending()?;
        let mut pending = all;
        while pending > 0 {
            let count = pending.min(stride);
            let rows = &mut self.rows[..count * width];
            let llama = self.model.llama();
            let (start, adapters) = (self.kv.len(), &self.attached);
            gather(rows, &self.history, start, (llama, adapters), watch.cancel)?;
            let check = || watch.cancel.check();
            let run = &mut self.run;
            llama.forward_checked((rows, wanted), &mut self.kv, (adapters, by), run, &check)?;
            let rows = &self.rows[..count * width];
            self.last.copy_from_slice(&rows[(count - 1) * width..]);
            pending -= count;
            watch.tell(all - pending, all)?;
        }
        Ok(())
    }

    /// Positions that run at once: as many as there is room for, fewer where somebody may stop the work.
    fn stride(&self, cancel: &Cancel) -> usize {
        let room = self.rows.len() / self.sizes().0;
        match cancel.may_be_raised() {
            true => stoppable_stride(self.model.llama().shape()).min(room),
            false => room,
        }
    }

    /// Forgets the items behind the first `before` that are not in the cache whole.
    pub(super) fn keep_what_was_run(&mut self, before: usize) {
        let width = self.sizes().0;
        let mut end = 0;
        let run = self.history.iter().take_while(|item| {
            end += item.positions(width);
            end <= self.kv.len()
        });
        let whole = run.count();
        self.rewind(whole.max(before));
    }
}

/// Positions with which no part of a layer has more than [`UNSTOPPABLE`] multiplications.
pub(super) fn stoppable_stride(shape: &LlamaShape) -> usize {
    let part = shape.width * (shape.width + 2 * shape.feed_forward);
    let positions = UNSTOPPABLE / part.max(1);
    (positions / STRIDE_UNIT * STRIDE_UNIT).max(STRIDE_UNIT)
}

/// The logarithm of a token's probability, from the logits of all.
fn log_probability(logits: &[f32], token: u32) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = logits.iter().map(|&l| f64::from(l - largest).exp());
    let total: f64 = weights.sum();
    (f64::from(logits[token as usize] - largest) - total.ln()) as f32
}

/// Writes the embeddings or features of the positions from `start` on to `rows` `[T, W]`, as they are under a set
/// of adapters.
pub(super) fn gather(
    rows: &mut [f32],
    history: &[Item],
    start: usize,
    (llama, adapters): (&Llama, &Attached),
    cancel: &Cancel,
) -> Result<()> {
    let width = llama.shape().width;
    let mut left = rows;
    let mut position = 0;
    for item in history {
        let positions = item.positions(width);
        let skip = start.saturating_sub(position);
        if skip < positions {
            let floats = left.len().min((positions - skip) * width);
            let (here, after) = left.split_at_mut(floats);
            if here.is_empty() {
                break;
            }
            item.write_rows_unless(here, skip, (llama, adapters), cancel)?;
            left = after;
        }
        position += positions;
    }
    Ok(())
}
