//! Attention, a tile of queries at a time, one head after the other.
//!
//! Forward packs the keys and values of a key/value head in panels, a block of positions at a time, and
//! shows each to every tile of every query head that reads them; a row's maximum and sum so far say what
//! its results so far are worth (Milakov & Gimelshein 2018, <https://arxiv.org/abs/1805.02867>). For a few
//! tokens packing does not pay; they read keys and values where they lie, a block of positions at a time as well.
//! Backward makes a tile's scores against every position it sees one `[TILE, S]` product in scratch, and turns
//! them into probabilities with the saved `lse`. Memory never grows with tokens times tokens.
//!
//! Arguments are views, so that a caller gives each thread some key/value heads and the query
//! heads that read them: columns of `q`, `k`, `v`, `out` and of the gradients, rows of `lse`.
//! A causal forward may also be cut at tokens: a range of queries, and the positions up to its
//! last.

use crate::Kernels;
use crate::ops::attention::AttentionShape;
use crate::panel::{NARROW, WIDE};
use crate::product::{Mat, MatMut, product};
use crate::vector::LANES;
use crate::vector::elementary::exp_nonpositive;

/// Queries per tile: enough to keep a product's micro-kernel busy, few enough that scores over
/// some thousand positions stay in the second-level cache.
const TILE: usize = 64;

/// Most positions whose keys and values are packed at a time: their panels and a tile's scores stay in the
/// second-level cache.
const BLOCK: usize = 512;

/// Positions taken at a time where keys and values are not packed: one token's scores stay in the first-level cache.
const SHORT_BLOCK: usize = 128;

/// Floats between the rows of scores, so that these do not share the sets of a cache and that the last
/// scores of a row can be made whole [`LANES`].
const PADDING: usize = 16;
const _: () = assert!(PADDING + NARROW >= LANES, "a whole strip and the padding");

/// Most queries of a key/value head for which packing does not pay, as measured.
const MOST_UNPACKED: usize = 16;

/// Whether keys and values are packed. One token's never are, however many heads share them.
fn packs(tokens: usize, shape: &AttentionShape) -> bool {
    tokens > 1 && tokens * (shape.heads / shape.kv_heads) > MOST_UNPACKED
}

/// Positions of a block, whole strips: all blocks are about as long.
fn block_of(positions: usize, strip: usize) -> usize {
    let blocks = positions.div_ceil(BLOCK);
    positions.div_ceil(blocks).next_multiple_of(strip)
}

/// Elements of scratch that [`Kernels::attention_forward`] needs for up to that many tokens and positions.
pub fn forward_scratch(shape: &AttentionShape, tokens: usize, positions: usize) -> usize {
    let d = shape.head_width;
    let few = shape.heads.max(MOST_UNPACKED) * (2 * d + 1 + SHORT_BLOCK);
    if !packs(tokens, shape) {
        return few;
    }
    let block = positions.min(BLOCK).next_multiple_of(WIDE);
    let panels = d * block + block * d.next_multiple_of(WIDE);
    let tile = TILE.min(tokens) * (d + block + PADDING);
    few.max(panels + tile + shape.heads / shape.kv_heads * tokens)
}

/// Elements of scratch that [`Kernels::attention_backward`] needs for that many positions.
pub fn backward_scratch(tokens: usize, positions: usize) -> usize {
    2 * TILE.min(tokens) * positions
}

/// What attention reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Queries, `[T, H * D]`.
    pub q: Mat<'a>,
    /// Keys, `[S, K * D]`.
    pub k: Mat<'a>,
    /// Values, `[S, K * D]`.
    pub v: Mat<'a>,
}

/// What forward wrote and backward reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// `[T, H * D]`.
    pub out: Mat<'a>,
    /// `[H, T]`.
    pub lse: &'a [f32],
}

/// Gradients of the inputs; each is added to.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// `[T, H * D]`.
    pub dq: MatMut<'a>,
    /// `[S, K * D]`.
    pub dk: MatMut<'a>,
    /// `[S, K * D]`.
    pub dv: MatMut<'a>,
}

/// One tile of one head: its views, cut to the positions it sees.
struct Tile<'a> {
    /// The tile's first token.
    start: usize,
    /// The head's first column in `q`, and its key/value head's first column in `k`.
    columns: (usize, usize),
    q: Mat<'a>,
    k: Mat<'a>,
    v: Mat<'a>,
}

