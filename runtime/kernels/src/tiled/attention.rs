//! Attention, a tile of queries at a time, one head after the other.
//!
//! Forward packs the keys and values of a key/value head in panels, a block of positions at a time, and
//! shows each to every tile of every query head that reads them; a row's maximum and sum so far say what
//! its results so far are worth (Milakov & Gimelshein 2018, <https://arxiv.org/abs/1805.02867>). A few
//! tokens, for whom packing does not pay, and backward make a tile's scores against every position it sees
//! one `[TILE, S]` product in scratch. Memory never grows with tokens times tokens. Backward computes the
//! scores again and turns them into probabilities with the saved `lse`.
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

/// The same for one token, whose scores stay in the first-level cache and whose keys and values are not packed.
const SHORT_BLOCK: usize = 128;

/// Floats between the rows of scores, so that these do not share the sets of a cache and that the last
/// scores of a row can be made whole [`LANES`].
const PADDING: usize = 16;
const _: () = assert!(PADDING + NARROW >= LANES, "a whole strip and the padding");

/// Most tokens for which keys and values are never packed.
const MOST_UNPACKED: usize = 31;

/// Whether enough queries read each key/value head for packing to pay, as measured. Without packing, each
/// query head would go through the keys by itself.
fn packs(tokens: usize, shape: &AttentionShape) -> bool {
    let group = shape.heads / shape.kv_heads;
    tokens > 1 && tokens * group * group.min(2) > MOST_UNPACKED
}

/// Positions of a block, whole strips: all blocks are about as long.
fn block_of(positions: usize, strip: usize) -> usize {
    let blocks = positions.div_ceil(BLOCK);
    positions.div_ceil(blocks).next_multiple_of(strip)
}

