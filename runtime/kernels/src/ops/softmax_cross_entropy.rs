//! Softmax and cross-entropy: `loss = -sum over labelled rows of ln softmax(logits)[label]`.
//!
//! Shapes: `logits` is `[rows, V]`; `labels` is `[rows]`, [`IGNORED`] where the row carries no
//! loss. The sum is not divided by anything: the mean over a micro-batch is the caller's `scale`,
//! `1 / labelled rows`, so rows may be processed a chunk at a time.

use super::real::Real;

/// The label of a row without loss, as in PyTorch and LLaVA.
pub const IGNORED: i32 = -100;

/// The summed loss of the labelled rows.
///
/// # Panics
/// If a label is neither [`IGNORED`] nor below `V`.
pub fn forward<R: Real>(logits: &[R], labels: &[i32], vocabulary: usize) -> R {
    let rows = logits.chunks_exact(vocabulary).zip(labels);
    rows.filter(|&(_, &label)| label != IGNORED)
        .map(|(row, &label)| log_sum_exp(row) - row[class(label)])
        .sum()
}

/// Replaces `logits` by `d loss / d logits * scale`: `(softmax - one_hot(label)) * scale`, and
/// zero in ignored rows.
///
/// # Panics
/// If a label is neither [`IGNORED`] nor below `V`.
pub fn backward<R: Real>(logits: &mut [R], labels: &[i32], vocabulary: usize, scale: f64) {
    for (row, &label) in logits.chunks_exact_mut(vocabulary).zip(labels) {
        if label == IGNORED {
            row.fill(R::of(0.0));
            continue;
        }
        let shift = log_sum_exp(row);
        for v in &mut *row {
            *v = (*v - shift).exp() * R::of(scale);
        }
        row[class(label)] += R::of(-scale);
    }
}

fn class(label: i32) -> usize {
    usize::try_from(label).expect("a label is a token id or IGNORED")
}

fn log_sum_exp<R: Real>(row: &[R]) -> R {
    let max = row.iter().fold(row[0], |m, &v| if v > m { v } else { m });
    max + row.iter().map(|&v| (v - max).exp()).sum::<R>().ln()
}

#[cfg(test)]
mod tests {
    use super::super::real::{central_difference, relative_error, values};
    use super::*;

    #[test]
    fn backward_is_the_derivative_of_forward() {
        let (logits, labels, scale) = (values(1, 4 * 6), [3, IGNORED, 0, 5], 1.0 / 3.0);
        let mut dlogits = logits.clone();
        backward(&mut dlogits, &labels, 6, scale);
        let want = central_difference(&logits, |l| scale * forward(l, &labels, 6));
        let error = relative_error(&dlogits, &want);
        assert!(error < 1e-8, "{error:e}");
    }
}
