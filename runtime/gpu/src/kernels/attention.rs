//! Attention, without anything of tokens x positions.

use graft_kernels::ops::attention::AttentionShape;

use super::File;
use super::elementwise::THREADS;
use crate::recorder::{Call, same, shaped};
use crate::shader::Key;
use crate::{GpuError, Recorder, Result, Tensor};

/// Tokens or positions of a group.
const TILE: usize = 16;

/// The widest head: a thread keeps 2 sums for every 16 elements.
const WIDEST_HEAD: usize = 512;

/// What forward was given and what it kept; shapes as in `graft_kernels::ops::attention`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSaved<'a> {
    /// `[T, H * D]`.
    pub out: &'a Tensor,
    /// `[H, T]`.
    pub lse: &'a Tensor,
    /// `[T, H * D]`.
    pub q: &'a Tensor,
    /// `[S, K * D]`.
    pub k: &'a Tensor,
    /// `[S, K * D]`.
    pub v: &'a Tensor,
}

/// Gradients of the three inputs; each is added to.
#[derive(Clone, Copy, Debug)]
pub struct AttentionGradients<'a> {
    /// `[T, H * D]`.
    pub dq: &'a Tensor,
    /// `[S, K * D]`.
    pub dk: &'a Tensor,
    /// `[S, K * D]`.
    pub dv: &'a Tensor,
    /// Scratch, `[H, T]`; contents on entry and exit are meaningless.
    pub delta: &'a Tensor,
}

impl Recorder {
    /// Writes `out = softmax(scale * q k^T + mask) v` of each head, and keeps `lse` for
    /// [`Recorder::attention_backward`]. The queries are the last `T` of `S` positions.
    ///
    /// # Errors
    /// If shapes do not fit each other, arrays overlap, a head is wider than 512 or an array larger than
    /// a kernel can see, or the device refuses.
    pub fn attention(
        &mut self,
        out: &Tensor,
        lse: &Tensor,
        [q, k, v]: [&Tensor; 3],
        shape: &AttentionShape,
    ) -> Result<()> {
        let op = "attention";
        let saved = AttentionSaved { out, lse, q, k, v };
        let words = words(op, &saved, shape)?;
        self.run(&Call {
            op,
            key: key("forward", shape),
            arrays: &[
                (0, out.into()),
                (1, lse.into()),
                (2, q.into()),
                (3, k.into()),
                (4, v.into()),
            ],
            written: 2,
            words: &words,
            groups: [q.rows().div_ceil(TILE), shape.heads, 1],
        })
    }

    /// Adds to the gradients.
    ///
    /// # Errors
    /// As [`Recorder::attention`].
    pub fn attention_backward(
        &mut self,
        grads: &AttentionGradients<'_>,
        dout: &Tensor,
        saved: &AttentionSaved<'_>,
        shape: &AttentionShape,
    ) -> Result<()> {
        let op = "attention_backward";
        let words = words(op, saved, shape)?;
        let AttentionSaved { out, lse, q, k, v } = *saved;
        let AttentionGradients { dq, dk, dv, delta } = *grads;
        let (of_tokens, of_positions) = ([q.rows(), q.width()], [k.rows(), k.width()]);
        shaped(op, "dout", dout, of_tokens)?;
        shaped(op, "dq", dq, of_tokens)?;
        shaped(op, "dk", dk, of_positions)?;
        shaped(op, "dv", dv, of_positions)?;
        same(op, "floats of delta", delta.len(), lse.len())?;
        let read = [
            (1, lse.into()),
            (2, q.into()),
            (3, k.into()),
            (4, v.into()),
            (5, dout.into()),
            (6, delta.into()),
        ];
        self.run(&Call {
            op,
            key: key("sum_delta", shape),
            arrays: &[(6, delta.into()), (0, out.into()), (5, dout.into())],
            written: 1,
            words: &words,
            groups: [lse.len().div_ceil(THREADS), 1, 1],
        })?;
        let written = [(8, dk.into()), (9, dv.into())];
        self.run(&Call {
            op,
            key: key("backward_kv", shape),
            arrays: &[&written[..], &read].concat(),
            written: 2,
            words: &words,
            groups: [k.rows().div_ceil(TILE), shape.kv_heads, 1],
        })?;
        let written = [(7, dq.into())];
        self.run(&Call {
            op,
            key: key("backward_q", shape),
            arrays: &[&written[..], &read].concat(),
            written: 1,
            words: &words,
            groups: [q.rows().div_ceil(TILE), shape.heads, 1],
        })
    }
}

fn key(entry: &'static str, shape: &AttentionShape) -> Key {
    Key {
        constant: shape.head_width as u32,
        ..Key::of(File::Attention, entry)
    }
}

/// The kernel's numbers, if the shapes fit.
fn words(op: &'static str, saved: &AttentionSaved<'_>, shape: &AttentionShape) -> Result<[u32; 6]> {
    let refused = |what: String| GpuError::Shape { op, what };
    let &AttentionShape {
        heads,
        kv_heads,
        head_width,
        scale,
        causal,
    } = shape;
    if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(refused(format!("{heads} heads of {kv_heads}")));
    }
    if head_width == 0 || head_width > WIDEST_HEAD {
        return Err(refused(format!(
            "heads of {head_width}; they are 1 to {WIDEST_HEAD}"
        )));
    }
    let width = |heads: usize| heads.saturating_mul(head_width);
    let (tokens, positions) = (saved.q.rows(), saved.k.rows());
    shaped(op, "q", saved.q, [tokens, width(heads)])?;
    shaped(op, "out", saved.out, [tokens, width(heads)])?;
    shaped(op, "k", saved.k, [positions, width(kv_heads)])?;
    shaped(op, "v", saved.v, [positions, width(kv_heads)])?;
    same(
        op,
        "floats of lse",
        saved.lse.len(),
        heads.saturating_mul(tokens),
    )?;
    if causal && positions < tokens {
        return Err(refused(format!("{tokens} tokens of {positions} positions")));
    }
    Ok([
        tokens as u32,
        positions as u32,
        heads as u32,
        kv_heads as u32,
        u32::from(causal),
        scale.to_bits(),
    ])
}
