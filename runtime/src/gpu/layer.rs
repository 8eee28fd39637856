//! One transformer layer on a device, forward and backward: [`crate::model::Layer`] says what it is.

use graft_gpu::{
    AttentionGradients, AttentionSaved, LoraGradients, Matrix, Recorder, RopeTurns, Tensor,
};
use graft_kernels::ops::attention::AttentionShape;

use super::buffers::{BackwardScratch, LoraScratch, Saved, Scratch};
use super::pairs::Resident;
use super::weights::LayerWeights;
use crate::Result;
use crate::model::{LlamaShape, Site, SiteKind};

/// Most tokens for which the positions are divided among groups, rather than the tokens.
const FEW_TOKENS: usize = 8;

/// What is the same for every layer of a pass.
pub(super) struct Pass<'a> {
    pub shape: &'a LlamaShape,
    pub attention: AttentionShape,
    /// Position of the first row of one sequence.
    pub start: usize,
    /// Rows at which whole sequences end, the last one's being T; empty for one sequence.
    pub ends: &'a [usize],
    /// Whether a backward follows.
    pub keeps: bool,
    pub rope: &'a RopeTurns,
    pub adapters: &'a Resident<'a>,
    pub scratch: &'a Scratch,
    pub lora: &'a LoraScratch,
}

/// Keys and values that a layer reads, `[positions, K * D]`; it writes the last of them.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub keys: &'a Tensor,
    pub values: &'a Tensor,
}

/// Where backward puts a layer's gradients.
pub(super) struct Work<'a> {
    pub back: &'a BackwardScratch,
    /// Arrays for the gradients of A and B of the first adapter, zeros at first, by site; `None` where nothing is
    /// trained.
    pub gradients: &'a dyn Fn(Site) -> Option<[Tensor; 2]>,
    /// Whether anything below this layer needs a gradient.
    pub needs_input: bool,
}

/// One layer and its number.
#[derive(Clone, Copy)]
pub(super) struct LayerAt<'a> {
    pub number: usize,
    pub weights: &'a LayerWeights,
}

impl Pass<'_> {
    /// The sequences of `tokens` rows: the rows of each, and the position of the first.
    fn sequences(&self, tokens: usize) -> Vec<(std::ops::Range<usize>, usize)> {
        if self.ends.is_empty() {
            return vec![(0..tokens, self.start)];
        }
        let starts = std::iter::once(&0).chain(self.ends);
        let sequences = starts.zip(self.ends);
        sequences.map(|(&start, &end)| (start..end, 0)).collect()
    }
}

