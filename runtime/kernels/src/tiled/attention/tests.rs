//! Attention in tiles and of a few tokens against the reference.

use super::*;
use crate::ops::attention as reference;
use crate::vector::tests::{assert_close, random};

/// Every width and length here leaves a tail in some tile; some see only the first of several blocks of
/// positions.
#[test]
fn tiles_agree_with_the_reference() {
    for (heads, kv_heads, d, tokens, positions, causal) in [
        (4, 2, 8, 0, 3, true),
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
            let (mut out, mut lse) = (vec![f32::NAN; tokens * n], vec![f32::NAN; heads * tokens]);
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

/// A session that goes back runs its last token again, alone, and says what it said before.
#[test]
fn a_few_tokens_have_the_bits_of_each_alone() {
    for (heads, kv_heads, d, tokens, positions) in [
        (4, 4, 12, 5, 150),
        (16, 2, 8, 2, 70),
        (3, 3, 5, 16, 300),
        (3, 3, 16, 3, 150),
    ] {
        let shape = AttentionShape {
            heads,
            kv_heads,
            head_width: d,
            scale: 0.3,
            causal: true,
        };
        let (n, m) = (heads * d, kv_heads * d);
        let (q, k, v) = (
            random(1, tokens * n),
            random(2, positions * m),
            random(3, positions * m),
        );
        for kernels in Kernels::available() {
            let run = |first: usize, tokens: usize| {
                let seen = positions - q.len() / n + first + tokens;
                let (mut out, mut lse) = (vec![0.0; tokens * n], vec![0.0; heads * tokens]);
                let mut scratch = vec![f32::NAN; forward_scratch(&shape, tokens, seen)];
                let inputs = Inputs {
                    q: Mat::new(&q[first * n..][..tokens * n], tokens, n),
                    k: Mat::new(&k[..seen * m], seen, m),
                    v: Mat::new(&v[..seen * m], seen, m),
                };
                let view = MatMut::new(&mut out, tokens, n);
                kernels.attention_forward(view, &mut lse, inputs, &shape, &mut scratch);
                out
            };
            assert!(!packs(tokens, &shape));
            let alone: Vec<_> = (0..tokens).flat_map(|t| run(t, 1)).collect();
            assert_eq!(run(0, tokens), alone, "{}", kernels.name);
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
                let mut scratch = vec![f32::NAN; forward_scratch(&shape(causal), tokens, count)];
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
