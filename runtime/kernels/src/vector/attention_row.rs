//! What attention does to one query's row of scores.

use super::LANES;
use super::elementary::{exp, max, total};

#[inline(always)]
pub(crate) fn exponentials(scores: &mut [f32]) -> (f32, f32) {
    let max = max(scores);
    let mut lanes = [0.0; LANES];
    let (whole, rest) = scores.as_chunks_mut::<LANES>();
    for scores in whole {
        for (sum, s) in lanes.iter_mut().zip(scores) {
            *s = exp(*s - max);
            *sum += *s;
        }
    }
    for (sum, s) in lanes.iter_mut().zip(rest) {
        *s = exp(*s - max);
        *sum += *s;
    }
    (max, total(lanes))
}

#[inline(always)]
pub(crate) fn backward(scores: &mut [f32], dp: &mut [f32], lse: f32, delta: f32) {
    for (s, dp) in scores.iter_mut().zip(dp) {
        let p = exp(*s - lse);
        *s = p;
        *dp = p * (*dp - delta);
    }
}