impl Kernels {
    /// [`ops::attention::forward`](crate::ops::attention::forward): writes `out` `[T, H * D]`
    /// and `lse` `[H, T]`. `scratch` holds at least [`forward_scratch`] elements.
    ///
    /// # Panics
    /// If sizes contradict each other or the shape, there are no positions or, if it is causal, fewer than tokens.
    pub fn attention_forward(
        &self,
        mut out: MatMut<'_>,
        lse: &mut [f32],
        inputs: Inputs<'_>,
        shape: &AttentionShape,
        scratch: &mut [f32],
    ) {
        let (tokens, _) = lengths(&inputs, shape, lse.len());
        // One token's heads go by together, since memory gives whole rows of keys faster; of none there is nothing to cut.
        if tokens < 2 {
            return self.attend_few(out, lse, inputs, shape, scratch);
        }
        let (d, group) = (shape.head_width, shape.heads / shape.kv_heads);
        let one = AttentionShape {
            heads: group,
            kv_heads: 1,
            ..*shape
        };
        for (head, lse) in lse.chunks_exact_mut(group * tokens).enumerate() {
            let inputs = Inputs {
                q: inputs.q.col_range(head * group * d, group * d),
                k: inputs.k.col_range(head * d, d),
                v: inputs.v.col_range(head * d, d),
            };
            let out = out.col_range(head * group * d, group * d);
            match packs(tokens, shape) {
                true => self.attend_packed(out, lse, inputs, &one, scratch),
                false => self.attend_few(out, lse, inputs, &one, scratch),
            }
        }
    }

    /// One key/value head and its query heads: the positions go by in blocks, whose keys and values are
    /// packed once for all of them. `lse` holds each row's maximum so far until all have gone by.
    fn attend_packed(
        &self,
        mut out: MatMut<'_>,
        lse: &mut [f32],
        inputs: Inputs<'_>,
        shape: &AttentionShape,
        scratch: &mut [f32],
    ) {
        let (d, strip) = (shape.head_width, self.strip());
        let (tokens, positions) = (inputs.q.rows(), inputs.k.rows());
        let block = block_of(positions, strip);
        let stride = block + PADDING;
        let (keys, scratch) = scratch.split_at_mut(self.panel_len(d, block));
        let (values, scratch) = scratch.split_at_mut(self.panel_len(block, d));
        let (queries, scratch) = scratch.split_at_mut(TILE.min(tokens) * d);
        let (scores, scratch) = scratch.split_at_mut(TILE.min(tokens) * stride);
        let sums = &mut scratch[..lse.len()];
        // Below every score, and unlike infinity it can be subtracted from itself.
        lse.fill(f32::MIN);
        sums.fill(0.0);
        for first in (0..positions).step_by(block) {
            let length = block.min(positions - first);
            let keys = &mut keys[..self.panel_len(d, length)];
            let values = &mut values[..self.panel_len(length, d)];
            self.pack_panel(keys, inputs.k.row_range(first, length).t());
            self.pack_panel(values, inputs.v.row_range(first, length));
            for tile in tiles(inputs, shape) {
                let (rows, start) = (tile.q.rows(), tile.start);
                let seen = tile.k.rows().saturating_sub(first).min(length);
                if seen == 0 {
                    continue;
                }
                let row = tile.columns.0 / d * tokens + start;
                let (lse, sums) = (&mut lse[row..][..rows], &mut sums[row..][..rows]);
                let mut out = out.col_range(tile.columns.0, d);
                let mut out = out.row_range(start, rows);

                let queries = &mut queries[..rows * d];
                for (i, scaled) in queries.chunks_exact_mut(d).enumerate() {
                    scaled.copy_from_slice(tile.q.row(i));
                    self.multiply(scaled, shape.scale);
                }
                let queries = Mat::new(queries, rows, d);
                let wide = seen.next_multiple_of(strip);
                let view = MatMut::strided(scores, rows, wide, stride, 1);
                self.product_panel(view, false, queries, &keys[..self.panel_len(d, seen)]);
                let rows_of = scores.chunks_mut(stride).zip(lse).zip(sums);
                for (i, ((row, lse), sum)) in rows_of.enumerate() {
                    let visible = shape.visible(start + i, tokens, positions);
                    let visible = visible.saturating_sub(first).min(seen);
                    // Exponentials of minus infinity are 0, and whole lanes are quicker than a rest.
                    let whole = visible.next_multiple_of(LANES);
                    row[visible..whole].fill(f32::NEG_INFINITY);
                    if let Some(hidden) = row.get_mut(whole..seen) {
                        hidden.fill(0.0);
                    }
                    self.add_exponentials(&mut row[..whole], (lse, sum), out.row_mut(i));
                }
                let scores = Mat::strided(scores, rows, seen, stride, 1);
                self.product_panel(out, first > 0, scores, values);
            }
        }
        // Dividing the D sums is cheaper than dividing the S probabilities.
        for (row, (lse, sum)) in lse.iter_mut().zip(sums).enumerate() {
            *lse += sum.ln();
            let mut out = out.col_range(row / tokens * d, d);
            self.multiply(out.row_mut(row % tokens), 1.0 / *sum);
        }
    }

