//! What is done to whole rows: sums, the largest element, additions.

use super::LANES;

/// Elements after which the partial sums of the lanes are added to others and begin anew.
pub(crate) const BLOCK: usize = 32 * LANES;

/// The sum of `term` over the elements at the same places of rows of one length.
///
/// Each lane adds 32 terms, then these sums are added up, so that a sum of `n` terms takes at most
/// `37 + n / 1024` roundings: its error is at most that many times 2^-24 of the sum of the terms'
/// magnitudes, 4e-6 for 32,000 terms.
#[inline(always)]
pub(crate) fn sum<const ROWS: usize>(
    rows: [&[f32]; ROWS],
    term: impl Fn([f32; ROWS]) -> f32,
) -> f32 {
    let n = rows[0].len();
    let rows = rows.map(|row| &row[..n]);
    let mut lanes = [0.0; LANES];
    for start in (0..n).step_by(BLOCK) {
        let block = rows.map(|row| &row[start..n.min(start + BLOCK)]);
        let sums = block_sums(block, &term);
        for (lane, sum) in lanes.iter_mut().zip(sums) {
            *lane += sum;
        }
    }
    total(lanes)
}

#[inline(always)]
fn block_sums<const ROWS: usize>(
    rows: [&[f32]; ROWS],
    term: impl Fn([f32; ROWS]) -> f32,
) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    let split = rows.map(|row| row.as_chunks::<LANES>());
    for i in 0..split[0].0.len() {
        let at = split.map(|(whole, _)| &whole[i]);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(at.map(|at| at[lane]));
        }
    }
    for (i, sum) in lanes.iter_mut().enumerate().take(split[0].1.len()) {
        *sum += term(split.map(|(_, rest)| rest[i]));
    }
    lanes
}

/// The sum of the lanes, pairwise.
#[inline(always)]
pub(crate) fn total(lanes: [f32; LANES]) -> f32 {
    pairwise(lanes, |a, b| a + b)
}

/// All lanes joined, pairwise.
#[inline(always)]
fn pairwise(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest element that is a number; negative infinity if there is none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for (max, &x) in lanes.iter_mut().zip(x) {
            *max = larger(x, *max);
        }
    }
    for (max, &x) in lanes.iter_mut().zip(rest) {
        *max = larger(x, *max);
    }
    pairwise(lanes, larger)
}

/// The larger one; `max` if `x` is NaN.
#[inline(always)]
fn larger(x: f32, max: f32) -> f32 {
    if x > max { x } else { max }
}

/// `sum of a * b`, as [`sum`].
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum([a, b], |[a, b]| a * b)
}

/// `y += x`.
#[inline(always)]
pub(crate) fn add(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// `y *= factor`.
#[inline(always)]
pub(crate) fn multiply(y: &mut [f32], factor: f32) {
    for y in y {
        *y *= factor;
    }
}
