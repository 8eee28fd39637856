//! Products of BF16 matrices with activations rounded to BF16, for inference on processors that multiply
//! pairs of such numbers.
//!
//! `y = x W^T + bias`: a cell of 32 bits holds two neighbours of a row, the first in the lower half. Weights are
//! cells as the file stores them, so a panel of `[inputs / 2, outputs]` cells is packed like one of floats, and each
//! step of a micro-kernel does for two depths what it does for one there. Activations are rounded to the
//! nearest, ties to even, a block of tokens at a time.
//!
//! What a cell adds to a sum: first the product of the upper halves, then that of the lower ones, each rounded
//! once. Denormal numbers count as 0, in what is read and in what is written. This is what `vdpbf16ps` does; the
//! functions here say the same without it.

use crate::panel::{Before, WIDE, store_cols};
use crate::product::{Mat, MatMut};
use crate::tiled::linear::Stored;
use crate::{Kernels, QuantType};

/// Tokens whose rounded activations lie beside a panel, and their cells.
const TOKENS: usize = 96;
const DEPTH: usize = 256;

impl Kernels {
    /// Whether this table multiplies matrices of this type, with rows of `inputs` elements, in halves.
    pub fn multiplies_halves(&self, ty: QuantType, inputs: usize) -> bool {
        self.halves && ty == QuantType::BF16 && inputs.is_multiple_of(2)
    }

    /// As [`Kernels::linear_forward`], with `x` rounded to BF16.
    ///
    /// # Panics
    /// As there, or if [`Kernels::multiplies_halves`] is false.
    pub fn linear_halves(
        &self,
        mut y: MatMut<'_>,
        x: Mat<'_>,
        weight: &Stored<'_>,
        bias: &[f32],
        scratch: &mut [f32],
    ) {
        let (outputs, inputs) = (y.cols(), weight.inputs);
        assert!(self.multiplies_halves(weight.quant_type, inputs));
        let cells = Stored {
            quant_type: QuantType::F32,
            inputs: inputs / 2,
            ..*weight
        };
        let (rounded, scratch) = scratch.split_at_mut(TOKENS * DEPTH);
        for from in (0..cells.inputs).step_by(DEPTH) {
            let depth = DEPTH.min(cells.inputs - from);
            let panel = self.forward_panel(scratch, &cells, (outputs, from..from + depth));
            for token in (0..x.rows()).step_by(TOKENS) {
                let tokens = TOKENS.min(x.rows() - token);
                let rounded = &mut rounded[..tokens * depth];
                for (i, out) in rounded.chunks_exact_mut(depth).enumerate() {
                    let row = &x.row(token + i)[2 * from..][..2 * depth];
                    self.round_to_halves(out, row);
                }
                let rounded = Mat::new(rounded, tokens, depth);
                let before = Before::first(from, bias);
                self.product_halves(y.row_range(token, tokens), before, rounded, panel);
            }
        }
    }
}

/// The meaning of [`Kernels::round_to_halves`].
pub(crate) fn round(out: &mut [f32], x: &[f32]) {
    for (out, pair) in out.iter_mut().zip(x.chunks_exact(2)) {
        let [low, high] = [pair[0], pair[1]].map(|x| u32::from(nearest(x)));
        *out = f32::from_bits(high << 16 | low);
    }
}

/// The BF16 nearest to `x`, ties to even; NaN stays NaN.
fn nearest(x: f32) -> u16 {
    let bits = flush(x).to_bits();
    let half = match x.is_nan() {
        true => bits >> 16 | 0x40,
        false => (bits + 0x7fff + (bits >> 16 & 1)) >> 16,
    };
    half as u16
}

/// Zero of the same sign for a denormal number.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() {
        0.0_f32.copysign(x)
    } else {
        x
    }
}

/// The lower and the upper half of a cell.
fn halves(cell: f32) -> [f32; 2] {
    let bits = cell.to_bits();
    [bits << 16, bits & 0xffff_0000].map(|bits| flush(f32::from_bits(bits)))
}

