//! Training with layers on a graphics device gives the losses and gradients of the processor: whole or split,
//! with weights that stay or are streamed, with layers kept or computed again, in packs, with dropout.

#[path = "../../../tests/model/closeness.rs"]
mod closeness;
#[path = "../../../tests/training/lora.rs"]
mod lora;
mod machine;
#[path = "../../../tests/model/random.rs"]
mod random;

use closeness::relative_error;
use graft::device::DeviceOptions;
use graft::model::Model;
use graft_kernels::QuantType;
use lora::{Lora, Outcome, differentiate_packed};
use machine::{Models, SIZES, device, training};
use random::uniform;

const TOKENS: usize = 13;

fn outcome(model: &Model, ends: &[usize], dropout: f32, kept: usize) -> Outcome {
    let mut seed = 5;
    let mut values = |n: usize| (0..n).map(|_| uniform(&mut seed)).collect::<Vec<_>>();
    let (rows, dlogits) = (
        values(TOKENS * SIZES.width),
        values(TOKENS * SIZES.vocabulary),
    );
    let lora = Lora::random(model, dropout);
    differentiate_packed(model, (&rows, ends), &dlogits, &lora, kept)
}

fn compare(got: &Outcome, want: &Outcome, what: &str) {
    let mut worst = relative_error(&got.logits, &want.logits);
    worst = worst.max(relative_error(&got.drows, &want.drows));
    for ((da, db), (want_da, want_db)) in got.gradients.0.iter().zip(&want.gradients.0) {
        worst = worst.max(relative_error(da, want_da));
        worst = worst.max(relative_error(db, want_db));
    }
    println!("{what}: {worst:.1e}");
    assert!(worst < 1e-4, "{what}: {worst:e}");
}

#[test]
fn gradients_are_those_of_the_processor_in_every_block_type() {
    let Some(device) = device() else { return };
    for ty in machine::types() {
        let models = Models::write(&|_| ty);
        let model = models.open("stored", &training(&device));
        let got = outcome(&model, &[], 0.0, usize::MAX);
        let cpu = models.open("stored", &DeviceOptions::CPU);
        compare(&got, &outcome(&cpu, &[], 0.0, usize::MAX), &ty.to_string());
    }
}

#[test]
fn splits_streams_packs_dropout_and_recomputation_change_no_gradient() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q4K);
    let cpu = models.open("stored", &DeviceOptions::CPU);
    let want = |ends: &[usize], dropout| outcome(&cpu, ends, dropout, usize::MAX);
    let (plain, packed) = (want(&[], 0.0), want(&[5, TOKENS], 0.3));
    // Two layers are on the device, or all of which some or none stay there.
    for (layers, memory, streams) in [
        (Some(2), 64 << 20, false),
        (None, 64 << 20, false),
        (None, 2250 << 10, true),
    ] {
        let options = training(&DeviceOptions {
            layers,
            memory: Some(memory),
            ..device.clone()
        });
        let model = models.open("stored", &options);
        let report = model.llama().device().unwrap().report();
        let of = |name: &str| report.parts.iter().any(|(part, _)| part.contains(name));
        assert_eq!(of("streamed"), streams, "{report:?}");
        for kept in [1, usize::MAX] {
            let what = format!("{layers:?} layers, {memory} bytes, {kept} kept");
            compare(&outcome(&model, &[], 0.0, kept), &plain, &what);
            compare(&outcome(&model, &[5, TOKENS], 0.3, kept), &packed, &what);
        }
        let report = model.llama().device().unwrap().report();
        let held: u64 = report.parts.iter().map(|(_, bytes)| bytes).sum();
        assert!(held <= report.budget, "{report:?}");
    }
}

#[test]
fn a_pass_twice_gives_the_same_bits() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q6K);
    let model = models.open("stored", &training(&device));
    assert!(outcome(&model, &[], 0.3, 1) == outcome(&model, &[], 0.3, 1));
}
