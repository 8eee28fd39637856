//! What a device has no room for: values in the system's memory are planned and bounded, and a model that was placed for
//! sessions trains on the same device with what is left there.

#[path = "../../../tests/model/closeness.rs"]
mod closeness;
mod lessons;
mod machine;
#[path = "../../../tests/model/random.rs"]
mod random;

use std::sync::Arc;

use closeness::relative_error;
use graft::Error;
use graft::device::{DeviceOptions, TrainingRoom};
use graft::memory::Part;
use graft::model::{DeviceReport, Model};
use graft::session::{Session, SessionOptions};
use graft::train::{Levers, Limit, TrainError, TrainOptions, Trainer, Workload, plan_within};
use graft_kernels::QuantType;
use lessons::{LONGEST, examples, trainer};
use machine::{Models, SIZES, device, training};
use random::Sizes;

fn options(kept_layers: Option<usize>) -> TrainOptions {
    TrainOptions {
        rank: 4,
        dropout: 0.2,
        steps: Some(2),
        max_len: 2 * LONGEST,
        packing: true,
        levers: Levers {
            kept_layers,
            ..Levers::default()
        },
        ..TrainOptions::default()
    }
}

fn lesson(model: &Arc<Model>, kept_layers: Option<usize>) -> Trainer {
    trainer(model, options(kept_layers), examples(4, SIZES.vocabulary))
}

/// The losses of two updates, and the gradients of the second.
fn updates(trainer: &mut Trainer) -> (Vec<f64>, Vec<f32>) {
    let losses = (0..2).map(|_| trainer.step().unwrap().unwrap().loss);
    (losses.collect(), trainer.gradients().arrays().concat())
}

fn compare(got: &(Vec<f64>, Vec<f32>), want: &(Vec<f64>, Vec<f32>), what: &str) {
    let apart = got
        .0
        .iter()
        .zip(&want.0)
        .map(|(got, want)| (got - want).abs() / want);
    let (loss, gradients) = (apart.fold(0.0, f64::max), relative_error(&got.1, &want.1));
    println!("{what}: {loss:.1e} {gradients:.1e}");
    assert!(
        loss < 1e-5 && gradients < 1e-3,
        "{what}: {loss:e} {gradients:e}"
    );
}

/// What the lessons need of a device.
const ROOM: TrainingRoom = TrainingRoom {
    tokens: 2 * LONGEST,
    rank: 4,
};

/// The model with the smallest budget that can train it, in steps of 8 KiB.
fn tight(models: &Models, device: &DeviceOptions) -> Arc<Model> {
    let cpu = models.open("stored", &DeviceOptions::CPU);
    let budgets = (1960..4000).step_by(8);
    let mut opened = budgets.filter_map(|kib| {
        let options = DeviceOptions {
            memory: Some(kib << 10),
            training: Some(ROOM),
            ..device.clone()
        };
        cpu.on_device(&options).ok()
    });
    opened.next().expect("a budget")
}

#[test]
fn inputs_of_layers_that_have_no_room_on_the_device_are_planned_in_the_systems_memory() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q4K);
    let bytes = |model: &Arc<Model>| {
        let examples = examples(4, SIZES.vocabulary);
        let work = Workload::of(&examples);
        let plan = plan_within(model, &options(Some(1)), &work, None, Limit::None);
        plan.unwrap().beside_device_bytes
    };
    let tight = tight(&models, &device);
    // Where only the top layer keeps what lies inside it, nothing but inputs leaves the device.
    let inputs = SIZES.layers * 2 * LONGEST * SIZES.width * size_of::<f32>();
    assert_eq!(bytes(&tight), inputs as u64);
    let mut beside = lesson(&tight, Some(1));
    let planned = beside.plan().memory.bytes(Part::SavedActivations);
    let held = beside.arena().held().bytes(Part::SavedActivations);
    assert_eq!((planned, held), (inputs as u64, inputs as u64));
    let got = updates(&mut beside);
    drop(beside);
    let mut all = lesson(&tight, None);
    assert_eq!(
        all.arena().held().bytes(Part::SavedActivations),
        all.plan().beside_device_bytes
    );
    assert!(all.plan().beside_device_bytes > inputs as u64);
    assert!(
        got == updates(&mut all),
        "the same bits, kept or computed again"
    );
    let roomy = models.open("stored", &training(&device));
    assert_eq!(bytes(&roomy), 0);
    compare(
        &got,
        &updates(&mut lesson(&roomy, None)),
        "with room for all",
    );
}

