//! One transformer layer, forward and backward.
//!
//! ```text
//! x += O(attention(Q n, K n, V n)),           n = norm(x)
//! x += Down(silu(Gate m) * (Up m)),           m = norm(x)
//! ```
//! One code path serves generation, prompts and training; they differ in who owns [`Saved`] and in
//! where keys and values go. Recomputing a layer is calling `forward` again on its saved input.

use graft_kernels::Kernels;
use graft_kernels::ops::attention::AttentionShape;
use rayon::prelude::*;

use super::attention::{self, Arrays};
use super::rowwise::{FLOATS_PER_PIECE, norm_again};
use super::weights::LayerWeights;
use super::{
    Adapted, BackwardScratch, GradientView, Input, InputGradient, Linear, LlamaShape, Pass, Saved,
    Scratch, Site, SiteKind,
};
use crate::kv_cache::KvSlice;
use graft_kernels::tiled::linear::SCRATCH;

/// One transformer layer.
#[derive(Debug)]
pub struct Layer {
    attention_norm: Vec<f32>,
    feed_forward_norm: Vec<f32>,
    q: Adapted,
    k: Adapted,
    v: Adapted,
    o: Adapted,
    gate: Adapted,
    up: Adapted,
    down: Adapted,
    pub(super) norm_eps: f32,
    pub(super) attention: AttentionShape,
    pub(super) kernels: &'static Kernels,
}

impl Layer {
    /// Layer number `layer` of a model.
    pub fn new(weights: LayerWeights, shape: &LlamaShape, layer: usize) -> Self {
        let mut linears = SiteKind::ALL
            .into_iter()
            .zip(weights.linears)
            .map(|(linear, weight)| Adapted {
                linear: Linear::new(weight),
                site: Site::Layer { layer, linear },
            });
        let mut next = || linears.next().expect("seven weights");
        Self {
            attention_norm: weights.attention_norm,
            feed_forward_norm: weights.feed_forward_norm,
            q: next(),
            k: next(),
            v: next(),
            o: next(),
            gate: next(),
            up: next(),
            down: next(),
            norm_eps: shape.norm_eps,
            attention: shape.attention(),
            kernels: Kernels::detect(),
        }
    }

    /// Runs `x` `[T, W]` through the layer, in place; writes keys and values of positions
    /// `start..start + T` and reads those before.
    ///
    /// # Panics
    /// If a buffer or the rotary table has no room for them, or the pass has ends that contradict
    /// its start or T.
    pub fn forward(
        &self,
        x: &mut [f32],
        saved: &mut Saved,
        kv: KvSlice<'_>,
        pass: &Pass<'_>,
        scratch: &mut Scratch,
    ) {
        self.recompute(x, saved, kv, pass, scratch);
        self.add_feed_forward(x, saved, pass, scratch);
    }

