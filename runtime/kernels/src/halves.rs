//! Products of BF16 matrices with activations split in two BF16 numbers, for short prompts on processors that
//! multiply pairs of such numbers.
//!
//! `y = x W^T + bias`: a cell of 32 bits holds two neighbours of a row, the first in the lower half. Weights are
//! cells as the file stores them, so a panel of `[inputs / 2, outputs]` cells is packed like one of floats, and each
//! step of a micro-kernel does for two depths what it does for one there. An activation is the nearest BF16, ties to
//! even, and the nearest to what that leaves, 2^-17 of it at most away together: the panel is multiplied with both. Many
//! tokens take as long as with floats so; of few, most of the time goes into the panel, which is half as large.
//!
//! What a cell adds to a sum: first the product of the upper halves, then that of the lower ones, each rounded
//! once. Denormal numbers count as 0, in what is read and in what is written, and an activation beyond the largest BF16 makes its
//! sums infinite or NaN. This is what `vdpbf16ps` does; the
//! functions here say the same without it.

use crate::panel::{Before, WIDE, store_cols};
use crate::product::{Mat, MatMut};
use crate::tiled::linear::Stored;
use crate::{Kernels, QuantType};

/// Tokens whose activations lie beside a panel, and the cells of each.
const TOKENS: usize = Kernels::HALVES_TOKENS;
const DEPTH: usize = 256;

impl Kernels {
    /// The most tokens for which [`Kernels::linear_halves`] is faster than [`Kernels::linear_forward`], as
    /// `bench-kernels halves` measures it.
    pub const HALVES_TOKENS: usize = 32;

    /// Whether this table multiplies matrices of this type, with rows of `inputs` elements, in halves.
    pub fn multiplies_halves(&self, ty: QuantType, inputs: usize) -> bool {
        self.halves && ty == QuantType::BF16 && inputs.is_multiple_of(2)
    }

    /// As [`Kernels::linear_forward`], with each element of `x` as two of BF16.
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
        let (near, scratch) = scratch.split_at_mut(TOKENS * DEPTH);
        let (rest, scratch) = scratch.split_at_mut(TOKENS * DEPTH);
        for from in (0..cells.inputs).step_by(DEPTH) {
            let depth = DEPTH.min(cells.inputs - from);
            let panel = self.forward_panel(scratch, &cells, (outputs, from..from + depth));
            for token in (0..x.rows()).step_by(TOKENS) {
                let tokens = TOKENS.min(x.rows() - token);
                let (near, rest) = (&mut near[..tokens * depth], &mut rest[..tokens * depth]);
                let rows = near
                    .chunks_exact_mut(depth)
                    .zip(rest.chunks_exact_mut(depth));
                for (i, (near, rest)) in rows.enumerate() {
                    let row = &x.row(token + i)[2 * from..][..2 * depth];
                    self.split_in_halves(near, rest, row);
                }
                let [near, rest] = [&*near, &*rest].map(|cells| Mat::new(cells, tokens, depth));
                let mut y = y.row_range(token, tokens);
                self.product_halves(y.reborrow(), Before::first(from, bias), near, panel);
                self.product_halves(y, Before::Result, rest, panel);
            }
        }
    }
}

/// The meaning of [`Kernels::split_in_halves`].
pub(crate) fn split(out: &mut [f32], rest: &mut [f32], x: &[f32]) {
    for ((out, rest), pair) in out.iter_mut().zip(rest).zip(x.chunks_exact(2)) {
        let near = [nearest(pair[0]), nearest(pair[1])];
        *out = cell(near);
        *rest = cell([0, 1].map(|i| nearest(pair[i] - widened(near[i]))));
    }
}

fn cell([low, high]: [u16; 2]) -> f32 {
    f32::from_bits(u32::from(high) << 16 | u32::from(low))
}

fn widened(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
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
    fn pairs_are_split_and_multiplied_as_the_meaning_says() {
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
                    let [mut near, mut rest, mut got_near, mut got_rest] =
                        std::array::from_fn(|_| vec![0.0; m * k]);
                    split(&mut near, &mut rest, &a);
                    kernels.split_in_halves(&mut got_near, &mut got_rest, &a);
                    let pairs = near.iter().zip(&got_near).chain(rest.iter().zip(&got_rest));
                    for (want, got) in pairs {
                        let [want, got] = [halves(*want), halves(*got)];
                        same(&got, &want);
                    }
                    let mut panel = vec![0.0; k * strip];
                    split(&mut panel, &mut vec![0.0; k * strip], &b);
                    for accumulate in [false, true] {
                        let (mut want, mut got) = (vec![1.0; m * n], vec![1.0; m * n]);
                        let a = Mat::new(&near, m, k);
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
    fn a_layer_in_halves_is_nearly_one_of_floats() {
        let mut scratch = vec![f32::NAN; SCRATCH];
        for (tokens, inputs, outputs) in [(9, 70, 33), (200, 1100, 128), (100, 512, 256)] {
            let ty = QuantType::BF16;
            let mut bytes = vec![0; 2 * outputs * inputs];
            blocks::encode(ty, &random(1, outputs * inputs), &mut bytes).expect("an encoder");
            let mut weights = vec![0.0; outputs * inputs];
            blocks::decode(ty, &bytes, &mut weights);
            let (x, bias) = (random(2, tokens * inputs), random(3, outputs));
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let mut want = vec![0.0; tokens * outputs];
            reference::forward(&mut want, &wide(&x), &wide(&weights), &wide(&bias), inputs);
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
                assert_close(&y, &want, 1e-5);
            }
        }
    }
}
