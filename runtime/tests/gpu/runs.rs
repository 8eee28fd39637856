//! A run of training with a model on a graphics device takes the course of the same run on the processor.

mod lessons;
mod machine;
#[path = "../../../tests/model/random.rs"]
mod random;

use graft::device::{DeviceOptions, TrainingRoom};
use graft::train::TrainOptions;
use graft_kernels::QuantType;
use lessons::{LONGEST, examples, trainer};
use machine::{Models, SIZES, again, device, kernels};

/// The loss of every update, and those of other examples at the end.
fn course(models: &Models, device: &DeviceOptions, updates: usize) -> Vec<f64> {
    let model = models.open("stored", device);
    assert_eq!(model.llama().loss_on_device(), device.training.is_some());
    let options = TrainOptions {
        rank: 4,
        dropout: 0.1,
        steps: Some(updates as u64),
        batch: 2,
        lr: 2e-3,
        max_len: 2 * LONGEST,
        packing: true,
        ..TrainOptions::default()
    };
    let vocabulary = SIZES.vocabulary;
    let mut trainer = trainer(&model, options, examples(6, vocabulary));
    let mut losses = Vec::new();
    while let Some(report) = trainer.step().unwrap() {
        losses.push(report.loss);
    }
    losses.push(trainer.evaluate(&examples(9, vocabulary)).unwrap());
    losses
}

#[test]
fn a_run_has_the_losses_of_the_processor() {
    let Some(device) = device() else { return };
    // Forced kernels round at every update, so fewer show it.
    let (updates, learned) = if kernels() == "f32" {
        (50, 0.5)
    } else {
        (15, 0.8)
    };
    let models = Models::write(&|_| QuantType::Q4K);
    let want = course(&models, &DeviceOptions::CPU, updates);
    assert_eq!(want.len(), updates + 1);
    assert!(want[updates - 1] < learned * want[0], "it learns: {want:?}");
    let training = Some(TrainingRoom {
        tokens: 2 * LONGEST,
        rank: 4,
    });
    let got = course(&models, &DeviceOptions { training, ..device }, updates);
    let apart = |(got, want): (&f64, &f64)| (got - want).abs() / want;
    let worst = got.iter().zip(&want).map(apart).fold(0.0, f64::max);
    println!("{} to {}: {worst:.1e}", want[0], want[updates]);
    assert!(worst < 1e-3, "{worst:e}: {got:?} {want:?}");
}

/// Training may round terms of products to f16; a kernel that rounds further is not taken.
#[test]
fn a_run_has_them_with_rounded_terms_too() {
    if device().is_some() {
        for kernels in ["half", "dot4"] {
            again("a_run_has_the_losses_of_the_processor", kernels);
        }
    }
}