    /// As [`Layer::forward`], but `check` is asked between its parts whether to go on; `x` is meaningless if not.
    ///
    /// # Errors
    /// What `check` says.
    pub fn forward_checked<E>(
        &self,
        x: &mut [f32],
        saved: &mut Saved,
        kv: KvSlice<'_>,
        (pass, check): (&Pass<'_>, &dyn Fn() -> Result<(), E>),
        scratch: &mut Scratch,
    ) -> Result<(), E> {
        self.attend(x, saved, kv, pass, scratch);
        check()?;
        self.add_attention(x, saved, pass, scratch);
        check()?;
        self.add_feed_forward(x, saved, pass, scratch);
        check()
    }

    /// As [`Layer::forward_checked`] for the last row of one sequence, whose adapters see all rows; the other rows,
    /// which get keys and values, are left meaningless.
    ///
    /// # Errors
    /// What `check` says.
    ///
    /// # Panics
    /// As [`Layer::forward`], or if there are no rows.
    pub fn forward_last_checked<E>(
        &self,
        x: &mut [f32],
        saved: &mut Saved,
        kv: KvSlice<'_>,
        (pass, check): (&Pass<'_>, &dyn Fn() -> Result<(), E>),
        scratch: &mut Scratch,
    ) -> Result<(), E> {
        let Sizes { tokens, width, .. } = self.sizes(x);
        let last = tokens - 1;
        self.attend_last(x, saved, kv, pass, scratch);
        check()?;
        let x = &mut x[last * width..];
        self.add_attention(x, saved, pass, scratch);
        check()?;
        self.add_feed_forward(x, saved, pass, scratch);
        check()
    }

    /// Runs the rows of several sequences `[T, W]` through the layer, in place. Each has a cache of its own,
    /// to which its keys and values are written; `fresh` has room for those of T tokens.
    ///
    /// # Errors
    /// As [`Layer::forward_checked`].
    ///
    /// # Panics
    /// If a buffer or a cache has no room for them, or the pass does not say of each sequence where it ends
    /// and starts.
    pub fn forward_batch<E>(
        &self,
        x: &mut [f32],
        saved: &mut Saved,
        (fresh, caches): (KvSlice<'_>, &mut [KvSlice<'_>]),
        (pass, check): (&Pass<'_>, &dyn Fn() -> Result<(), E>),
        scratch: &mut Scratch,
    ) -> Result<(), E> {
        let sizes = self.sizes(x);
        let (tokens, query, kv_width) = (sizes.tokens, sizes.query, sizes.kv_width);
        let keys = &mut fresh.keys[..tokens * kv_width];
        let values = &mut fresh.values[..tokens * kv_width];
        self.project(x, saved, (keys, values), pass, scratch);
        let attended = &mut saved.attended[..tokens * query];
        let lse = &mut saved.lse[..tokens * self.attention.heads];
        let read = Arrays {
            q: &saved.queries[..tokens * query],
            k: keys,
            v: values,
        };
        let lanes = (pass.ends, pass.starts, caches);
        attention::forward_batch(attended, lse, &read, lanes, &self.attention);
        check()?;
        self.add_attention(x, saved, pass, scratch);
        check()?;
        self.add_feed_forward(x, saved, pass, scratch);
        check()
    }

    /// As much of [`Layer::forward`] as its backward needs: all but the last product, whose result
    /// nobody asks for the second time. `x` is left as the residual stream after attention.
    ///
    /// # Panics
    /// As [`Layer::forward`].
    pub fn recompute(
        &self,
        x: &mut [f32],
        saved: &mut Saved,
        kv: KvSlice<'_>,
        pass: &Pass<'_>,
        scratch: &mut Scratch,
    ) {
        self.attend(x, saved, kv, pass, scratch);
        self.add_attention(x, saved, pass, scratch);
    }

    /// Reads from the positions up to each row's own, whose keys and values it writes.
    fn attend(
        &self,
        x: &[f32],
        saved: &mut Saved,
        kv: KvSlice<'_>,
        pass: &Pass<'_>,
        scratch: &mut Scratch,
    ) {
        let sizes = self.sizes(x);
        let (tokens, query, kv_width) = (sizes.tokens, sizes.query, sizes.kv_width);
        let Pass { start, ends, .. } = *pass;
        assert!(
            ends.last().is_none_or(|&end| (start, end) == (0, tokens)),
            "whole sequences, all of them"
        );
        let begin = (start - kv.before.positions()) * kv_width;
        let end = begin + tokens * kv_width;
        let (keys, values) = (&mut kv.keys[..end], &mut kv.values[..end]);
        let fresh = (&mut keys[begin..], &mut values[begin..]);
        self.project(x, saved, fresh, pass, scratch);
        let attended = &mut saved.attended[..tokens * query];
        let lse = &mut saved.lse[..tokens * self.attention.heads];
        let read = Arrays {
            q: &saved.queries[..tokens * query],
            k: keys,
            v: values,
        };
        attention::forward(attended, lse, (&read, kv.before), ends, &self.attention);
    }

    /// As [`Layer::attend`] for the query of the last row alone.
    fn attend_last(
        &self,
        x: &[f32],
        saved: &mut Saved,
        kv: KvSlice<'_>,
        pass: &Pass<'_>,
        scratch: &mut Scratch,
    ) {
        let Sizes {
            tokens,
            width,
            query,
            kv_width,
            ..
        } = self.sizes(x);
        assert!(pass.ends.is_empty(), "one sequence");
        let (adapters, last) = (pass.adapters, tokens - 1);
        let begin = (pass.start - kv.before.positions()) * kv_width;
        let end = begin + tokens * kv_width;
        let (keys, values) = (&mut kv.keys[..end], &mut kv.values[..end]);
        let (lora, rounding) = (&mut scratch.lora, &mut scratch.rounding);
        let normed = &mut scratch.normed[..tokens * width];
        let inv_rms = &mut saved.inv_rms_in[..tokens];
        self.norm(normed, inv_rms, x, &self.attention_norm);
        let (k, v) = (&mut keys[begin..], &mut values[begin..]);
        let input = Input::rounded(
            normed,
            Some(&mut *rounding),
            [&self.k.linear, &self.v.linear],
        );
        rayon::join(
            || self.k.forward_first(k, &input, adapters),
            || self.v.forward_first(v, &input, adapters),
        );
        self.k.add_terms(k, normed, adapters, lora);
        self.v.add_terms(v, normed, adapters, lora);
        self.turn(k, self.attention.kv_heads, pass, Kernels::rope_forward);

        let pass = Pass {
            start: pass.start + last,
            ..*pass
        };
        let q = &mut saved.queries[..query];
        let normed = &normed[last * width..];
        let input = Input::rounded(normed, Some(&mut *rounding), [&self.q.linear]);
        self.q.forward(q, &input, adapters, lora);
        self.turn(q, self.attention.heads, &pass, Kernels::rope_forward);
        let attended = &mut saved.attended[..query];
        let lse = &mut saved.lse[..self.attention.heads];
        let read = Arrays {
            q,
            k: keys,
            v: values,
        };
        attention::forward(
            attended,
            lse,
            (&read, kv.before),
            pass.ends,
            &self.attention,
        );
    }

    /// Writes the queries of `x` `[T, W]`, rotated, to `saved`, and its keys and values `[T, K * D]`.
    fn project(
        &self,
        x: &[f32],
        saved: &mut Saved,
        (k, v): (&mut [f32], &mut [f32]),
        pass: &Pass<'_>,
        scratch: &mut Scratch,
    ) {
        let Sizes {
            tokens,
            width,
            query,
            ..
        } = self.sizes(x);
        let adapters = pass.adapters;
        let (lora, rounding) = (&mut scratch.lora, &mut scratch.rounding);
        let normed = &mut scratch.normed[..tokens * width];
        let inv_rms = &mut saved.inv_rms_in[..tokens];
        self.norm(normed, inv_rms, x, &self.attention_norm);
        let readers = [&self.q.linear, &self.k.linear, &self.v.linear];
        let input = Input::rounded(normed, Some(&mut *rounding), readers);
        let q = &mut saved.queries[..tokens * query];
        join3(
            || self.q.forward_first(q, &input, adapters),
            || self.k.forward_first(k, &input, adapters),
            || self.v.forward_first(v, &input, adapters),
        );
        self.q.add_terms(q, normed, adapters, lora);
        self.k.add_terms(k, normed, adapters, lora);
        self.v.add_terms(v, normed, adapters, lora);
        self.turn(q, self.attention.heads, pass, Kernels::rope_forward);
        self.turn(k, self.attention.kv_heads, pass, Kernels::rope_forward);
    }

    /// Adds what attention read to `x` and computes the two factors of the feed-forward part from it.
    fn add_attention(
        &self,
        x: &mut [f32],
        saved: &mut Saved,
        pass: &Pass<'_>,
        scratch: &mut Scratch,
    ) {
        let Sizes {
            tokens,
            width,
            query,
            feed_forward,
            ..
        } = self.sizes(x);
        let adapters = pass.adapters;
        let (lora, rounding) = (&mut scratch.lora, &mut scratch.rounding);
        let attended = &saved.attended[..tokens * query];
        let update = &mut scratch.update[..tokens * width];
        let input = Input::rounded(attended, Some(&mut *rounding), [&self.o.linear]);
        self.o.forward(update, &input, adapters, lora);
        self.add(x, update);

        let middle = &mut saved.middle[..tokens * width];
        middle.copy_from_slice(x);
        let normed = &mut scratch.normed[..tokens * width];
        let inv_rms = &mut saved.inv_rms_middle[..tokens];
        self.norm(normed, inv_rms, middle, &self.feed_forward_norm);
        let (gate, up) = (
            &mut saved.gate[..tokens * feed_forward],
            &mut saved.up[..tokens * feed_forward],
        );
        let readers = [&self.gate.linear, &self.up.linear];
        let input = Input::rounded(normed, Some(&mut *rounding), readers);
        rayon::join(
            || self.gate.forward_first(gate, &input, adapters),
            || self.up.forward_first(up, &input, adapters),
        );
        self.gate.add_terms(gate, normed, adapters, lora);
        self.up.add_terms(up, normed, adapters, lora);
    }

    /// Adds the feed-forward part to `x`, from its two factors.
    fn add_feed_forward(
        &self,
        x: &mut [f32],
        saved: &Saved,
        pass: &Pass<'_>,
        scratch: &mut Scratch,
    ) {
        let Sizes {
            tokens,
            width,
            feed_forward,
            ..
        } = self.sizes(x);
        let (gate, up) = (
            &saved.gate[..tokens * feed_forward],
            &saved.up[..tokens * feed_forward],
        );
        let active = &mut scratch.active[..tokens * feed_forward];
        self.activate(active, gate, up);
        let update = &mut scratch.update[..tokens * width];
        let input = Input::rounded(active, Some(&mut scratch.rounding), [&self.down.linear]);
        self.down
            .forward(update, &input, pass.adapters, &mut scratch.lora);
        self.add(x, update);
    }

    /// With the gradient of the layer's output in `dx` `[T, W]`: adds to the trained terms'
    /// gradients and, if `needs_input`, leaves the gradient of the layer's input in `dx`;
    /// otherwise `dx` is left meaningless.
    ///
    /// `x` is the input forward was given, `kv` holds the T positions forward wrote, from
    /// position 0 on; the pass starts at 0.
    pub fn backward(&self, dx: &mut [f32], kept: Kept<'_>, pass: &Pass<'_>, work: Work<'_>) {
        let Sizes {
            tokens,
            width,
            query,
            kv_width,
            feed_forward,
        } = self.sizes(dx);
        debug_assert_eq!(pass.start, 0, "training runs whole sequences");
        let Kept { x, saved, kv } = kept;
        let Work {
            gradients,
            needs_input,
            scratch,
            back,
        } = work;
        use InputGradient::{First, Next, Unwanted};
        let adapters = pass.adapters;
        let words = scratch.rounding.words();
        let lora = &mut scratch.lora;

        let (gate, up) = (
            &saved.gate[..tokens * feed_forward],
            &saved.up[..tokens * feed_forward],
        );
        let active = &mut scratch.active[..tokens * feed_forward];
        self.activate(active, gate, up);
        let dactive = &mut back.dactive[..tokens * feed_forward];
        let first = First(&mut *dactive);
        self.down.backward(
            first,
            dx,
            &Input::learning(active, words),
            adapters,
            gradients,
            lora,
        );
        let dgate = &mut back.dgate[..tokens * feed_forward];
        let dup = &mut back.dup[..tokens * feed_forward];
        self.activate_backward((dgate, dup), dactive, gate, up);

        let normed = &mut scratch.normed[..tokens * width];
        let middle = &saved.middle[..tokens * width];
        let inv_rms = &saved.inv_rms_middle[..tokens];
        norm_again(normed, inv_rms, middle, &self.feed_forward_norm);
        let dnormed = &mut back.dnormed[..tokens * width];
        let read = Input::learning(normed, words);
        let first = First(&mut *dnormed);
        self.gate
            .backward(first, dgate, &read, adapters, gradients, lora);
        let next = Next(&mut *dnormed);
        self.up
            .backward(next, dup, &read, adapters, gradients, lora);
        self.norm_backward(dx, dnormed, middle, &self.feed_forward_norm, inv_rms);

        let attended = &saved.attended[..tokens * query];
        let dattended = &mut back.dattended[..tokens * query];
        let first = First(&mut *dattended);
        self.o.backward(
            first,
            dx,
            &Input::learning(attended, words),
            adapters,
            gradients,
            lora,
        );
        let dq = zeroed(&mut back.dqueries, tokens * query);
        let dk = zeroed(&mut back.dkeys, tokens * kv_width);
        let dv = zeroed(&mut back.dvalues, tokens * kv_width);
        let read = Arrays {
            q: &saved.queries[..tokens * query],
            k: &kv.keys[..tokens * kv_width],
            v: &kv.values[..tokens * kv_width],
        };
        let lse = &saved.lse[..tokens * self.attention.heads];
        let grads = (&mut *dq, &mut *dk, &mut *dv);
        let wrote = (attended, lse);
        attention::backward(grads, dattended, &read, wrote, pass.ends, &self.attention);
        self.turn(dq, self.attention.heads, pass, Kernels::rope_backward);
        self.turn(dk, self.attention.kv_heads, pass, Kernels::rope_backward);

        let inv_rms = &saved.inv_rms_in[..tokens];
        norm_again(normed, inv_rms, x, &self.attention_norm);
        let dnormed = &mut back.dnormed[..tokens * width];
        let read = Input::learning(normed, words);
        let readers = [(&self.q, &*dq), (&self.k, &*dk), (&self.v, &*dv)];
        for (i, (linear, dy)) in readers.into_iter().enumerate() {
            let dnormed = match (needs_input, i) {
                (false, _) => Unwanted,
                (true, 0) => First(&mut *dnormed),
                (true, _) => Next(&mut *dnormed),
            };
            linear.backward(dnormed, dy, &read, adapters, gradients, lora);
        }
        if needs_input {
            self.norm_backward(dx, dnormed, x, &self.attention_norm, inv_rms);
        }
    }

    /// Asks the system to read the weights soon, in the background. Only a hint.
    pub fn prefetch(&self) {
        self.linears().for_each(Linear::prefetch);
    }

    /// Lets the memory of the weights go until they are used again. Only a hint.
    pub fn release(&self) {
        self.linears().for_each(Linear::release);
    }

    /// The frozen linear maps.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let all = [
            &self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down,
        ];
        all.into_iter().map(|adapted| &adapted.linear)
    }

