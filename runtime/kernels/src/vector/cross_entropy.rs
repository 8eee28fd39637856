//! Softmax and cross-entropy of rows of logits, loss and gradient in one visit.

use super::attention_row::exponentials;
use super::row::multiply;
use crate::ops::softmax_cross_entropy::IGNORED;

#[inline(always)]
pub(crate) fn forward_backward(
    logits: &mut [f32],
    labels: &[i32],
    vocabulary: usize,
    scale: f32,
) -> f64 {
    let mut loss = 0.0;
    for (row, &label) in logits.chunks_exact_mut(vocabulary).zip(labels) {
        if label == IGNORED {
            row.fill(0.0);
            continue;
        }
        let class = usize::try_from(label).expect("a label is a token id or IGNORED");
        let logit = row[class];
        let (max, sum) = exponentials(row);
        loss += (sum as f64).ln() + (max as f64 - logit as f64);
        multiply(row, scale / sum);
        row[class] -= scale;
    }
    loss
}