/// The meaning of the micro-kernels.
pub(crate) fn product_strip(
    mut c: MatMut<'_>,
    accumulate: bool,
    a: Mat<'_>,
    b: &[f32],
    strip: usize,
) {
    for i in 0..c.rows() {
        let mut sums = [0.0; WIDE];
        for (&a, b) in a.row(i).iter().zip(b.chunks_exact(strip)) {
            let [a_low, a_high] = halves(a);
            for (sum, &b) in sums.iter_mut().zip(b) {
                let [b_low, b_high] = halves(b);
                *sum = flush(a_high.mul_add(b_high, *sum));
                *sum = flush(a_low.mul_add(b_low, *sum));
            }
        }
        let cols = c.cols();
        store_cols(c.row_mut(i), accumulate, &sums[..cols]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks;
    use crate::ops::linear as reference;
    use crate::tiled::linear::SCRATCH;
    use crate::vector::tests::{assert_close, random};

    /// Random bits are any number: denormal, infinite, or none.
    fn any(seed: u64, n: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f32::from_bits((state >> 16) as u32)
        };
        (0..n).map(|_| next()).collect()
    }

    fn same(got: &[f32], want: &[f32]) {
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let equal = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
            assert!(equal, "element {i}: {got} instead of {want}");
        }
    }

    fn tables() -> impl Iterator<Item = &'static Kernels> {
        Kernels::available().filter(|kernels| kernels.halves)
    }

    /// The same bits as the meaning, with tails in every direction, for ordinary numbers and for any.
    #[test]
    fn pairs_are_rounded_and_multiplied_as_the_meaning_says() {
        for kernels in tables() {
            for (m, k, n) in [
                (1, 1, 1),
                (6, 128, 64),
                (7, 129, 50),
                (13, 9, 64),
                (11, 50, 3),
            ] {
                let make = [any, |seed, n| random(seed, n)];
                for (make, seed) in make.into_iter().zip([3_u64, 5]) {
                    let strip = kernels.strip();
                    let (a, b) = (make(seed, m * 2 * k), make(seed + 1, 2 * k * strip));
                    let mut cells = [vec![0.0; m * k], vec![0.0; m * k]];
                    round(&mut cells[0], &a);
                    kernels.round_to_halves(&mut cells[1], &a);
                    for (want, got) in cells[0].iter().zip(&cells[1]) {
                        assert_eq!(got.to_bits(), want.to_bits());
                    }
                    let mut panel = vec![0.0; k * strip];
                    round(&mut panel, &b);
                    for accumulate in [false, true] {
                        let (mut want, mut got) = (vec![1.0; m * n], vec![1.0; m * n]);
                        let a = Mat::new(&cells[0], m, k);
                        product_strip(MatMut::new(&mut want, m, n), accumulate, a, &panel, strip);
                        let c = MatMut::new(&mut got, m, n);
                        kernels.product_strip_halves(c, accumulate, a, &panel);
                        same(&got, &want);
                    }
                }
            }
        }
    }

    /// Several blocks of tokens and pieces of depth, a bias, and outputs that are no whole strips.
    #[test]
    fn a_layer_in_halves_is_one_of_rounded_activations() {
        let mut scratch = vec![f32::NAN; SCRATCH];
        for (tokens, inputs, outputs) in [(9, 70, 33), (200, 1100, 128), (100, 512, 256)] {
            let ty = QuantType::BF16;
            let mut bytes = vec![0; 2 * outputs * inputs];
            blocks::encode(ty, &random(1, outputs * inputs), &mut bytes).expect("an encoder");
            let mut weights = vec![0.0; outputs * inputs];
            blocks::decode(ty, &bytes, &mut weights);
            let (x, bias) = (random(2, tokens * inputs), random(3, outputs));
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let x64: Vec<f64> = x
                .iter()
                .map(|&x| f64::from(f32::from_bits(u32::from(nearest(x)) << 16)))
                .collect();
            let mut want = vec![0.0; tokens * outputs];
            reference::forward(&mut want, &x64, &wide(&weights), &wide(&bias), inputs);
            let weight = Stored {
                quant_type: ty,
                bytes: &bytes,
                inputs,
            };
            for kernels in tables() {
                let mut y = vec![f32::NAN; tokens * outputs];
                let x = Mat::new(&x, tokens, inputs);
                let view = MatMut::new(&mut y, tokens, outputs);
                kernels.linear_halves(view, x, &weight, &bias, &mut scratch);
                assert_close(&y, &want, 2e-6);
            }
        }
    }
}
