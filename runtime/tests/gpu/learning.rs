//! Training with layers on a graphics device gives the losses and gradients of the processor: whole or split,
//! with weights that stay or are streamed, with layers kept or computed again, in packs, with dropout; and so does
//! the loss, with an output matrix that stays or comes in parts.

#[path = "../../../tests/model/closeness.rs"]
mod closeness;
mod lessons;
#[path = "../../../tests/training/lora.rs"]
mod lora;
mod machine;
#[path = "../../../tests/model/random.rs"]
mod random;

use std::sync::Arc;

use closeness::relative_error;
use graft::device::DeviceOptions;
use graft::memory::Part;
use graft::model::Model;
use graft::train::{GradientPlace, Levers, TrainOptions, Trainer};
use graft_kernels::QuantType;
use lessons::{LONGEST, examples, trainer};
use lora::{Lora, Outcome, differentiate_packed};
use machine::{Models, SIZES, device, training};
use random::{Sizes, uniform};

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

/// A run of one update that keeps as many layers as said.
fn lesson(model: &Arc<Model>, packing: bool, kept_layers: Option<usize>) -> Trainer {
    let options = TrainOptions {
        rank: 4,
        dropout: 0.2,
        steps: Some(1),
        max_len: 2 * LONGEST,
        packing,
        levers: Levers {
            kept_layers,
            ..Levers::default()
        },
        ..TrainOptions::default()
    };
    let examples = examples(2, model.llama().shape().vocabulary);
    trainer(model, options, examples)
}

/// The loss of one update, and its gradients, one behind the other.
fn update(trainer: &mut Trainer) -> (f64, Vec<f32>) {
    let loss = trainer.step().unwrap().unwrap().loss;
    (loss, trainer.gradients().arrays().concat())
}

fn compare_updates(got: &Arc<Model>, want: &Arc<Model>, what: &str) {
    assert!(got.llama().loss_on_device(), "{what}");
    for packing in [false, true] {
        let [got, want] = [got, want].map(|model| update(&mut lesson(model, packing, None)));
        let loss = (got.0 - want.0).abs() / want.0;
        let gradients = relative_error(&got.1, &want.1);
        println!("{what}, packing {packing}: {loss:.1e} {gradients:.1e}");
        assert!(
            loss < 1e-5 && gradients < 1e-4,
            "{what}: {loss:e} {gradients:e}"
        );
    }
}

#[test]
fn a_loss_on_the_device_is_that_of_the_processor_in_every_block_type() {
    let Some(device) = device() else { return };
    for ty in machine::types() {
        let models = Models::write(&|_| ty);
        let got = models.open("stored", &training(&device));
        let want = models.open("stored", &DeviceOptions::CPU);
        compare_updates(&got, &want, &ty.to_string());
    }
}

#[test]
fn the_output_matrix_may_stay_or_come_in_parts_and_the_layers_be_split() {
    let Some(device) = device() else { return };
    let sizes = Sizes {
        vocabulary: 1200,
        ..SIZES
    };
    let models = Models::of(&sizes, &|_| QuantType::F32);
    let want = models.open("stored", &DeviceOptions::CPU);
    for (layers, kib, stays) in [
        (Some(2), 64 << 10, true),
        (None, 64 << 10, true),
        // For eight rows at a time; for parts of 512 tokens.
        (None, 7740, true),
        (None, 7500, false),
    ] {
        let options = training(&DeviceOptions {
            layers,
            memory: Some(kib << 10),
            ..device.clone()
        });
        let got = models.open("stored", &options);
        let report = got.llama().device().unwrap().report();
        println!("{report:?}");
        assert_eq!((report.loss, report.output), (true, stays), "{report:?}");
        compare_updates(&got, &want, &format!("{layers:?} layers, {kib} KiB"));
        let held = report.parts.iter().map(|(_, bytes)| bytes).sum::<u64>();
        assert!(held <= report.budget, "{report:?}");
    }
}

#[test]
fn what_leaves_the_device_between_forward_and_backward_comes_back_as_the_same_bits() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q4K);
    let options = training(&DeviceOptions {
        memory: Some(2250 << 10),
        ..device
    });
    let model = models.open("stored", &options);
    let outcome = |kept| {
        let mut trainer = lesson(&model, true, kept);
        let planned = trainer.plan().memory.bytes(Part::SavedActivations);
        assert_eq!(
            trainer.arena().held().bytes(Part::SavedActivations),
            planned
        );
        (update(&mut trainer), planned)
    };
    let (again, away) = (outcome(Some(1)), outcome(None));
    println!("{} and {} bytes beside the device", again.1, away.1);
    // A layer that has no slot of its own leaves what it has.
    assert!(again.1 == 0 && away.1 > 0);
    assert!(again.0 == away.0);
}

#[test]
fn gradients_that_are_used_layer_by_layer_are_those_of_the_whole() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q4K);
    for layers in [Some(2), None] {
        let options = training(&DeviceOptions {
            layers,
            ..device.clone()
        });
        let model = models.open("stored", &options);
        let learned = |gradients| {
            let options = TrainOptions {
                rank: 4,
                steps: Some(3),
                clip: 0.0,
                max_len: LONGEST,
                levers: Levers {
                    gradients: Some(gradients),
                    ..Levers::default()
                },
                ..TrainOptions::default()
            };
            let mut trainer = trainer(&model, options, examples(3, SIZES.vocabulary));
            let begin = trainer.parameters().arrays().concat();
            while trainer.step().unwrap().is_some() {}
            let end = trainer.parameters().arrays().concat();
            assert!(begin.iter().zip(&end).all(|(begin, end)| begin != end));
            end
        };
        let [whole, by_layer] = [GradientPlace::Whole, GradientPlace::Layer].map(learned);
        assert!(whole == by_layer, "{layers:?} layers");
    }
}
