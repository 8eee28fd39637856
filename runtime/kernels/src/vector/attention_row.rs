//! What attention does to one query's row of scores.

use super::LANES;
use super::elementary::exp_nonpositive;
use super::row::{BLOCK, add, max, total};

#[inline(always)]
pub(crate) fn exponentials(scores: &mut [f32]) -> (f32, f32) {
    exponentials_above(scores, f32::NEG_INFINITY)
}

#[inline(always)]
pub(crate) fn exponentials_above(scores: &mut [f32], before: f32) -> (f32, f32) {
    let max = max(scores).max(before);
    let exp = |score: &mut f32| {
        *score = exp_nonpositive(*score - max);
        *score
    };
    let mut lanes = [0.0; LANES];
    for block in scores.chunks_mut(BLOCK) {
        let mut sums = [0.0; LANES];
        let (whole, rest) = block.as_chunks_mut::<LANES>();
        for scores in whole {
            for (sum, score) in sums.iter_mut().zip(scores) {
                *sum += exp(score);
            }
        }
        if !rest.is_empty() {
            // What fills the last lanes up adds 0.
            let mut filled = [f32::NEG_INFINITY; LANES];
            filled[..rest.len()].copy_from_slice(rest);
            for (sum, score) in sums.iter_mut().zip(&mut filled) {
                *sum += exp(score);
            }
            rest.copy_from_slice(&filled[..rest.len()]);
        }
        add(&mut lanes, &sums);
    }
    (max, total(lanes))
}

#[inline(always)]
pub(crate) fn backward(scores: &mut [f32], dp: &mut [f32], lse: f32, delta: f32) {
    for (s, dp) in scores.iter_mut().zip(dp) {
        let p = exp_nonpositive(*s - lse);
        *s = p;
        *dp = p * (*dp - delta);
    }
}
