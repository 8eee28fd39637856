//! Attention cut for threads: each piece is some key/value heads with the query heads that read
//! them, which are columns of every array and rows of `lse`.
//!
//! Rows may be several sequences, one behind the other. Each is then attention of its own, on its rows
//! of every array; their `lse`, `[H, length]` each, lie one behind the other as well.
//!
//! Positions that sequences share lie elsewhere than a sequence's own. It attends to either and the results
//! are merged by their `lse`: Juravsky et al. 2024, <https://arxiv.org/abs/2402.05099>.

use graft_kernels::Kernels;
use graft_kernels::ops::attention::AttentionShape;
use graft_kernels::product::{Mat, MatMut};
use graft_kernels::tiled::attention::{
    Gradients, Inputs, Saved, backward_scratch, forward_scratch,
};

use rayon::prelude::*;

use super::worker::with_floats;
use crate::kv_cache::{Before, KvSlice};

/// Queries, keys and values as arrays: `q` `[T, H * D]`; `k`, `v` `[S, K * D]`.
pub(super) struct Arrays<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
}

impl<'a> Arrays<'a> {
    fn views(&self, shape: &AttentionShape) -> Inputs<'a> {
        let (wide, narrow) = widths(shape);
        Inputs {
            q: Mat::new(self.q, self.q.len() / wide, wide),
            k: Mat::new(self.k, self.k.len() / narrow, narrow),
            v: Mat::new(self.v, self.v.len() / narrow, narrow),
        }
    }

    /// The sequences before a row and those behind it.
    fn split_at(&self, row: usize, shape: &AttentionShape) -> (Self, Self) {
        let (wide, narrow) = widths(shape);
        let (q_a, q_b) = self.q.split_at(row * wide);
        let (k_a, k_b) = self.k.split_at(row * narrow);
        let (v_a, v_b) = self.v.split_at(row * narrow);
        let arrays = |q, k, v| Self { q, k, v };
        (arrays(q_a, k_a, v_a), arrays(q_b, k_b, v_b))
    }
}

/// Floats of a row of queries, and of keys or values.
fn widths(shape: &AttentionShape) -> (usize, usize) {
    let [wide, narrow] = [shape.heads, shape.kv_heads].map(|heads| heads * shape.head_width);
    (wide, narrow)
}

/// Where to cut some sequences into two halves of about as many rows: how many sequences come first, and
/// their rows. `before` is the row at which the first of `ends` begins. `None` for one sequence.
fn halves(ends: &[usize], before: usize) -> Option<(usize, usize)> {
    let (&last, rest) = ends.split_last()?;
    let middle = before.midpoint(last);
    let first = rest.partition_point(|&end| end <= middle).max(1);
    Some((first, rest.get(first - 1)? - before))
}

/// Writes `out` `[T, H * D]` and `lse`, `[H, length]` for each of the sequences that end at `ends` (one
/// if there are none). One sequence may have positions `before` those of `arrays`.
pub(super) fn forward(
    out: &mut [f32],
    lse: &mut [f32],
    (arrays, before): (&Arrays<'_>, Before<'_>),
    ends: &[usize],
    shape: &AttentionShape,
) {
    if ends.is_empty() {
        return forward_sequence(out, lse, (arrays, before), shape);
    }
    assert_eq!(before.positions(), 0, "sequences from their first position");
    forward_sequences(out, lse, arrays, (ends, 0), shape);
}

fn forward_sequences(
    out: &mut [f32],
    lse: &mut [f32],
    arrays: &Arrays<'_>,
    (ends, before): (&[usize], usize),
    shape: &AttentionShape,
) {
    let Some((first, rows)) = halves(ends, before) else {
        return forward_sequence(out, lse, (arrays, Before::default()), shape);
    };
    let (out_a, out_b) = out.split_at_mut(rows * widths(shape).0);
    let (lse_a, lse_b) = lse.split_at_mut(rows * shape.heads);
    let (in_a, in_b) = arrays.split_at(rows, shape);
    let (ends_a, ends_b) = ends.split_at(first);
    rayon::join(
        || forward_sequences(out_a, lse_a, &in_a, (ends_a, before), shape),
        || forward_sequences(out_b, lse_b, &in_b, (ends_b, before + rows), shape),
    );
}