    /// The weights of its norms, before attention and before the feed-forward part, `[W]`.
    pub fn norms(&self) -> [&[f32]; 2] {
        [&self.attention_norm, &self.feed_forward_norm]
    }

    fn sizes(&self, x: &[f32]) -> Sizes {
        let width = self.attention_norm.len();
        Sizes {
            tokens: x.len() / width,
            width,
            query: self.q.linear.outputs(),
            kv_width: self.k.linear.outputs(),
            feed_forward: self.gate.linear.outputs(),
        }
    }
}

/// What forward left behind.
pub struct Kept<'a> {
    /// The layer's input, `[T, W]`.
    pub x: &'a [f32],
    /// What forward kept.
    pub saved: &'a Saved,
    /// The keys and values it wrote.
    pub kv: KvSlice<'a>,
}

/// What backward writes to.
pub struct Work<'a> {
    /// Gradients of the trained terms.
    pub gradients: &'a mut dyn GradientView,
    /// Whether anything below this layer needs a gradient.
    pub needs_input: bool,
    /// Also used by forward.
    pub scratch: &'a mut Scratch,
    /// Backward's own.
    pub back: &'a mut BackwardScratch,
}

struct Sizes {
    tokens: usize,
    width: usize,
    query: usize,
    kv_width: usize,
    feed_forward: usize,
}

/// Most bytes that each worker thread keeps once it has worked on passes of up to `tokens` tokens that
/// end at position `positions` at most, besides what layers round with ([`super::Widest::worker_bytes`]); `training` tells
/// whether backward runs too.
pub fn worker_bytes(
    shape: &AttentionShape,
    tokens: usize,
    positions: usize,
    training: bool,
) -> usize {
    let floats = attention::worker_floats(shape, tokens, positions, training);
    SCRATCH.max(floats) * size_of::<f32>()
}

fn zeroed(buffer: &mut [f32], len: usize) -> &mut [f32] {
    let buffer = &mut buffer[..len];
    buffer
        .par_chunks_mut(FLOATS_PER_PIECE)
        .for_each(|floats| floats.fill(0.0));
    buffer
}

fn join3(a: impl FnOnce() + Send, b: impl FnOnce() + Send, c: impl FnOnce() + Send) {
    rayon::join(a, || rayon::join(b, c));
}
