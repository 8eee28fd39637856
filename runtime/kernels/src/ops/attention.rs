//! Scaled dot-product attention with grouped key/value heads.
//!
//! Per head, `out = softmax(scale * q k^T + mask) v`. Shapes: `q`, `out` are `[T, H * D]`; `k`,
//! `v` are `[S, K * D]`; `lse` is `[H, T]`, the logarithm of each softmax's sum of exponentials.
//! Head `h` reads key/value head `h / (H / K)`. The queries are the last `T` of `S` positions:
//! query `t` sits at `S - T + t` and, if causal, sees the positions up to its own.
//! Source: Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>; grouped heads: Ainslie et
//! al. 2023, <https://arxiv.org/abs/2305.13245>; keeping `lse` for the backward: Dao 2023,
//! <https://arxiv.org/abs/2307.08691>.

use super::real::{Real, dot};

/// Heads and mask of one attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads H.
    pub heads: usize,
    /// Key/value heads K; divides H.
    pub kv_heads: usize,
    /// Head width D.
    pub head_width: usize,
    /// Multiplies the scores, usually `1 / sqrt(D)`.
    pub scale: f32,
    /// Whether a query sees only positions up to its own.
    pub causal: bool,
}

impl AttentionShape {
    /// How many positions, from the first, the query of token `t` sees.
    pub fn visible(&self, t: usize, tokens: usize, positions: usize) -> usize {
        if self.causal {
            positions - tokens + t + 1
        } else {
            positions
        }
    }

    /// Tokens and positions of arrays of this shape.
    fn lengths<R>(&self, q: &[R], k: &[R]) -> (usize, usize) {
        let tokens = q.len() / (self.heads * self.head_width);
        (tokens, k.len() / (self.kv_heads * self.head_width))
    }
}

/// Writes `out`, and keeps `lse` for [`backward`].
pub fn forward<R: Real>(
    out: &mut [R],
    lse: &mut [R],
    q: &[R],
    k: &[R],
    v: &[R],
    shape: &AttentionShape,
) {
    let d = shape.head_width;
    let (tokens, positions) = shape.lengths(q, k);
    let scale = R::of(shape.scale as f64);
    for h in 0..shape.heads {
        let kv = h / (shape.heads / shape.kv_heads);
        let at = |s: usize| (s * shape.kv_heads + kv) * d;
        for t in 0..tokens {
            let row = (t * shape.heads + h) * d;
            let visible = shape.visible(t, tokens, positions);
            let score = |s: usize| scale * dot(&q[row..][..d], &k[at(s)..][..d]);
            let max = (1..visible)
                .map(score)
                .fold(score(0), |m, s| if s > m { s } else { m });
            let sum: R = (0..visible).map(|s| (score(s) - max).exp()).sum();
            let log_sum = max + sum.ln();
            lse[h * tokens + t] = log_sum;
            out[row..][..d].fill(R::of(0.0));
            for s in 0..visible {
                let p = (score(s) - log_sum).exp();
                for (out, &v) in out[row..][..d].iter_mut().zip(&v[at(s)..]) {
                    *out += p * v;
                }
            }
        }
    }
}

/// Makes `out` and `lse`, which [`forward`] wrote for some positions, those of the same queries over more
/// positions, from what it wrote for these: either counts as much as the sum of its exponentials.
/// Source: Juravsky et al. 2024, <https://arxiv.org/abs/2402.05099>.
pub fn merge<R: Real>(
    out: &mut [R],
    lse: &mut [R],
    more: &[R],
    more_lse: &[R],
    shape: &AttentionShape,
) {
    let d = shape.head_width;
    let tokens = lse.len() / shape.heads;
    for (row, (lse, &more_lse)) in lse.iter_mut().zip(more_lse).enumerate() {
        let (head, token) = (row / tokens, row % tokens);
        let max = if *lse > more_lse { *lse } else { more_lse };
        let all = max + ((*lse - max).exp() + (more_lse - max).exp()).ln();
        let (kept, added) = ((*lse - all).exp(), (more_lse - all).exp());
        let at = (token * shape.heads + head) * d;
        for (out, &more) in out[at..][..d].iter_mut().zip(&more[at..]) {
            *out = *out * kept + more * added;
        }
        *lse = all;
    }
}

/// Gradients of the three inputs; each is added to.
#[derive(Debug)]
pub struct Gradients<'a, R> {
    /// `[T, H * D]`.
    pub dq: &'a mut [R],
    /// `[S, K * D]`.
    pub dk: &'a mut [R],
    /// `[S, K * D]`.
    pub dv: &'a mut [R],
}

