//! Activations as 16-bit fixed-point numbers, for products with one token.
//!
//! Making a float of each level takes several instructions for every eight of them; 16-bit integers
//! are multiplied and added 32 at a time. Each 32 activations share a unit, so one is off by at most a
//! part in 65,534 of the largest of its group, and a product by no more than a part in 65,534 of the
//! sum of the weights times those. (8 bits, as ggml has them here, are 256 times coarser.) Minimums
//! are multiplied with the sums of the rounded activations, so that they cancel as they should.

use core::arch::x86_64::*;

use super::registers::{load, load_halves, store_halves, sum};

/// Activations that share a unit.
pub(super) const GROUP: usize = 32;

/// Up to `GROUPS` groups of activations.
pub(super) struct FixedPoint<const GROUPS: usize> {
    /// Of each group the even ones, then the odd ones: as [`dot`] takes bytes apart.
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
    #[target_feature(enable = "avx2,fma")]
    pub fn new(x: &[f32], sub: usize) -> Self {
        let mut fixed = Self {
            integers: [[[0; 16]; 2]; GROUPS],
            units: [0.0; GROUPS],
            sums: [[0.0; 2]; GROUPS],
            groups: x.len() / GROUP,
            poison: 0.0,
        };
        let mut poison = _mm256_setzero_ps();
        let sums = fixed.sums.as_flattened_mut();
        let outs = fixed.integers.iter_mut().zip(&mut fixed.units);
        for (g, (group, (out, unit))) in x.as_chunks::<GROUP>().0.iter().zip(outs).enumerate() {
            let floats = group.as_chunks::<8>().0;
            let mut most = _mm256_setzero_ps();
            for eight in floats {
                let eight = load(eight);
                most = _mm256_max_ps(most, _mm256_andnot_ps(_mm256_set1_ps(-0.0), eight));
                poison = _mm256_fmadd_ps(eight, _mm256_setzero_ps(), poison);
            }
            let most = largest(most);
            // Below this a unit would be no normal number; such activations count as zero.
            let inverse = if most > 1e-30 { 32767.0 / most } else { 0.0 };
            *unit = if most > 1e-30 { most / 32767.0 } else { 0.0 };
            let mut rounded = [_mm256_setzero_si256(); 4];
            for (rounded, eight) in rounded.iter_mut().zip(floats) {
                let scaled = _mm256_mul_ps(load(eight), _mm256_set1_ps(inverse));
                *rounded = _mm256_cvtps_epi32(scaled);
            }
            let [a, b, c, d] = rounded;
            store_halves(&mut out[0], every_other::<0b10_00_10_00>(a, b, c, d));
            store_halves(&mut out[1], every_other::<0b11_01_11_01>(a, b, c, d));
            let (low, high) = (_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
            if sub == 16 {
                sums[2 * g] = *unit * sum(_mm256_cvtepi32_ps(low));
                sums[2 * g + 1] = *unit * sum(_mm256_cvtepi32_ps(high));
            } else if sub == 32 {
                sums[g] = *unit * sum(_mm256_cvtepi32_ps(_mm256_add_epi32(low, high)));
            }
        }
        fixed.poison = sum(poison);
        fixed
    }
}

/// The largest of eight floats.
#[inline]
#[target_feature(enable = "avx2")]
fn largest(v: __m256) -> f32 {
    let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)))
}

/// Every other one of 32 integers, in order: those that `PICK` takes of four and four.
#[inline]
#[target_feature(enable = "avx2")]
fn every_other<const PICK: i32>(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    let pick = |a: __m256i, b: __m256i| {
        let both = _mm256_shuffle_ps::<PICK>(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
        // a0 a2 b0 b2 | a4 a6 b4 b6 becomes a0 a2 a4 a6 | b0 b2 b4 b6.
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(both))
    };
    let packed = _mm256_packs_epi32(pick(a, b), pick(c, d));
    _mm256_permute4x64_epi64::<0b11_01_10_00>(packed)
}

/// The sum of the products of 32 signed bytes with a group, in eight parts: the first four belong to
/// the first 16 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dot(bytes: __m256i, integers: &[[i16; 16]; 2]) -> __m256 {
    let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
    let odd = _mm256_srai_epi16::<8>(bytes);
    _mm256_cvtepi32_ps(_mm256_add_epi32(
        _mm256_madd_epi16(even, load_halves(&integers[0])),
        _mm256_madd_epi16(odd, load_halves(&integers[1])),
    ))
}
