//! A vision-language model in other coordinates: the same function, but no weight of it lies on the
//! grid of the blocks that it came from.
//!
//! The model's stream is turned by an orthogonal matrix Q (random signs, then Walsh and Hadamard's),
//! after the norms' weights have moved into the matrices that read what they norm:
//! ```text
//! embedding, projector:  e' = Q e        reads the stream:  W' = W diag(norm) Q^T
//! writes to the stream:  W' = Q W        norms:             1
//! ```
//! Decoding a file in 4 bits and encoding it again loses next to nothing, which says nothing about
//! what 4 bits cost. After a turn they cost what they cost any floats.
//! Source: Ashkboos et al. 2024, SliceGPT, <https://arxiv.org/abs/2401.15024>, section 3.2.

use std::path::Path;

use graft_kernels::{Kernels, QuantType};

use super::edited::Edited;
use super::seeded;

/// Writes the language model `text` and its vision half `mmproj`, turned and in F32, to the paths
/// behind them.
pub fn write([text, mmproj]: [&Path; 2], [turned_text, turned_mmproj]: [&Path; 2]) {
    let mut text = Edited::read(text);
    let width = floats(&mut text, "output_norm.weight").len();
    let turn = Turn::new(width);
    let output_norm = floats(&mut text, "output_norm.weight");
    change(&mut text, "output_norm.weight", |v| v.fill(1.0));
    change(&mut text, "token_embd.weight", |v| turn.rows(v));
    change(&mut text, "output.weight", |v| {
        scale(v, &output_norm);
        turn.rows(v);
    });
    let layers = text.tensors.iter();
    let layers = layers
        .filter(|(t, _)| t.name.ends_with(".attn_norm.weight"))
        .count();
    for layer in 0..layers {
        for (norm, readers, writer) in [
            (
                "attn_norm",
                ["attn_q", "attn_k", "attn_v"].as_slice(),
                "attn_output",
            ),
            ("ffn_norm", &["ffn_gate", "ffn_up"], "ffn_down"),
        ] {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let weights = floats(&mut text, &name(norm));
            change(&mut text, &name(norm), |v| v.fill(1.0));
            for reader in readers {
                change(&mut text, &name(reader), |v| {
                    scale(v, &weights);
                    turn.rows(v);
                });
            }
            change(&mut text, &name(writer), |v| turn.columns(v));
        }
    }
    text.write(turned_text);
    let mut mmproj = Edited::read(mmproj);
    for part in ["mm.2.weight", "mm.2.bias"] {
        change(&mut mmproj, part, |v| turn.columns(v));
    }
    mmproj.write(turned_mmproj);
}

/// A tensor's numbers.
fn floats(file: &mut Edited, name: &str) -> Vec<f64> {
    let (declaration, data) = file.tensor(name);
    let mut values = vec![0.0; declaration.shape.iter().product()];
    Kernels::detect().decode(declaration.quant_type, data, &mut values);
    values.into_iter().map(f64::from).collect()
}

/// Changes a tensor, which is F32 afterwards.
fn change(file: &mut Edited, name: &str, change: impl FnOnce(&mut [f64])) {
    let mut values = floats(file, name);
    change(&mut values);
    let (declaration, data) = file.tensor(name);
    declaration.quant_type = QuantType::F32;
    let bytes = values.iter().flat_map(|&v| (v as f32).to_le_bytes());
    *data = bytes.collect();
}

/// Multiplies every row with `weights`.
fn scale(values: &mut [f64], weights: &[f64]) {
    for row in values.chunks_exact_mut(weights.len()) {
        row.iter_mut().zip(weights).for_each(|(v, w)| *v *= w);
    }
}

/// Q.
struct Turn {
    signs: Vec<f64>,
}

impl Turn {
    fn new(width: usize) -> Self {
        assert!(width.is_power_of_two());
        let sign = |word: u64| if word >> 63 == 1 { -1.0 } else { 1.0 };
        let signs = seeded::words("signs").take(width).map(sign).collect();
        Self { signs }
    }

    fn vector(&self, v: &mut [f64]) {
        let n = v.len();
        v.iter_mut().zip(&self.signs).for_each(|(v, s)| *v *= s);
        let mut half = 1;
        while half < n {
            for pair in v.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        let norm = (n as f64).sqrt();
        v.iter_mut().for_each(|v| *v /= norm);
    }

    fn rows(&self, values: &mut [f64]) {
        let rows = values.chunks_exact_mut(self.signs.len());
        rows.for_each(|row| self.vector(row));
    }

    /// The matrix has as many rows as Q.
    fn columns(&self, values: &mut [f64]) {
        let rows = self.signs.len();
        let columns = values.len() / rows;
        let mut column = vec![0.0; rows];
        for c in 0..columns {
            for (r, v) in column.iter_mut().enumerate() {
                *v = values[r * columns + c];
            }
            self.vector(&mut column);
            for (r, v) in column.iter().enumerate() {
                values[r * columns + c] = *v;
            }
        }
    }
}
