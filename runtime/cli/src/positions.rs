//! Logits of every position of a sequence, a few rows at a time.

use graft::adapter::Attached;
use graft::cancel::Cancel;
use graft::kv_cache::KvCache;
use graft::model::{Inference, Model};
use graft::session::Item;

use crate::failure::Failure;

/// Rows whose logits are computed at once: they bound the memory, not the result.
const LOGIT_ROWS: usize = 32;

/// A model at work on one sequence after another, each from the beginning.
pub struct Positions<'m> {
    model: &'m Model,
    attached: Attached,
    kv: KvCache,
    run: Inference,
    rows: Vec<f32>,
    normed: Vec<f32>,
    logits: Vec<f32>,
}

impl<'m> Positions<'m> {
    /// Room for sequences of up to `capacity` positions.
    pub fn new(model: &'m Model, attached: Attached, capacity: usize) -> Result<Self, Failure> {
        let llama = model.llama();
        let shape = llama.shape();
        let chunk = Inference::CHUNK.min(capacity).max(1);
        Ok(Self {
            kv: llama.kv_cache(capacity)?,
            run: Inference::new(llama, chunk, capacity).map_err(graft::Error::from)?,
            rows: Vec::with_capacity(chunk * shape.width),
            normed: vec![0.0; LOGIT_ROWS * shape.width],
            logits: vec![0.0; LOGIT_ROWS * shape.vocabulary],
            attached,
            model,
        })
    }

    /// Runs `items` and gives `on_logits` the number of each position from `from` on with its
    /// logits `[V]`, in order.
    pub fn each(
        &mut self,
        items: &[Item],
        from: usize,
        cancel: &Cancel,
        mut on_logits: impl FnMut(usize, &[f32]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.kv.rewind(0);
        let llama = self.model.llama();
        let width = llama.shape().width;
        let chunk = Inference::CHUNK.min(self.kv.capacity()) * width;
        let mut done = 0;
        self.rows.clear();
        for (i, item) in items.iter().enumerate() {
            let at = self.rows.len();
            self.rows.resize(at + item.positions(width) * width, 0.0);
            item.write_rows(&mut self.rows[at..], 0, llama, &self.attached)?;
            let last = i + 1 == items.len();
            while self.rows.len() >= chunk || (last && !self.rows.is_empty()) {
                cancel.check()?;
                let take = chunk.min(self.rows.len());
                self.run_rows(take, done, from, &mut on_logits)?;
                self.rows.drain(..take);
                done += take / width;
            }
        }
        Ok(())
    }

    /// Runs the first `floats` of the rows, the first of them position `done`.
    fn run_rows(
        &mut self,
        floats: usize,
        done: usize,
        from: usize,
        on_logits: &mut impl FnMut(usize, &[f32]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let llama = self.model.llama();
        let (width, vocabulary) = (llama.shape().width, llama.shape().vocabulary);
        let rows = &mut self.rows[..floats];
        let by = self.attached.made_by();
        llama.forward(rows, &mut self.kv, &self.attached, by, &mut self.run)?;
        let skip = from.saturating_sub(done).min(floats / width);
        let mut position = done + skip;
        for rows in rows[skip * width..].chunks(LOGIT_ROWS * width) {
            let count = rows.len() / width;
            let normed = &mut self.normed[..rows.len()];
            let logits = &mut self.logits[..count * vocabulary];
            llama.final_norm(normed, &mut [0.0; LOGIT_ROWS][..count], rows);
            self.run.logits(llama, logits, normed, &self.attached)?;
            for logits in logits.chunks_exact(vocabulary) {
                on_logits(position, logits)?;
                position += 1;
            }
        }
        Ok(())
    }
}