/// Elements of scratch that [`Kernels::attention_forward`] needs for up to that many tokens and positions.
pub fn forward_scratch(shape: &AttentionShape, tokens: usize, positions: usize) -> usize {
    let once = shape.heads * (1 + SHORT_BLOCK);
    let few = once.max(tokens.min(MOST_UNPACKED) * positions);
    if !packs(tokens, shape) {
        return few;
    }
    let (d, block) = (
        shape.head_width,
        positions.min(BLOCK).next_multiple_of(WIDE),
    );
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
        if tokens == 1 {
            return self.attend_once(out.row_mut(0), lse, inputs, shape, scratch);
        }
        if !packs(tokens, shape) {
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
            self.attend_packed(out, lse, inputs, &one, scratch);
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
                    let (max, more) = self.exponentials_above(&mut row[..whole], *lse);
                    if first > 0 && max > *lse {
                        let kept = exp_nonpositive(*lse - max);
                        *sum *= kept;
                        self.multiply(out.row_mut(i), kept);
                    }
                    *sum += more;
                    *lse = max;
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

    /// So few tokens that packing keys and values would cost more than it saves.
    fn attend_few(
        &self,
        mut out: MatMut<'_>,
        lse: &mut [f32],
        inputs: Inputs<'_>,
        shape: &AttentionShape,
        scratch: &mut [f32],
    ) {
        let (tokens, positions) = (inputs.q.rows(), inputs.k.rows());
        for tile in tiles(inputs, shape) {
            let (rows, seen) = (tile.q.rows(), tile.k.rows());
            let head = tile.columns.0 / shape.head_width;
            let lse = &mut lse[head * tokens + tile.start..][..rows];
            let scores = &mut scratch[..rows * seen];
            let view = MatMut::new(scores, rows, seen);
            product(view, false, shape.scale, tile.q, tile.k.t());
            let mut sums = [0.0; TILE];
            for (i, row) in scores.chunks_exact_mut(seen).enumerate() {
                let visible = shape.visible(tile.start + i, tokens, positions);
                let (visible, hidden) = row.split_at_mut(visible);
                hidden.fill(0.0);
                let (max, sum) = self.exponentials(visible);
                (sums[i], lse[i]) = (sum, max + sum.ln());
            }
            let mut out = out.col_range(tile.columns.0, shape.head_width);
            let mut out = out.row_range(tile.start, rows);
            let scores = Mat::new(scores, rows, seen);
            product(out.reborrow(), false, 1.0, scores, tile.v);
            // Dividing the D sums is cheaper than dividing the S probabilities.
            for (i, sum) in sums[..rows].iter().enumerate() {
                self.multiply(out.row_mut(i), 1.0 / sum);
            }
        }
    }

    /// One token, which sees every position. `lse` holds each head's maximum so far until all have gone by.
    fn attend_once(
        &self,
        out: &mut [f32],
        lse: &mut [f32],
        inputs: Inputs<'_>,
        shape: &AttentionShape,
        scratch: &mut [f32],
    ) {
        let (d, q, seen) = (shape.head_width, inputs.q.row(0), inputs.k.rows());
        let (sums, scores) = scratch.split_at_mut(shape.heads);
        let scores = &mut scores[..shape.heads * SHORT_BLOCK];
        lse.fill(f32::MIN);
        sums.fill(0.0);
        out.fill(0.0);
        for first in (0..seen).step_by(SHORT_BLOCK) {
            let length = SHORT_BLOCK.min(seen - first);
            let (k, v) = (
                inputs.k.row_range(first, length),
                inputs.v.row_range(first, length),
            );
            self.query_scores(scores, SHORT_BLOCK, q, k, shape);
            let heads = scores
                .chunks_exact_mut(SHORT_BLOCK)
                .zip(out.chunks_exact_mut(d));
            for (((scores, out), lse), sum) in heads.zip(&mut *lse).zip(&mut *sums) {
                self.add_exponentials(&mut scores[..length], (lse, sum), out);
            }
            self.add_values(out, scores, SHORT_BLOCK, v, shape);
        }
        for ((out, lse), sum) in out.chunks_exact_mut(d).zip(lse).zip(sums) {
            *lse += sum.ln();
            self.multiply(out, 1.0 / *sum);
        }
    }

    /// Replaces the next scores of a row by their exponentials and adds these to the sum so far. If the maximum so far
    /// grows, what was summed up and what has come of it shrink.
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
mod tests {
    use super::*;
    use crate::ops::attention as reference;
    use crate::vector::tests::{assert_close, random};

    /// Every width and length here leaves a tail in some tile; some see only the first of several blocks of
    /// positions.
    #[test]
    fn tiles_agree_with_the_reference() {
        for (heads, kv_heads, d, tokens, positions, causal) in [
            (1, 1, 8, 1, 1, true),
            (4, 2, 8, 1, 37, true),
            (22, 2, 8, 1, 37, true),
            (4, 2, 16, 70, 70, true),
            (3, 1, 5, 65, 131, true),
            (2, 2, 12, 130, 130, false),
            (4, 2, 10, 9, 45, true),
            (3, 1, 20, 600, 1100, true),
            (1, 1, 12, 33, 530, false),
        ] {
            let scale = 1.0 / (d as f32).sqrt();
            let shape = AttentionShape {
                heads,
                kv_heads,
                head_width: d,
                scale,
                causal,
            };
            let (n, m) = (heads * d, kv_heads * d);
            let (q, dout) = (random(1, tokens * n), random(2, tokens * n));
            let (k, v) = (random(3, positions * m), random(4, positions * m));
            let wide = |x: &[f32]| x.iter().map(|&x| x as f64).collect::<Vec<_>>();
            let (q64, k64, v64, dout64) = (wide(&q), wide(&k), wide(&v), wide(&dout));
            let (mut out64, mut lse64) = (vec![0.0; tokens * n], vec![0.0; heads * tokens]);
            reference::forward(&mut out64, &mut lse64, &q64, &k64, &v64, &shape);
            let (mut dq64, mut dk64) = (vec![1.0; tokens * n], vec![1.0; positions * m]);
            let mut dv64 = vec![1.0; positions * m];
            reference::backward(
                reference::Gradients {
                    dq: &mut dq64,
                    dk: &mut dk64,
                    dv: &mut dv64,
                },
                &dout64,
                reference::Saved {
                    out: &out64,
                    lse: &lse64,
                    q: &q64,
                    k: &k64,
                    v: &v64,
                },
                &shape,
            );
            for kernels in Kernels::available() {
                let (mut out, mut lse) =
                    (vec![f32::NAN; tokens * n], vec![f32::NAN; heads * tokens]);
                let forward = forward_scratch(&shape, tokens, positions);
                let most = forward.max(backward_scratch(tokens, positions));
                let mut scratch = vec![f32::NAN; most];
                let inputs = Inputs {
                    q: Mat::new(&q, tokens, n),
                    k: Mat::new(&k, positions, m),
                    v: Mat::new(&v, positions, m),
                };
                let forward = &mut scratch[..forward];
                kernels.attention_forward(
                    MatMut::new(&mut out, tokens, n),
                    &mut lse,
                    inputs,
                    &shape,
                    forward,
                );
                assert_close(&out, &out64, 2e-6);
                assert_close(&lse, &lse64, 2e-6);
                let (mut dq, mut dk) = (vec![1.0; tokens * n], vec![1.0; positions * m]);
                let mut dv = vec![1.0; positions * m];
                let grads = Gradients {
                    dq: MatMut::new(&mut dq, tokens, n),
                    dk: MatMut::new(&mut dk, positions, m),
                    dv: MatMut::new(&mut dv, positions, m),
                };
                let saved = Saved {
                    out: Mat::new(&out, tokens, n),
                    lse: &lse,
                };
                kernels.attention_backward(
                    grads,
                    Mat::new(&dout, tokens, n),
                    inputs,
                    saved,
                    &shape,
                    &mut scratch,
                );
                assert_close(&dq, &dq64, 4e-6);
                assert_close(&dk, &dk64, 4e-6);
                assert_close(&dv, &dv64, 4e-6);
            }
        }
    }

    #[test]
    fn what_is_merged_is_attention_over_all_positions() {
        for (heads, kv_heads, d, tokens, positions, before) in [
            (4, 2, 8, 1, 37, 30),
            (3, 1, 5, 65, 131, 9),
            (4, 4, 12, 40, 90, 50),
        ] {
            let scale = 1.0 / (d as f32).sqrt();
            let shape = |causal| AttentionShape {
                heads,
                kv_heads,
                head_width: d,
                scale,
                causal,
            };
            let (n, m) = (heads * d, kv_heads * d);
            let (q, k, v) = (
                random(1, tokens * n),
                random(2, positions * m),
                random(3, positions * m),
            );
            for kernels in Kernels::available() {
                let run = |first: usize, count: usize, causal| {
                    let (mut out, mut lse) = (vec![0.0; tokens * n], vec![0.0; heads * tokens]);
                    let mut scratch =
                        vec![f32::NAN; forward_scratch(&shape(causal), tokens, count)];
                    let view = |x| Mat::new(x, positions, m).row_range(first, count);
                    let inputs = Inputs {
                        q: Mat::new(&q, tokens, n),
                        k: view(&k),
                        v: view(&v),
                    };
                    let view = MatMut::new(&mut out, tokens, n);
                    kernels.attention_forward(view, &mut lse, inputs, &shape(causal), &mut scratch);
                    (out, lse)
                };
                let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect::<Vec<_>>();
                let (want, want_lse) = run(0, positions, true);
                let (mut out, mut lse) = run(before, positions - before, true);
                let (mut more, more_lse) = run(0, before, false);
                let view = MatMut::new(&mut out, tokens, n);
                kernels.attention_merge(view, &mut lse, (&mut more, &more_lse), &shape(true));
                assert_close(&out, &wide(want), 4e-6);
                assert_close(&lse, &wide(want_lse), 4e-6);
            }
        }
    }
}
