//! Rotary position embedding of whole rows.

use crate::ops::rope::{RopeLayout, RopeTable};

#[inline(always)]
pub(crate) fn rope_forward(
    x: &mut [f32],
    heads: usize,
    head_width: usize,
    start: usize,
    table: &RopeTable,
) {
    rotate(x, heads, head_width, start, table, 1.0);
}

#[inline(always)]
pub(crate) fn rope_backward(
    dx: &mut [f32],
    heads: usize,
    head_width: usize,
    start: usize,
    table: &RopeTable,
) {
    rotate(dx, heads, head_width, start, table, -1.0);
}

#[inline(always)]
fn rotate(
    x: &mut [f32],
    heads: usize,
    head_width: usize,
    start: usize,
    table: &RopeTable,
    direction: f32,
) {
    let half = table.dims() / 2;
    for (row, position) in x.chunks_exact_mut(heads * head_width).zip(start..) {
        let turns = table.at(position);
        for head in row.chunks_exact_mut(head_width) {
            match table.layout() {
                RopeLayout::Interleaved => {
                    let (pairs, _) = head[..2 * half].as_chunks_mut::<2>();
                    for (pair, &[cos, sin]) in pairs.iter_mut().zip(turns) {
                        let [a, b] = *pair;
                        let sin = sin * direction;
                        *pair = [a * cos - b * sin, a * sin + b * cos];
                    }
                }
                RopeLayout::HalfSplit => {
                    let (first, second) = head[..2 * half].split_at_mut(half);
                    for ((a, b), &[cos, sin]) in first.iter_mut().zip(second).zip(turns) {
                        let sin = sin * direction;
                        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                    }
                }
            }
        }
    }
}
