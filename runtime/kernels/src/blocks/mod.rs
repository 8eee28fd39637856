//! One file per block type of the GGUF format: byte diagram, decode, encode.
//!
//! These are the reference: `decode` here defines what the bytes mean, to the bit, and
//! `<isa>/<type>.rs` must agree with it. A block is a plain byte array, so nothing in this
//! folder depends on alignment or the byte order of the machine.

pub mod floats;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
mod scale_search;
#[cfg(test)]
mod tests;
mod two_level;

use crate::QuantType;

/// Decodes `out.len()` weights stored as `ty`.
///
/// # Panics
/// If `out` does not hold whole blocks, or `bytes` is not exactly as long as they are.
pub fn decode(ty: QuantType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        ty.row_bytes(out.len()),
        Some(bytes.len()),
        "{ty}: {} weights need whole blocks of {} and all their bytes",
        out.len(),
        ty.block_len()
    );
    match ty {
        QuantType::F32 => each_decoded(bytes, out, floats::decode_f32),
        QuantType::F16 => each_decoded(bytes, out, floats::decode_f16),
        QuantType::BF16 => each_decoded(bytes, out, floats::decode_bf16),
        QuantType::Q4_0 => each_decoded(bytes, out, q4_0::decode),
        QuantType::Q4_1 => each_decoded(bytes, out, q4_1::decode),
        QuantType::Q5_0 => each_decoded(bytes, out, q5_0::decode),
        QuantType::Q5_1 => each_decoded(bytes, out, q5_1::decode),
        QuantType::Q8_0 => each_decoded(bytes, out, q8_0::decode),
        QuantType::Q2K => each_decoded(bytes, out, q2_k::decode),
        QuantType::Q3K => each_decoded(bytes, out, q3_k::decode),
        QuantType::Q4K => each_decoded(bytes, out, q4_k::decode),
        QuantType::Q5K => each_decoded(bytes, out, q5_k::decode),
        QuantType::Q6K => each_decoded(bytes, out, q6_k::decode),
        QuantType::IQ4NL => each_decoded(bytes, out, iq4_nl::decode),
        QuantType::IQ4XS => each_decoded(bytes, out, iq4_xs::decode),
    }
}

/// There is no encoder for this type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EncodeUnsupported(pub QuantType);

impl std::fmt::Display for EncodeUnsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "graft reads {} but does not write it", self.0)
    }
}

impl std::error::Error for EncodeUnsupported {}

/// Encodes `weights` as `ty` with a small mean square error; in the block
/// types infinities and NaN count as zero.
///
/// # Errors
/// If `ty` is only decoded (IQ4_XS); `out` is then untouched.
///
/// # Panics
/// If `weights` does not fill whole blocks, or `out` is not exactly as long as they are.
pub fn encode(ty: QuantType, weights: &[f32], out: &mut [u8]) -> Result<(), EncodeUnsupported> {
    assert_eq!(
        ty.row_bytes(weights.len()),
        Some(out.len()),
        "{ty}: {} weights need whole blocks of {} and all their bytes",
        weights.len(),
        ty.block_len()
    );
    match ty {
        QuantType::F32 => each_encoded(weights, out, floats::encode_f32),
        QuantType::F16 => each_encoded(weights, out, floats::encode_f16),
        QuantType::BF16 => each_encoded(weights, out, floats::encode_bf16),
        QuantType::Q4_0 => each_encoded(weights, out, q4_0::encode),
        QuantType::Q4_1 => each_encoded(weights, out, q4_1::encode),
        QuantType::Q5_0 => each_encoded(weights, out, q5_0::encode),
        QuantType::Q5_1 => each_encoded(weights, out, q5_1::encode),
        QuantType::Q8_0 => each_encoded(weights, out, q8_0::encode),
        QuantType::Q2K => each_encoded(weights, out, q2_k::encode),
        QuantType::Q3K => each_encoded(weights, out, q3_k::encode),
        QuantType::Q4K => each_encoded(weights, out, q4_k::encode),
        QuantType::Q5K => each_encoded(weights, out, q5_k::encode),
        QuantType::Q6K => each_encoded(weights, out, q6_k::encode),
        QuantType::IQ4NL => each_encoded(weights, out, iq4_nl::encode),
        QuantType::IQ4XS => return Err(EncodeUnsupported(ty)),
    }
    Ok(())
}