    /// Replaces the next scores of a row by their exponentials and adds these to the sum so far. If the maximum so far
    /// grows, the sum shrinks, and so does `out`, which is not looked at while nothing has been summed up.
    fn add_exponentials(
        &self,
        scores: &mut [f32],
        (max, sum): (&mut f32, &mut f32),
        out: &mut [f32],
    ) {
        let (larger, more) = self.exponentials_above(scores, *max);
        if larger > *max && *sum > 0.0 {
            let kept = exp_nonpositive(*max - larger);
            *sum *= kept;
            self.multiply(out, kept);
        }
        *sum += more;
        *max = larger;
    }

    /// So few tokens that packing keys and values would cost more than it saves. Every token's result has the same bits
    /// as if it came alone. `lse` holds each row's maximum so far until all positions have gone by.
    fn attend_few(
        &self,
        mut out: MatMut<'_>,
        lse: &mut [f32],
        inputs: Inputs<'_>,
        shape: &AttentionShape,
        scratch: &mut [f32],
    ) {
        let (d, tokens, positions) = (shape.head_width, inputs.q.rows(), inputs.k.rows());
        // The tokens of a head lie side by side, as if each were a head.
        let rows = shape.heads * tokens;
        let queries = AttentionShape {
            heads: rows,
            ..*shape
        };
        let (q, scratch) = scratch.split_at_mut(rows * d);
        let (sum_of_values, scratch) = scratch.split_at_mut(rows * d);
        let (sums, scratch) = scratch.split_at_mut(rows);
        let scores = &mut scratch[..rows * SHORT_BLOCK];
        for (row, q) in q.chunks_exact_mut(d).enumerate() {
            q.copy_from_slice(&inputs.q.row(row % tokens)[row / tokens * d..][..d]);
        }
        sum_of_values.fill(0.0);
        sums.fill(0.0);
        lse.fill(f32::MIN);
        for first in (0..positions).step_by(SHORT_BLOCK) {
            let length = SHORT_BLOCK.min(positions - first);
            let keys = inputs.k.row_range(first, length);
            self.query_scores(scores, SHORT_BLOCK, q, keys, &queries);
            let rows_of = scores.chunks_exact_mut(SHORT_BLOCK);
            let rows_of = rows_of.zip(sum_of_values.chunks_exact_mut(d));
            let rows_of = rows_of.zip(lse.iter_mut().zip(&mut *sums));
            for (row, ((scores, values), (max, sum))) in rows_of.enumerate() {
                let visible = shape.visible(row % tokens, tokens, positions);
                let visible = visible.saturating_sub(first).min(length);
                let (visible, hidden) = scores[..length].split_at_mut(visible);
                hidden.fill(0.0);
                if !visible.is_empty() {
                    self.add_exponentials(visible, (max, sum), values);
                }
            }
            let values = inputs.v.row_range(first, length);
            self.add_values(sum_of_values, scores, SHORT_BLOCK, values, &queries);
        }
        for (row, ((values, lse), sum)) in sum_of_values
            .chunks_exact_mut(d)
            .zip(lse)
            .zip(sums)
            .enumerate()
        {
            *lse += sum.ln();
            self.multiply(values, 1.0 / *sum);
            out.row_mut(row % tokens)[row / tokens * d..][..d].copy_from_slice(values);
        }
    }

    /// [`ops::attention::merge`](crate::ops::attention::merge): makes `out` `[T, H * D]` and `lse` `[H, T]` those
    /// over more positions, from what was written for these; `more` is meaningless afterwards.
    ///
    /// # Panics
    /// If sizes contradict each other or the shape.
    pub fn attention_merge(
        &self,
        mut out: MatMut<'_>,
        lse: &mut [f32],
        (more, more_lse): (&mut [f32], &[f32]),
        shape: &AttentionShape,
    ) {
        let (tokens, width) = (out.rows(), shape.heads * shape.head_width);
        assert_eq!(out.cols(), width, "columns of out");
        assert_eq!(more.len(), tokens * width, "elements of more");
        let lens = (lse.len(), more_lse.len());
        assert_eq!(lens, (shape.heads * tokens, lens.0), "elements of lse");
        for (row, (lse, &more_lse)) in lse.iter_mut().zip(more_lse).enumerate() {
            let (head, token) = (row / tokens, row % tokens);
            let max = lse.max(more_lse);
            let all = max + ((*lse - max).exp() + (more_lse - max).exp()).ln();
            let columns = head * shape.head_width..(head + 1) * shape.head_width;
            let out = &mut out.row_mut(token)[columns.clone()];
            let more = &mut more[token * width..][columns];
            self.multiply(out, (*lse - all).exp());
            self.multiply(more, (more_lse - all).exp());
            self.add(out, more);
            *lse = all;
        }
    }