impl LayerAt<'_> {
    /// Runs `x` `[T, W]` through the layer, in place, as the last T of the positions in `read`, and writes
    /// their keys and values there.
    ///
    /// # Errors
    /// If shapes contradict each other, or the device is lost.
    pub fn forward(
        self,
        recorder: &mut Recorder,
        x: &Tensor,
        saved: &Saved,
        read: Read<'_>,
        pass: &Pass<'_>,
    ) -> Result<()> {
        self.attend(recorder, x, saved, read, pass)?;
        let (tokens, shape) = (x.rows(), pass.shape);
        let active = pass.scratch.active.slice(0..tokens)?;
        let gate = saved.gate.slice(0..tokens)?;
        let up = saved.up.slice(0..tokens)?;
        recorder.swiglu(&active, &gate, &up)?;
        let update = pass.scratch.update.slice(0..tokens)?;
        self.linear(recorder, SiteKind::Down, &update, &active, pass)?;
        recorder.add(x, &update, 1.0)?;
        debug_assert_eq!(x.width(), shape.width);
        Ok(())
    }

    /// As much of [`LayerAt::forward`] as backward needs.
    ///
    /// # Errors
    /// As [`LayerAt::forward`].
    pub fn attend(
        self,
        recorder: &mut Recorder,
        x: &Tensor,
        saved: &Saved,
        read: Read<'_>,
        pass: &Pass<'_>,
    ) -> Result<()> {
        let (tokens, shape) = (x.rows(), pass.shape);
        let eps = f64::from(shape.norm_eps);
        let normed = pass.scratch.normed.slice(0..tokens)?;
        let inv_rms = saved.inv_rms_in.slice(0..tokens)?;
        recorder.rms_norm(&normed, &inv_rms, x, &self.weights.attention_norm, eps)?;
        let queries = saved.queries.slice(0..tokens)?;
        let positions = read.keys.rows();
        let fresh = positions - tokens..positions;
        let (keys, values) = (read.keys.slice(fresh.clone())?, read.values.slice(fresh)?);
        self.linear(recorder, SiteKind::Q, &queries, &normed, pass)?;
        self.linear(recorder, SiteKind::K, &keys, &normed, pass)?;
        self.linear(recorder, SiteKind::V, &values, &normed, pass)?;
        let attended = saved.attended.slice(0..tokens)?;
        for (rows, start) in pass.sequences(tokens) {
            let q = queries.slice(rows.clone())?;
            recorder.rope(&q, shape.head_width, start, pass.rope)?;
            recorder.rope(
                &keys.slice(rows.clone())?,
                shape.head_width,
                start,
                pass.rope,
            )?;
            // One sequence reads what came before its rows as well.
            let read_rows = match pass.ends.is_empty() {
                true => 0..positions,
                false => rows.clone(),
            };
            let (k, v) = (
                read.keys.slice(read_rows.clone())?,
                read.values.slice(read_rows)?,
            );
            let (out, lse) = (
                attended.slice(rows.clone())?,
                lse_of(&saved.lse, &rows, shape)?,
            );
            // What is written to only after attention has room for the parts that few tokens are put together from.
            let room = &saved.gate;
            let parts = Recorder::attention_thin_scratch(q.rows(), k.rows(), &pass.attention);
            if !pass.keeps && q.rows() <= FEW_TOKENS && parts <= room.len() {
                recorder.attention_thin(&out, [&q, &k, &v], &pass.attention, room)?;
            } else {
                recorder.attention(&out, &lse, [&q, &k, &v], &pass.attention)?;
            }
        }
        let update = pass.scratch.update.slice(0..tokens)?;
        self.linear(recorder, SiteKind::O, &update, &attended, pass)?;
        recorder.add(x, &update, 1.0)?;

        let middle = saved.middle.slice(0..tokens)?;
        recorder.copy(&middle, x)?;
        let inv_rms = saved.inv_rms_middle.slice(0..tokens)?;
        recorder.rms_norm(
            &normed,
            &inv_rms,
            &middle,
            &self.weights.feed_forward_norm,
            eps,
        )?;
        let (gate, up) = (saved.gate.slice(0..tokens)?, saved.up.slice(0..tokens)?);
        self.linear(recorder, SiteKind::Gate, &gate, &normed, pass)?;
        self.linear(recorder, SiteKind::Up, &up, &normed, pass)
    }

    /// With the gradient of the layer's output in `dx` `[T, W]`: adds to the gradients of the first adapter and,
    /// if asked for, leaves the gradient of the layer's input in `dx`, which is meaningless otherwise. `x` is the
    /// input that forward was given, `read` what it wrote.
    ///
    /// # Errors
    /// As [`LayerAt::forward`].
    pub fn backward(
        self,
        recorder: &mut Recorder,
        (dx, x): (&Tensor, &Tensor),
        saved: &Saved,
        read: Read<'_>,
        pass: &Pass<'_>,
        work: &Work<'_>,
    ) -> Result<()> {
        let (tokens, shape, back) = (dx.rows(), pass.shape, work.back);
        let eps = f64::from(shape.norm_eps);
        let (gate, up) = (saved.gate.slice(0..tokens)?, saved.up.slice(0..tokens)?);
        let active = pass.scratch.active.slice(0..tokens)?;
        recorder.swiglu(&active, &gate, &up)?;
        let dactive = zeroed(recorder, &back.dactive, tokens)?;
        self.linear_backward(recorder, SiteKind::Down, &dactive, dx, &active, pass, work)?;
        let dgate = zeroed(recorder, &back.dgate, tokens)?;
        let dup = zeroed(recorder, &back.dup, tokens)?;
        recorder.swiglu_backward(&dgate, &dup, &dactive, &gate, &up)?;

        let normed = pass.scratch.normed.slice(0..tokens)?;
        let middle = saved.middle.slice(0..tokens)?;
        let inv_rms = saved.inv_rms_middle.slice(0..tokens)?;
        let weight = &self.weights.feed_forward_norm;
        recorder.rms_norm(&normed, &inv_rms, &middle, weight, eps)?;
        let dnormed = zeroed(recorder, &back.dnormed, tokens)?;
        self.linear_backward(
            recorder,
            SiteKind::Gate,
            &dnormed,
            &dgate,
            &normed,
            pass,
            work,
        )?;
        self.linear_backward(recorder, SiteKind::Up, &dnormed, &dup, &normed, pass, work)?;
        recorder.rms_norm_backward(dx, &dnormed, &middle, weight, &inv_rms)?;

        let attended = saved.attended.slice(0..tokens)?;
        let dattended = zeroed(recorder, &back.dattended, tokens)?;
        self.linear_backward(recorder, SiteKind::O, &dattended, dx, &attended, pass, work)?;
        let dq = zeroed(recorder, &back.dqueries, tokens)?;
        let dk = zeroed(recorder, &back.dkeys, tokens)?;
        let dv = zeroed(recorder, &back.dvalues, tokens)?;
        for (rows, start) in pass.sequences(tokens) {
            let cut = |all: &Tensor| all.slice(rows.clone());
            let (dq, dk, dv) = (cut(&dq)?, cut(&dk)?, cut(&dv)?);
            let grads = AttentionGradients {
                dq: &dq,
                dk: &dk,
                dv: &dv,
                delta: &lse_of(&back.delta, &rows, shape)?,
            };
            let wrote = AttentionSaved {
                out: &cut(&attended)?,
                lse: &lse_of(&saved.lse, &rows, shape)?,
                q: &cut(&saved.queries)?,
                k: &cut(read.keys)?,
                v: &cut(read.values)?,
            };
            recorder.attention_backward(&grads, &cut(&dattended)?, &wrote, &pass.attention)?;
            recorder.rope_backward(&dq, shape.head_width, start, pass.rope)?;
            recorder.rope_backward(&dk, shape.head_width, start, pass.rope)?;
        }

        let inv_rms = saved.inv_rms_in.slice(0..tokens)?;
        let weight = &self.weights.attention_norm;
        recorder.rms_norm(&normed, &inv_rms, x, weight, eps)?;
        let dnormed = zeroed(recorder, &back.dnormed, tokens)?;
        for (linear, dy) in [(SiteKind::Q, &dq), (SiteKind::K, &dk), (SiteKind::V, &dv)] {
            self.linear_backward(recorder, linear, &dnormed, dy, &normed, pass, work)?;
        }
        if work.needs_input {
            recorder.rms_norm_backward(dx, &dnormed, x, weight, &inv_rms)?;
        }
        Ok(())
    }

    fn linear(
        self,
        recorder: &mut Recorder,
        linear: SiteKind,
        y: &Tensor,
        x: &Tensor,
        pass: &Pass<'_>,
    ) -> Result<()> {
        let site = Site::Layer {
            layer: self.number,
            linear,
        };
        let matrix = self.weights.matrix(linear);
        adapted(
            recorder,
            (matrix, site, 0),
            y,
            x,
            (pass.adapters, pass.lora),
        )
    }

    #[allow(clippy::too_many_arguments)] // those of Adapted::backward on the processor
    fn linear_backward(
        self,
        recorder: &mut Recorder,
        linear: SiteKind,
        dx: &Tensor,
        dy: &Tensor,
        x: &Tensor,
        pass: &Pass<'_>,
        work: &Work<'_>,
    ) -> Result<()> {
        let site = Site::Layer {
            layer: self.number,
            linear,
        };
        let below = matches!(linear, SiteKind::Q | SiteKind::K | SiteKind::V);
        if work.needs_input || !below {
            recorder.mm_q_backward(dx, dy, self.weights.matrix(linear))?;
        }
        // Training has one adapter, whose rows are all rows.
        let Some(term) = pass.adapters.terms(site).next() else {
            return Ok(());
        };
        let Some([da, db]) = (work.gradients)(site) else {
            return Ok(());
        };
        let arrays = pass.lora.of(x.rows(), term.rank)?;
        // `A x` again: keeping it for every layer would cost more than it saves.
        recorder.lora_down(&arrays.ax, x, &term.layer, &arrays.scratch)?;
        let grads = LoraGradients {
            da: &da,
            db: &db,
            dx,
            h: &arrays.h,
        };
        recorder.lora_backward(&grads, dy, x, &arrays.ax, &term.layer, &arrays.scratch)?;
        Ok(())
    }
}

