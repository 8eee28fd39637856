//! Attention, without anything of tokens x positions.

use graft_kernels::ops::attention::AttentionShape;

use super::File;
use super::elementwise::THREADS;
use crate::recorder::{Call, Groups, same, shaped};
use crate::shader::Key;
use crate::{GpuError, Recorder, Result, Tensor};

/// Tokens or positions of a group.
const TILE: usize = 32;

/// Positions of a group of the kernel for few tokens.
const RUN: usize = 256;

/// The widest head: a thread keeps 4 sums for every 16 elements.
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
        let words = words(op, [out, q, k, v], shape)?;
        kept(op, lse, q, shape)?;
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
            groups: Groups::Grid([q.rows().div_ceil(TILE), shape.heads, 1]),
        })
    }

    /// Floats of scratch that [`Recorder::attention_thin`] needs.
    pub fn attention_thin_scratch(
        tokens: usize,
        positions: usize,
        shape: &AttentionShape,
    ) -> usize {
        let parts = tokens.saturating_mul(positions.div_ceil(RUN));
        let floats = shape
            .heads
            .saturating_mul(shape.head_width.saturating_add(2));
        parts.saturating_mul(floats)
    }

    /// Writes what [`Recorder::attention`] writes to `out`, by kernels that divide the positions: for a few
    /// tokens and many positions. Keeps nothing; `scratch` has room for
    /// [`Recorder::attention_thin_scratch`].
    ///
    /// # Errors
    /// As [`Recorder::attention`].
    pub fn attention_thin(
        &mut self,
        out: &Tensor,
        [q, k, v]: [&Tensor; 3],
        shape: &AttentionShape,
        scratch: &Tensor,
    ) -> Result<()> {
        let op = "attention_thin";
        let numbers = words(op, [out, q, k, v], shape)?;
        let (tokens, runs) = (q.rows(), k.rows().div_ceil(RUN));
        let floats = Self::attention_thin_scratch(tokens, k.rows(), shape);
        let parts = super::scratch(op, scratch, floats)?;
        let words: Vec<u32> = numbers.into_iter().chain([runs as u32]).collect();
        let key = |entry| Key {
            file: File::AttentionThin,
            ..key(entry, shape)
        };
        self.run(&Call {
            op,
            key: key("partial"),
            arrays: &[
                (4, (&parts).into()),
                (1, q.into()),
                (2, k.into()),
                (3, v.into()),
            ],
            written: 1,
            words: &words,
            groups: Groups::Grid([runs, shape.heads, tokens]),
        })?;
        self.run(&Call {
            op,
            key: key("join"),
            arrays: &[(0, out.into()), (4, (&parts).into())],
            written: 1,
            words: &words,
            groups: Groups::Grid([shape.heads, tokens, 1]),
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
        let AttentionSaved { out, lse, q, k, v } = *saved;
        let words = words(op, [out, q, k, v], shape)?;
        kept(op, lse, q, shape)?;
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
            groups: Groups::Line(lse.len().div_ceil(THREADS)),
        })?;
        let written = [(8, dk.into()), (9, dv.into())];
        self.run(&Call {
            op,
            key: key("backward_kv", shape),
            arrays: &[&written[..], &read].concat(),
            written: 2,
            words: &words,
            groups: Groups::Grid([k.rows().div_ceil(TILE), shape.kv_heads, 1]),
        })?;
        let written = [(7, dq.into())];
        self.run(&Call {
            op,
            key: key("backward_q", shape),
            arrays: &[&written[..], &read].concat(),
            written: 1,
            words: &words,
            groups: Groups::Grid([q.rows().div_ceil(TILE), shape.heads, 1]),
        })
    }
}

fn key(entry: &'static str, shape: &AttentionShape) -> Key {
    Key {
        constant: shape.head_width as u32,
        ..Key::of(File::Attention, entry)
    }
}

/// # Errors
/// If `lse` is not `[H, T]`.
fn kept(op: &'static str, lse: &Tensor, q: &Tensor, shape: &AttentionShape) -> Result<()> {
    same(
        op,
        "floats of lse",
        lse.len(),
        shape.heads.saturating_mul(q.rows()),
    )
}

/// The kernels' numbers, if the shapes fit.
fn words(
    op: &'static str,
    [out, q, k, v]: [&Tensor; 4],
    shape: &AttentionShape,
) -> Result<[u32; 6]> {
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
    let (tokens, positions) = (q.rows(), k.rows());
    shaped(op, "q", q, [tokens, width(heads)])?;
    shaped(op, "out", out, [tokens, width(heads)])?;
    shaped(op, "k", k, [positions, width(kv_heads)])?;
    shaped(op, "v", v, [positions, width(kv_heads)])?;
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