    /// [`ops::attention::backward`](crate::ops::attention::backward): adds to the gradients.
    /// `scratch` holds at least [`backward_scratch`] elements.
    ///
    /// # Panics
    /// If sizes contradict each other or the shape, or there are fewer positions than tokens.
    pub fn attention_backward(
        &self,
        mut grads: Gradients<'_>,
        dout: Mat<'_>,
        inputs: Inputs<'_>,
        saved: Saved<'_>,
        shape: &AttentionShape,
        scratch: &mut [f32],
    ) {
        let (tokens, positions) = lengths(&inputs, shape, saved.lse.len());
        let d = shape.head_width;
        for tile in tiles(inputs, shape) {
            let (rows, seen) = (tile.q.rows(), tile.k.rows());
            let (column, kv_column) = tile.columns;
            let lse = &saved.lse[column / d * tokens + tile.start..][..rows];
            let dout = dout.col_range(column, d).row_range(tile.start, rows);
            let out = saved.out.col_range(column, d).row_range(tile.start, rows);

            let (p, dp) = scratch.split_at_mut(rows * seen);
            let dp = &mut dp[..rows * seen];
            let view = MatMut::new(p, rows, seen);
            product(view, false, shape.scale, tile.q, tile.k.t());
            product(MatMut::new(dp, rows, seen), false, 1.0, dout, tile.v.t());
            let pairs = p.chunks_exact_mut(seen).zip(dp.chunks_exact_mut(seen));
            for (i, (p, dp)) in pairs.enumerate() {
                let visible = shape.visible(tile.start + i, tokens, positions);
                let delta = self.dot(dout.row(i), out.row(i));
                self.attention_row_backward(&mut p[..visible], &mut dp[..visible], lse[i], delta);
                p[visible..].fill(0.0);
                dp[visible..].fill(0.0);
            }
            let (p, ds) = (Mat::new(p, rows, seen), Mat::new(dp, rows, seen));
            let mut dq = grads.dq.col_range(column, d);
            let mut dk = grads.dk.col_range(kv_column, d);
            let mut dv = grads.dv.col_range(kv_column, d);
            product(dv.row_range(0, seen), true, 1.0, p.t(), dout);
            product(
                dq.row_range(tile.start, rows),
                true,
                shape.scale,
                ds,
                tile.k,
            );
            product(dk.row_range(0, seen), true, shape.scale, ds.t(), tile.q);
        }
    }
}

/// Every tile of every head, heads outermost.
fn tiles<'a>(inputs: Inputs<'a>, shape: &AttentionShape) -> impl Iterator<Item = Tile<'a>> {
    let Inputs { q, k, v } = inputs;
    let (shape, tokens, positions) = (*shape, q.rows(), k.rows());
    let d = shape.head_width;
    (0..shape.heads).flat_map(move |head| {
        let column = head * d;
        let kv_column = head / (shape.heads / shape.kv_heads) * d;
        (0..tokens).step_by(TILE).map(move |start| {
            let rows = TILE.min(tokens - start);
            let seen = shape.visible(start + rows - 1, tokens, positions);
            Tile {
                start,
                columns: (column, kv_column),
                q: q.col_range(column, d).row_range(start, rows),
                k: k.col_range(kv_column, d).row_range(0, seen),
                v: v.col_range(kv_column, d).row_range(0, seen),
            }
        })
    })
}

/// Tokens and positions, after a check that everything agrees on them.
fn lengths(inputs: &Inputs<'_>, shape: &AttentionShape, lse: usize) -> (usize, usize) {
    let Inputs { q, k, v } = inputs;
    let (tokens, positions) = (q.rows(), k.rows());
    let kv_width = shape.kv_heads * shape.head_width;
    assert!(shape.heads.is_multiple_of(shape.kv_heads), "whole groups");
    assert_eq!(q.cols(), shape.heads * shape.head_width, "columns of q");
    assert_eq!(
        (k.cols(), v.cols()),
        (kv_width, kv_width),
        "columns of k, v"
    );
    assert_eq!(v.rows(), positions, "positions of k and v");
    let fewest = if shape.causal { tokens } else { 1 };
    assert!(
        positions >= fewest,
        "{tokens} queries, {positions} positions"
    );
    assert_eq!(lse, shape.heads * tokens, "elements of lse");
    (tokens, positions)
}

#[cfg(test)]
mod tests;
