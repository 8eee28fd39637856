//! Activations as 16-bit fixed-point numbers, for products with one token.
//!
//! Making a float of each level takes several instructions for every four of them; 16-bit integers
//! take one to be widened and are multiplied and added in the same. Each 32 activations share a unit, so
//! one is off by at most a part in 65,534 of the largest of its group, and a product by no more than a
//! part in 65,534 of the sum of the weights times those. Minimums are multiplied with the sums of the
//! rounded activations, so that they cancel as they should.

use core::arch::aarch64::*;

use super::registers::{load, load_halves, store_halves};

/// Activations that share a unit.
pub(super) const GROUP: usize = 32;

/// Up to `GROUPS` groups of activations.
pub(super) struct FixedPoint<const GROUPS: usize> {
    /// Of each group the first and the last 16.
    pub integers: [[[i16; 16]; 2]; GROUPS],
    /// What an integer of each group is worth.
    pub units: [f32; GROUPS],
    /// The sums of each group, or of its halves, one after the other.
    pub sums: [[f32; 2]; GROUPS],
    /// How many groups there are.
    pub groups: usize,
    /// Zero, or NaN if an activation is not finite, which integers cannot show.
    pub poison: f32,
}

impl<const GROUPS: usize> FixedPoint<GROUPS> {
    /// Rounds `x`, whole groups, at most `GROUPS` of them, and sums each `sub` activations: 16, 32 or,
    /// if there is no need of sums, 0.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn new(x: &[f32], sub: usize) -> Self {
        let mut fixed = Self {
            integers: [[[0; 16]; 2]; GROUPS],
            units: [0.0; GROUPS],
            sums: [[0.0; 2]; GROUPS],
            groups: x.len() / GROUP,
            poison: 0.0,
        };
        let mut poison = vdupq_n_f32(0.0);
        let sums = fixed.sums.as_flattened_mut();
        let outs = fixed.integers.iter_mut().zip(&mut fixed.units);
        for (g, (group, (out, unit))) in x.as_chunks::<GROUP>().0.iter().zip(outs).enumerate() {
            let mut most = vdupq_n_f32(0.0);
            for four in group.as_chunks::<4>().0 {
                let four = load(four);
                most = vmaxq_f32(most, vabsq_f32(four));
                poison = vfmaq_n_f32(poison, four, 0.0);
            }
            let most = vmaxvq_f32(most);
            // Below this a unit would be no normal number; such activations count as zero.
            let inverse = if most > 1e-30 { 32767.0 / most } else { 0.0 };
            *unit = if most > 1e-30 { most / 32767.0 } else { 0.0 };
            let halves = group.as_chunks::<16>().0.iter().zip(out);
            for (half, (floats, out)) in halves.enumerate() {
                let mut total = vdupq_n_s32(0);
                let eights = floats.as_chunks::<8>().0.iter();
                for (eight, out) in eights.zip(out.as_chunks_mut().0) {
                    let [a, b] = rounded(eight, inverse);
                    total = vaddq_s32(total, vaddq_s32(a, b));
                    store_halves(out, vqmovn_high_s32(vqmovn_s32(a), b));
                }
                let total = *unit * vaddvq_s32(total) as f32;
                if sub == 16 {
                    sums[2 * g + half] = total;
                } else if sub == 32 {
                    sums[g] += total;
                }
            }
        }
        fixed.poison = vaddvq_f32(poison);
        fixed
    }
}

/// The integers nearest to eight floats times `factor`.
#[inline]
#[target_feature(enable = "neon")]
fn rounded(floats: &[f32; 8], factor: f32) -> [int32x4_t; 2] {
    let [a, b] = floats.as_chunks().0 else {
        unreachable!("twice 4 floats")
    };
    [
        vcvtnq_s32_f32(vmulq_n_f32(load(a), factor)),
        vcvtnq_s32_f32(vmulq_n_f32(load(b), factor)),
    ]
}

/// The sum of the products of `16 * N` signed bytes, at most 32, with as many activations, in four
/// parts.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn dot<const N: usize>(
    bytes: &[int8x16_t; N],
    integers: &[[i16; 16]; N],
) -> float32x4_t {
    // A lane adds at most eight products of 7 and 15 bits.
    let mut sums = [vdupq_n_s32(0); 2];
    for (&bytes, integers) in bytes.iter().zip(integers) {
        let [a, b] = integers.as_chunks().0 else {
            unreachable!("twice 8 activations")
        };
        let (a, b) = (load_halves(a), load_halves(b));
        let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
        sums[0] = vmlal_s16(sums[0], vget_low_s16(low), vget_low_s16(a));
        sums[1] = vmlal_high_s16(sums[1], low, a);
        sums[0] = vmlal_s16(sums[0], vget_low_s16(high), vget_low_s16(b));
        sums[1] = vmlal_high_s16(sums[1], high, b);
    }
    vcvtq_f32_s32(vaddq_s32(sums[0], sums[1]))
}
