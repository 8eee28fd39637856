//! Cross-entropy over a vocabulary in chunks.

use graft_gpu::{IGNORED, LossRows};
use graft_kernels::ops::softmax_cross_entropy;

use crate::arrays::{Bench, Random, near};
use crate::machine;

#[test]
fn a_loss_over_chunks_of_the_vocabulary_is_that_over_all_of_it() {
    let Some(device) = machine::device() else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(30));
    let (rows, vocabulary, scale) = (5, 1000, 0.25);
    let labels = [999, IGNORED, 0, 300, 299];
    // Large enough that exponentials overflow unless the greatest is subtracted.
    let mut logits = random.floats(rows * vocabulary);
    logits.iter_mut().for_each(|v| *v *= 200.0);
    logits[2 * vocabulary + 500] = 1000.0;
    let losses: Vec<f32> = labels
        .iter()
        .zip(logits.chunks(vocabulary))
        .map(|(&label, row)| softmax_cross_entropy::forward(row, &[label], vocabulary))
        .collect();
    let mut want = logits.clone();
    softmax_cross_entropy::backward(&mut want, &labels, vocabulary, scale);
    for chunk in [1000, 300] {
        let loss_rows = LossRows {
            labels: bench.ids(&labels, vocabulary),
            state: bench.tensor(&vec![f32::NAN; 3 * rows], 3),
        };
        let loss = bench.tensor(&vec![0.0; rows], 1);
        let chunks: Vec<_> = (0..vocabulary)
            .step_by(chunk)
            .map(|first| {
                let end = vocabulary.min(first + chunk);
                let columns = logits.chunks(vocabulary).flat_map(|row| &row[first..end]);
                let columns: Vec<f32> = columns.copied().collect();
                (first, end, bench.tensor(&columns, end - first))
            })
            .collect();
        bench.record(|r| {
            for (first, _, logits) in &chunks {
                r.softmax_observe(logits, &loss_rows, *first)?;
            }
            r.softmax_cross_entropy(&loss, &loss_rows)?;
            for (first, _, logits) in &chunks {
                r.softmax_cross_entropy_backward(logits, &loss_rows, *first, scale)?;
            }
            Ok(())
        });
        near("loss", &bench.read(&loss), &losses, 1e-6);
        for (first, end, dlogits) in chunks {
            let want = want.chunks(vocabulary).flat_map(|row| &row[first..end]);
            let want: Vec<f32> = want.copied().collect();
            let got = bench.read(&dlogits);
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                assert!((got - want).abs() < 1e-5, "{first} + {i}: {got} {want}");
            }
        }
    }
}

#[test]
fn a_logit_that_is_not_finite_is_seen_in_the_loss() {
    let Some(device) = machine::device() else {
        return;
    };
    let bench = Bench::new(&device);
    let loss_rows = LossRows {
        labels: bench.ids(&[1, 1], 3),
        state: bench.tensor(&[0.0; 6], 3),
    };
    let logits = bench.tensor(&[0.0, 1.0, f32::NAN, 0.0, f32::INFINITY, 0.0], 3);
    let loss = bench.tensor(&[0.0; 2], 1);
    bench.record(|r| {
        r.softmax_observe(&logits, &loss_rows, 0)?;
        r.softmax_cross_entropy(&loss, &loss_rows)
    });
    assert!(bench.read(&loss).iter().all(|loss| !loss.is_finite()));
}