/// What forward was given and what it kept.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a, R> {
    /// `[T, H * D]`.
    pub out: &'a [R],
    /// `[H, T]`.
    pub lse: &'a [R],
    /// `[T, H * D]`.
    pub q: &'a [R],
    /// `[S, K * D]`.
    pub k: &'a [R],
    /// `[S, K * D]`.
    pub v: &'a [R],
}

/// With `p = exp(score - lse)`: `dv += p^T dout`, `dp = dout v^T`,
/// `ds = p * (dp - sum over the head of dout * out)`, `dq += scale ds k`, `dk += scale ds^T q`.
pub fn backward<R: Real>(
    grads: Gradients<'_, R>,
    dout: &[R],
    saved: Saved<'_, R>,
    shape: &AttentionShape,
) {
    let Saved { out, lse, q, k, v } = saved;
    let d = shape.head_width;
    let (tokens, positions) = shape.lengths(q, k);
    let scale = R::of(shape.scale as f64);
    for h in 0..shape.heads {
        let kv = h / (shape.heads / shape.kv_heads);
        for t in 0..tokens {
            let row = (t * shape.heads + h) * d;
            let (q, dout) = (&q[row..][..d], &dout[row..][..d]);
            let delta = dot(dout, &out[row..][..d]);
            for s in 0..shape.visible(t, tokens, positions) {
                let at = (s * shape.kv_heads + kv) * d;
                let (k, v) = (&k[at..][..d], &v[at..][..d]);
                let p = (scale * dot(q, k) - lse[h * tokens + t]).exp();
                let ds = scale * p * (dot(dout, v) - delta);
                for i in 0..d {
                    grads.dv[at + i] += p * dout[i];
                    grads.dq[row + i] += ds * k[i];
                    grads.dk[at + i] += ds * q[i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::real::{central_difference, relative_error, values};
    use super::*;

    #[test]
    fn backward_is_the_derivative_of_forward() {
        for (causal, tokens, positions) in [(true, 3, 3), (true, 2, 5), (false, 4, 4)] {
            let shape = AttentionShape {
                heads: 4,
                kv_heads: 2,
                head_width: 3,
                scale: 0.7,
                causal,
            };
            let (n, m) = (tokens * 12, positions * 6);
            let (q, k, v, dout) = (values(1, n), values(2, m), values(3, m), values(4, n));
            let run = |q: &[f64], k: &[f64], v: &[f64]| {
                let (mut out, mut lse) = (vec![0.0; n], vec![0.0; 4 * tokens]);
                forward(&mut out, &mut lse, q, k, v, &shape);
                (dot(&out, &dout), out, lse)
            };
            let (_, out, lse) = run(&q, &k, &v);
            let (mut dq, mut dk, mut dv) = (vec![0.0; n], vec![0.0; m], vec![0.0; m]);
            let grads = Gradients {
                dq: &mut dq,
                dk: &mut dk,
                dv: &mut dv,
            };
            let saved = Saved {
                out: &out,
                lse: &lse,
                q: &q,
                k: &k,
                v: &v,
            };
            backward(grads, &dout, saved, &shape);
            for (name, got, want) in [
                ("dq", &dq, central_difference(&q, |q| run(q, &k, &v).0)),
                ("dk", &dk, central_difference(&k, |k| run(&q, k, &v).0)),
                ("dv", &dv, central_difference(&v, |v| run(&q, &k, v).0)),
            ] {
                let error = relative_error(got, &want);
                assert!(error < 1e-8, "{name}: {error:e}");
            }
        }
    }

    #[test]
    fn what_is_merged_is_attention_over_all_positions() {
        let shape = AttentionShape {
            heads: 4,
            kv_heads: 2,
            head_width: 3,
            scale: 0.7,
            causal: true,
        };
        let all = AttentionShape {
            causal: false,
            ..shape
        };
        let (tokens, positions, before) = (3, 7, 4);
        let (q, k, v) = (
            values(1, 36),
            values(2, positions * 6),
            values(3, positions * 6),
        );
        let run = |range: std::ops::Range<usize>, shape| {
            let (mut out, mut lse) = (vec![0.0; 36], vec![0.0; 4 * tokens]);
            let floats = range.start * 6..range.end * 6;
            forward(
                &mut out,
                &mut lse,
                &q,
                &k[floats.clone()],
                &v[floats],
                shape,
            );
            (out, lse)
        };
        let (want, want_lse) = run(0..positions, &shape);
        let (mut out, mut lse) = run(before..positions, &shape);
        let (more, more_lse) = run(0..before, &all);
        merge(&mut out, &mut lse, &more, &more_lse, &shape);
        assert!(relative_error(&out, &want) < 1e-12);
        assert!(relative_error(&lse, &want_lse) < 1e-12);
    }
}