/// A product with a stored matrix and what adapters add to it; `x` is the pass's rows from `first` on.
///
/// # Errors
/// If shapes contradict each other, or the device is lost.
pub(super) fn adapted(
    recorder: &mut Recorder,
    (matrix, site, first): (&Matrix, Site, usize),
    y: &Tensor,
    x: &Tensor,
    (adapters, lora): (&Resident<'_>, &LoraScratch),
) -> Result<()> {
    recorder.linear(y, x, matrix)?;
    for term in adapters.terms(site) {
        let rows = term.rows.within(first + x.rows());
        let rows = rows.start.max(first) - first..rows.end.max(first) - first;
        if rows.is_empty() {
            continue;
        }
        let arrays = lora.of(rows.len(), term.rank)?;
        let (y, x) = (y.slice(rows.clone())?, x.slice(rows)?);
        recorder.lora(&y, &arrays.ax, &x, &term.layer, &arrays.scratch)?;
    }
    Ok(())
}

/// The part of an array `[H, length]` per sequence that belongs to these rows.
fn lse_of(all: &Tensor, rows: &std::ops::Range<usize>, shape: &LlamaShape) -> Result<Tensor> {
    let floats = all.reshape(all.len(), 1)?;
    let part = floats.slice(rows.start * shape.heads..rows.end * shape.heads)?;
    Ok(part.reshape(shape.heads, rows.len())?)
}

fn zeroed(recorder: &mut Recorder, all: &Tensor, rows: usize) -> Result<Tensor> {
    let part = all.slice(0..rows)?;
    recorder.fill(&part, 0.0)?;
    Ok(part)
}