#[test]
fn a_run_leaves_no_more_in_the_systems_memory_than_there_is() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q4K);
    let model = tight(&models, &device);
    let examples = examples(4, SIZES.vocabulary);
    let work = Workload::of(&examples);
    let planned = |limit| plan_within(&model, &options(None), &work, None, limit);
    let free = planned(Limit::None).unwrap();
    let (all, own) = (free.memory.peak(), free.memory.anonymous_peak());
    assert_eq!(free.kept_layers, SIZES.layers);
    for (limit, peak) in [
        (Limit::System(own), own),
        (Limit::System(own - 1), own - 1),
        (
            Limit::System(own - free.beside_device_bytes / 2),
            own - free.beside_device_bytes / 2,
        ),
    ] {
        let plan = planned(limit).unwrap();
        assert!(plan.memory.anonymous_peak() <= peak, "{limit:?}");
        assert_eq!(plan.kept_layers == SIZES.layers, peak == own, "{limit:?}");
    }
    // They count against what the user allows.
    let less = planned(Limit::Budget(all - 1)).unwrap();
    assert!(less.memory.peak() < all);
    let refused = planned(Limit::System(1 << 20)).unwrap_err();
    let Error::Train(TrainError::SystemMemory { needed, available }) = refused else {
        panic!("{refused}");
    };
    assert!(available == 1 << 20 && needed > available && needed < own);
    assert!(
        refused.to_string().contains("give the device more memory"),
        "{refused}"
    );
    assert!(planned(Limit::Budget(1 << 20)).is_err());
    // A trainer that is told nothing stays within what the machine has.
    let Limit::System(has) = Limit::of(None, &model, None) else {
        return;
    };
    assert!(lesson(&model, None).plan().memory.anonymous_peak() <= has);
    assert_eq!(Limit::of(None, &model, Some(77)), Limit::System(77));
    let cpu = models.open("stored", &DeviceOptions::CPU);
    assert_eq!(Limit::of(None, &cpu, Some(77)), Limit::None);
}

#[test]
fn a_model_that_was_placed_for_sessions_trains_on_what_is_left_of_its_device() {
    let Some(device) = device() else { return };
    let sizes = Sizes { layers: 6, ..SIZES };
    let models = Models::of(&sizes, &|_| QuantType::Q4K);
    let cpu = models.open("stored", &DeviceOptions::CPU);
    let want = updates(&mut lesson(&cpu, None));
    let report = |model: &Model| model.llama().device().unwrap().report();
    let part = |report: &DeviceReport, part: &str| {
        let of = report.parts.iter().filter(|(name, _)| name.contains(part));
        of.map(|(_, bytes)| bytes).sum::<u64>()
    };
    let (mut whole, mut streamed) = (false, false);
    for kib in [64 << 10, 3000, 3400, 3800] {
        let options = DeviceOptions {
            memory: Some(kib << 10),
            context_length: 1024,
            ..device.clone()
        };
        let model = cpu.on_device(&options).unwrap();
        let before = report(&model);
        let Ok(trains) = model.for_training(ROOM) else {
            println!("{kib} KiB: no room");
            continue;
        };
        let after = report(&trains);
        println!("{kib} KiB: {before:?}\n{after:?}");
        assert!(after.loss && after.layers == sizes.layers, "{after:?}");
        if before.layers == sizes.layers {
            let weights = [&before, &after].map(|report| part(report, "weights, resident"));
            assert!(
                weights[0] > 0 && weights[0] == weights[1],
                "they are there once"
            );
            whole = true;
        }
        streamed |= part(&after, "streamed") > 0;
        compare(
            &updates(&mut lesson(&trains, None)),
            &want,
            &format!("{kib} KiB"),
        );
        let held: u64 = report(&trains).parts.iter().map(|(_, bytes)| bytes).sum();
        assert!(held <= after.budget, "{after:?}");
        // Sessions of both go on.
        let answer = |model: &Arc<Model>| {
            let options = SessionOptions::with_context(16);
            let mut session = Session::new(Arc::clone(model), &options).unwrap();
            session.feed(&[1, 5, 9]).unwrap();
            session.logits().unwrap().to_vec()
        };
        let error = relative_error(&answer(&trains), &answer(&model));
        // The processor's layers round their inputs.
        assert!(error < 3e-2, "{error:e}");
    }
    assert!(whole && streamed);
}