/// The same for sequences that go on from caches of their own: sequence n has the rows of `fresh` up to
/// `ends[n]`, which follow the `starts[n]` positions in `caches[n]`, and its keys and values are written there
/// first.
pub(super) fn forward_batch(
    mut out: &mut [f32],
    mut lse: &mut [f32],
    fresh: &Arrays<'_>,
    (ends, starts, caches): (&[usize], &[usize], &mut [KvSlice<'_>]),
    shape: &AttentionShape,
) {
    let (wide, narrow) = widths(shape);
    let mut begin = 0;
    let lanes = ends.iter().zip(starts).zip(caches);
    let lanes = lanes.map(|((&end, &start), cache)| {
        let rows = std::mem::replace(&mut begin, end)..end;
        let out = out
            .split_off_mut(..rows.len() * wide)
            .expect("a row for each query");
        let lse = lse
            .split_off_mut(..rows.len() * shape.heads)
            .expect("a sum for each head of a row");
        (rows, start, cache, out, lse)
    });
    let lanes: Vec<_> = lanes.collect();
    lanes
        .into_par_iter()
        .for_each(|(rows, start, cache, out, lse)| {
            let begin = (start - cache.before.positions()) * narrow;
            let end = begin + rows.len() * narrow;
            let new = rows.start * narrow..rows.end * narrow;
            cache.keys[begin..end].copy_from_slice(&fresh.k[new.clone()]);
            cache.values[begin..end].copy_from_slice(&fresh.v[new]);
            let arrays = Arrays {
                q: &fresh.q[rows.start * wide..rows.end * wide],
                k: &cache.keys[..end],
                v: &cache.values[..end],
            };
            forward_sequence(out, lse, (&arrays, cache.before), shape);
        });
}

fn forward_sequence(
    out: &mut [f32],
    lse: &mut [f32],
    (arrays, before): (&Arrays<'_>, Before<'_>),
    shape: &AttentionShape,
) {
    let inputs = arrays.views(shape);
    let out = MatMut::new(out, inputs.q.rows(), inputs.q.cols());
    let before = Columns {
        of: before,
        width: inputs.k.cols(),
        first: 0,
    };
    forward_heads(out, lse, (inputs, before), shape);
}

/// The shared positions' keys and values of the heads of a piece.
#[derive(Clone, Copy)]
struct Columns<'a> {
    of: Before<'a>,
    /// Floats of a row of all heads, and those before the piece's.
    width: usize,
    first: usize,
}

impl<'a> Columns<'a> {
    /// What the queries of a piece read, one run of positions after the other.
    fn pieces(self, q: Mat<'a>, cols: usize) -> impl Iterator<Item = Inputs<'a>> {
        self.of.pieces().map(move |(keys, values)| {
            let view = |floats: &'a [f32]| {
                let rows = Mat::new(floats, floats.len() / self.width, self.width);
                rows.col_range(self.first, cols)
            };
            let (k, v) = (view(keys), view(values));
            Inputs { q, k, v }
        })
    }
}

fn forward_heads(
    out: MatMut<'_>,
    lse: &mut [f32],
    (inputs, before): (Inputs<'_>, Columns<'_>),
    shape: &AttentionShape,
) {
    let (tokens, positions) = (inputs.q.rows(), inputs.k.rows() + before.of.positions());
    if tokens * positions * inputs.q.cols() <= PIECE_PRODUCTS {
        return forward_piece(out, lse, (inputs, before), shape);
    }
    let Some(cut) = Cut::of(shape) else {
        return forward_piece(out, lse, (inputs, before), shape);
    };
    let (out_a, out_b) = out.split_columns(cut.columns);
    let (lse_a, lse_b) = lse.split_at_mut(cut.shapes.0.heads * tokens);
    let (in_a, in_b) = cut.inputs(inputs);
    let before_b = Columns {
        first: before.first + cut.kv_columns,
        ..before
    };
    rayon::join(
        || forward_heads(out_a, lse_a, (in_a, before), &cut.shapes.0),
        || forward_heads(out_b, lse_b, (in_b, before_b), &cut.shapes.1),
    );
}

fn forward_piece(
    mut out: MatMut<'_>,
    lse: &mut [f32],
    (inputs, before): (Inputs<'_>, Columns<'_>),
    shape: &AttentionShape,
) {
    let kernels = Kernels::detect();
    let scratch = forward_scratch(shape, inputs.q.rows(), inputs.k.rows());
    with_floats(scratch, |scratch| {
        kernels.attention_forward(out.reborrow(), lse, inputs, shape, scratch);
    });
    // Every query comes after all positions of these.
    let all = AttentionShape {
        causal: false,
        ..*shape
    };
    for inputs in before.pieces(inputs.q, inputs.k.cols()) {
        let (tokens, cols) = (inputs.q.rows(), inputs.q.cols());
        let lens = [tokens * cols, lse.len()];
        let scratch = forward_scratch(shape, tokens, inputs.k.rows());
        with_floats(lens[0] + lens[1] + scratch, |floats| {
            let (more, floats) = floats.split_at_mut(lens[0]);
            let (more_lse, scratch) = floats.split_at_mut(lens[1]);
            let view = MatMut::new(more, tokens, cols);
            kernels.attention_forward(view, more_lse, inputs, &all, scratch);
            kernels.attention_merge(out.reborrow(), lse, (more, more_lse), shape);
        });
    }
}

/// Adds to `dq`, `dk` and `dv`, shaped as `arrays`; `out` and `lse` are what forward wrote, `ends` what it
/// was given.
pub(super) fn backward(
    grads: (&mut [f32], &mut [f32], &mut [f32]),
    dout: &[f32],
    arrays: &Arrays<'_>,
    saved: (&[f32], &[f32]),
    ends: &[usize],
    shape: &AttentionShape,
) {
    backward_sequences(grads, dout, arrays, saved, (ends, 0), shape);
}

fn backward_sequences(
    (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
    dout: &[f32],
    arrays: &Arrays<'_>,
    (out, lse): (&[f32], &[f32]),
    (ends, before): (&[usize], usize),
    shape: &AttentionShape,
) {
    let Some((first, rows)) = halves(ends, before) else {
        return backward_sequence((dq, dk, dv), dout, arrays, (out, lse), shape);
    };
    let (wide, narrow) = widths(shape);
    let (dq_a, dq_b) = dq.split_at_mut(rows * wide);
    let (dk_a, dk_b) = dk.split_at_mut(rows * narrow);
    let (dv_a, dv_b) = dv.split_at_mut(rows * narrow);
    let (dout_a, dout_b) = dout.split_at(rows * wide);
    let (in_a, in_b) = arrays.split_at(rows, shape);
    let (out_a, out_b) = out.split_at(rows * wide);
    let (lse_a, lse_b) = lse.split_at(rows * shape.heads);
    let (ends_a, ends_b) = ends.split_at(first);
    let (grads_a, grads_b) = ((dq_a, dk_a, dv_a), (dq_b, dk_b, dv_b));
    let (saved_a, saved_b) = ((out_a, lse_a), (out_b, lse_b));
    let (ends_a, ends_b) = ((ends_a, before), (ends_b, before + rows));
    rayon::join(
        || backward_sequences(grads_a, dout_a, &in_a, saved_a, ends_a, shape),
        || backward_sequences(grads_b, dout_b, &in_b, saved_b, ends_b, shape),
    );
}

fn backward_sequence(
    (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
    dout: &[f32],
    arrays: &Arrays<'_>,
    (out, lse): (&[f32], &[f32]),
    shape: &AttentionShape,
) {
    let inputs = arrays.views(shape);
    let (tokens, wide) = (inputs.q.rows(), inputs.q.cols());
    let (positions, narrow) = (inputs.k.rows(), inputs.k.cols());
    let grads = Gradients {
        dq: MatMut::new(dq, tokens, wide),
        dk: MatMut::new(dk, positions, narrow),
        dv: MatMut::new(dv, positions, narrow),
    };
    let saved = Saved {
        out: Mat::new(out, tokens, wide),
        lse,
    };
    backward_heads(grads, Mat::new(dout, tokens, wide), inputs, saved, shape);
}

fn backward_heads(
    grads: Gradients<'_>,
    dout: Mat<'_>,
    inputs: Inputs<'_>,
    saved: Saved<'_>,
    shape: &AttentionShape,
) {
    let (tokens, positions) = (inputs.q.rows(), inputs.k.rows());
    let Some(cut) = Cut::of(shape) else {
        return with_floats(backward_scratch(tokens, positions), |scratch| {
            Kernels::detect().attention_backward(grads, dout, inputs, saved, shape, scratch);
        });
    };
    let Gradients { dq, dk, dv } = grads;
    let (dq_a, dq_b) = dq.split_columns(cut.columns);
    let (dk_a, dk_b) = dk.split_columns(cut.kv_columns);
    let (dv_a, dv_b) = dv.split_columns(cut.kv_columns);
    let (in_a, in_b) = cut.inputs(inputs);
    let (out_a, out_b) = columns(saved.out, cut.columns);
    let (dout_a, dout_b) = columns(dout, cut.columns);
    let (lse_a, lse_b) = saved.lse.split_at(cut.shapes.0.heads * tokens);
    let gradients = |dq, dk, dv| Gradients { dq, dk, dv };
    let (grads_a, grads_b) = (gradients(dq_a, dk_a, dv_a), gradients(dq_b, dk_b, dv_b));
    let saved = |out, lse| Saved { out, lse };
    let (saved_a, saved_b) = (saved(out_a, lse_a), saved(out_b, lse_b));
    rayon::join(
        || backward_heads(grads_a, dout_a, in_a, saved_a, &cut.shapes.0),
        || backward_heads(grads_b, dout_b, in_b, saved_b, &cut.shapes.1),
    );
}

/// Floats of scratch a worker thread needs for up to T tokens that end at position S at most.
pub(super) fn worker_floats(
    shape: &AttentionShape,
    tokens: usize,
    positions: usize,
    training: bool,
) -> usize {
    let forward = forward_scratch(shape, tokens, positions);
    if training {
        return forward.max(backward_scratch(tokens, positions));
    }
    // What a piece attended to elsewhere: the piece is small, or one key/value head's.
    let head = tokens * (shape.heads / shape.kv_heads) * (shape.head_width + 1);
    forward + head.max(2 * PIECE_PRODUCTS)
}

/// Fewest multiplications worth sending to another thread.
const PIECE_PRODUCTS: usize = 1 << 16;

/// The key/value heads in two halves.
struct Cut {
    shapes: (AttentionShape, AttentionShape),
    /// Columns of the first half in `q` and `out`.
    columns: usize,
    /// Columns of the first half in `k` and `v`.
    kv_columns: usize,
}

impl Cut {
    /// `None` if there is one key/value head.
    fn of(shape: &AttentionShape) -> Option<Self> {
        let first = shape.kv_heads / 2;
        let part = |kv_heads: usize| AttentionShape {
            heads: kv_heads * (shape.heads / shape.kv_heads),
            kv_heads,
            ..*shape
        };
        let shapes = (part(first), part(shape.kv_heads - first));
        (first > 0).then_some(Self {
            columns: shapes.0.heads * shape.head_width,
            kv_columns: first * shape.head_width,
            shapes,
        })
    }

    fn inputs<'a>(&self, inputs: Inputs<'a>) -> (Inputs<'a>, Inputs<'a>) {
        let (q_a, q_b) = columns(inputs.q, self.columns);
        let (k_a, k_b) = columns(inputs.k, self.kv_columns);
        let (v_a, v_b) = columns(inputs.v, self.kv_columns);
        let inputs = |q, k, v| Inputs { q, k, v };
        (inputs(q_a, k_a, v_a), inputs(q_b, k_b, v_b))
    }
}

fn columns(m: Mat<'_>, first: usize) -> (Mat<'_>, Mat<'_>) {
    (m.col_range(0, first), m.col_range(first, m.cols() - first))
}