/// Encodes weights that come from `near` by a change, as when an adapter is merged: a block keeps the
/// scales it has in `near` where that loses less than [`encode`]'s, and stays as it is where the
/// change rounds away altogether. So the result is never further from `weights` than `near` is.
///
/// # Errors
/// As [`encode`].
///
/// # Panics
/// As [`encode`]; if `near` is not as long as `out`.
pub fn encode_near(
    ty: QuantType,
    weights: &[f32],
    near: &[u8],
    out: &mut [u8],
) -> Result<(), EncodeUnsupported> {
    assert_eq!(near.len(), out.len(), "{ty}: the same blocks");
    encode(ty, weights, out)?;
    match ty {
        QuantType::F32 | QuantType::F16 | QuantType::BF16 | QuantType::IQ4XS => {}
        QuantType::Q4_0 => each_nearer(weights, near, out, q4_0::set_levels, q4_0::decode),
        QuantType::Q4_1 => each_nearer(weights, near, out, q4_1::set_levels, q4_1::decode),
        QuantType::Q5_0 => each_nearer(weights, near, out, q5_0::set_levels, q5_0::decode),
        QuantType::Q5_1 => each_nearer(weights, near, out, q5_1::set_levels, q5_1::decode),
        QuantType::Q8_0 => each_nearer(weights, near, out, q8_0::set_levels, q8_0::decode),
        QuantType::Q2K => each_nearer(weights, near, out, q2_k::set_levels, q2_k::decode),
        QuantType::Q3K => each_nearer(weights, near, out, q3_k::set_levels, q3_k::decode),
        QuantType::Q4K => each_nearer(weights, near, out, q4_k::set_levels, q4_k::decode),
        QuantType::Q5K => each_nearer(weights, near, out, q5_k::set_levels, q5_k::decode),
        QuantType::Q6K => each_nearer(weights, near, out, q6_k::set_levels, q6_k::decode),
        QuantType::IQ4NL => each_nearer(weights, near, out, iq4_nl::set_levels, iq4_nl::decode),
    }
    Ok(())
}

/// Replaces each block by its counterpart of `near` with new levels, where that loses no more.
fn each_nearer<const BYTES: usize, const LEN: usize>(
    weights: &[f32],
    near: &[u8],
    out: &mut [u8],
    set_levels: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (runs, near) = (weights.as_chunks().0, near.as_chunks().0);
    let loss = |run: &[f32; LEN], block: &[u8; BYTES]| -> f64 {
        let mut stored = [0.0; LEN];
        decode(block, &mut stored);
        let errors = run.iter().zip(&stored);
        errors.map(|(w, s)| f64::from(w - s).powi(2)).sum()
    };
    for ((run, near), block) in runs.iter().zip(near).zip(out.as_chunks_mut().0) {
        let mut same_scales = *near;
        set_levels(run, &mut same_scales);
        let kept = loss(run, &same_scales);
        if kept <= loss(run, block) {
            // Levels of a scale of zero say nothing; then nothing need change.
            *block = if loss(run, near) <= kept {
                *near
            } else {
                same_scales
            };
        }
    }
}

fn each_encoded<const BYTES: usize, const LEN: usize>(
    weights: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    let (runs, blocks) = (weights.as_chunks().0, out.as_chunks_mut().0);
    for (run, block) in runs.iter().zip(blocks) {
        if LEN == 1 {
            encode(run, block);
        } else {
            encode(&run.map(|w| if w.is_finite() { w } else { 0.0 }), block);
        }
    }
}

fn each_decoded<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (blocks, runs) = (bytes.as_chunks().0, out.as_chunks_mut().0);
    for (block, run) in blocks.iter().zip(runs) {
        decode(block, run);
    }
}

/// The `N` bytes of a field that starts at byte `offset` of its block.
pub(crate) fn field<const N: usize>(block: &[u8], offset: usize) -> &[u8; N] {
    block[offset..]
        .first_chunk()
        .expect("a field lies inside its block")
}
