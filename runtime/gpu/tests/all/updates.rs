//! From gradients to new parameters.

use graft_gpu::{AdamWStep, DeviceOptions, Recorder};

use crate::arrays::{Bench, Random};
use crate::machine;

/// Three updates by `torch.optim.AdamW(lr=0.1, weight_decay=0.5)` of `p = [1, -2]` with gradients `[1, 0.5]`,
/// `[-3, 0]`, `[0.1, 2]`; PyTorch 2.15, float32. Gradients are given doubled, and halved by the update.
#[test]
fn three_updates_match_pytorch() {
    let Some(device) = machine::device() else {
        return;
    };
    let bench = Bench::new(&device);
    let repeated = |pair: [f32; 2]| bench.tensor(&pair.repeat(150), 2);
    let parameters = repeated([1.0, -2.0]);
    let moments = [(); 2].map(|()| repeated([0.0; 2]));
    for (t, g) in [[2.0, 1.0], [-6.0, 0.0], [0.2, 4.0]]
        .into_iter()
        .enumerate()
    {
        let step = AdamWStep {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.5,
            learning_rate: 0.1,
            gradient_scale: 0.5,
            step: t as u64 + 1,
        };
        let gradients = repeated(g);
        let [mean, square] = &moments;
        bench.record(|r| r.adamw(&parameters, [mean, square], &gradients, &step));
    }
    for pair in bench.read(&parameters).chunks(2) {
        for (p, want) in pair.iter().zip([0.8502347_f32, -1.9431837_f32]) {
            assert!((p - want).abs() < 1e-6, "{p} {want}");
        }
    }
}

#[test]
fn sums_of_squares_are_right_repeatable_and_show_what_is_not_finite() {
    let options = DeviceOptions {
        binding_bytes: Some(64 << 10),
        ..machine::options()
    };
    let (Some(whole), Some(small)) = (machine::device(), machine::open(&options)) else {
        return;
    };
    let mut random = Random::new(60);
    let mut bits = vec![];
    for device in [&whole, &small] {
        let bench = Bench::new(device);
        for len in [1, 4096, 100_001] {
            let mut x = random.floats(len);
            let scratch = bench.tensor(&vec![0.0; Recorder::sum_squares_scratch(len)], 1);
            let (x_t, sum) = (bench.tensor(&x, len), bench.tensor(&[7.0; 2], 1));
            let last = sum.slice(1..2).unwrap();
            bench.record(|r| r.sum_squares(&last, &x_t, &scratch));
            let got = bench.read(&sum);
            let want: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
            assert_eq!(got[0], 7.0);
            assert!(
                (f64::from(got[1]) / want - 1.0).abs() < 1e-6,
                "{len}: {got:?} {want}"
            );
            bench.record(|r| r.sum_squares(&last, &x_t, &scratch));
            assert_eq!(bench.read(&sum), got);
            bits.push(got[1]);
            for bad in [f32::NAN, f32::INFINITY, 1e30] {
                x[len / 2] = bad;
                bench.record(|r| {
                    r.write(&x_t, &x)?;
                    r.sum_squares(&last, &x_t, &scratch)
                });
                assert!(!bench.read(&last)[0].is_finite(), "{bad}");
            }
        }
        random = Random::new(60);
    }
    // However much of an array a kernel sees at once, the order is the same.
    assert_eq!(bits[..3], bits[3..]);
}
