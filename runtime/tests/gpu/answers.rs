//! Sessions whose layers a graphics device runs answer as those of the processor, in every block type, whole or
//! split, with adapters, in batches and after a fork; what does not fit is refused.

#[path = "../../../tests/model/closeness.rs"]
mod closeness;
mod machine;
#[path = "../../../tests/model/random.rs"]
mod random;

use std::sync::Arc;

use closeness::relative_error;
use graft::adapter::{Adapter, Attached, BaseIdentity, LoraPair};
use graft::device::{DeviceChoice, DeviceOptions};
use graft::model::{Model, ModelOptions, Site};
use graft::session::{Batch, BatchOptions, Session, SessionOptions};
use graft_kernels::QuantType;
use machine::{Models, SIZES, again, device, kernels};
use random::uniform;

const PROMPT: [u32; 9] = [1, 5, 7, 33, 2, 90, 41, 8, 17];

fn session(model: &Arc<Model>) -> Session {
    Session::new(Arc::clone(model), &SessionOptions::with_context(32)).unwrap()
}

/// Logits after the prompt, and after each of two more tokens.
fn answers(session: &mut Session) -> Vec<f32> {
    let mut all = Vec::new();
    for tokens in [&PROMPT[..], &[3], &[77]] {
        session.feed(tokens).unwrap();
        all.extend_from_slice(session.logits().unwrap());
    }
    all
}

/// Random pairs of this rank at every site of the layers, and at the output.
fn adapter(model: &Model, seed: u64, rank: usize) -> Arc<Adapter> {
    let mut seed = seed;
    let sites = Site::of_layers(SIZES.layers).chain([Site::Output]);
    let pairs = sites.map(|site| {
        let (outputs, inputs) = model.sizes(site).unwrap();
        let mut values = |n: usize| {
            (0..n)
                .map(|_| 0.1 * uniform(&mut seed))
                .collect::<Vec<f32>>()
        };
        let (a, b) = (values(rank * inputs), values(outputs * rank));
        (site, LoraPair::new(a, b, rank, 1.5).unwrap())
    });
    let pairs: Vec<_> = pairs.collect();
    Arc::new(Adapter::new("random", BaseIdentity::default(), 1.0, pairs).unwrap())
}

#[test]
fn every_block_type_gives_the_logits_of_its_decoded_weights() {
    let Some(device) = device() else { return };
    for ty in machine::types() {
        let models = Models::write(&|_| ty);
        let on_device = models.open("stored", &device);
        let report = on_device.llama().device().unwrap().report();
        assert_eq!((report.layers, report.output), (SIZES.layers, true));
        let got = answers(&mut session(&on_device));
        // With inputs rounded as the processor rounds them, its own answers are what they should be. A last bit
        // before rounding is a whole step after it.
        let (reference, bound) = match kernels().as_str() {
            "dot4" => ("stored", 2e-2),
            "half" => ("decoded", 1e-3),
            _ => ("decoded", 1e-4),
        };
        let want = answers(&mut session(&models.open(reference, &DeviceOptions::CPU)));
        let error = relative_error(&got, &want);
        println!("{ty}: {error:.1e}");
        assert!(error < bound, "{ty}: {error:e}");
    }
}

#[test]
fn other_kernels_give_them_to_their_rounding() {
    if device().is_some() {
        for kernels in ["half", "dot4"] {
            again(
                "every_block_type_gives_the_logits_of_its_decoded_weights",
                kernels,
            );
        }
    }
}

#[test]
fn a_model_may_be_split_and_adapters_and_batches_and_forks_work_as_on_the_processor() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::F32);
    let cpu = models.open("stored", &DeviceOptions::CPU);
    let (one, two) = (adapter(&cpu, 3, 4), adapter(&cpu, 9, 2));
    let set = |entries: &[(&Arc<Adapter>, f32)]| {
        Attached::new(entries.iter().map(|&(a, s)| (Arc::clone(a), s)))
    };
    let sets = [
        set(&[]),
        set(&[(&one, 1.0)]),
        set(&[(&one, 0.5), (&two, -1.0)]),
    ];
    for layers in [Some(1), Some(2), None] {
        let options = DeviceOptions {
            layers,
            ..device.clone()
        };
        let on_device = models.open("stored", &options);
        let held = on_device.llama().device().unwrap().report().layers;
        assert_eq!(held, layers.unwrap_or(SIZES.layers));
        let close = |got: &[f32], want: &[f32], what: &str| {
            let error = relative_error(got, want);
            assert!(error < 1e-4, "{layers:?} {what}: {error:e}");
        };
        // One session under one set after the other.
        let mut live = session(&on_device);
        live.feed(&PROMPT).unwrap();
        for set in &sets {
            live.set_adapters(set.clone()).unwrap();
            let mut alone = session(&cpu);
            alone.set_adapters(set.clone()).unwrap();
            alone.feed(&PROMPT).unwrap();
            close(live.logits().unwrap(), alone.logits().unwrap(), "switched");
        }
        // A fork goes on by itself.
        let mut fork = live.fork(&SessionOptions::with_context(20)).unwrap();
        fork.feed(&[4, 4]).unwrap();
        live.feed(&[6]).unwrap();
        for (session, more) in [(&mut fork, &[4, 4][..]), (&mut live, &[6])] {
            let mut alone = self::session(&cpu);
            alone.set_adapters(sets[2].clone()).unwrap();
            alone.feed(&PROMPT).unwrap();
            alone.feed(more).unwrap();
            close(session.logits().unwrap(), alone.logits().unwrap(), "forked");
        }
        // Different sets in one batch.
        let mut sessions = sets.clone().map(|set| {
            let mut session = self::session(&on_device);
            session.set_adapters(set).unwrap();
            session
        });
        let options = BatchOptions {
            sessions: 3,
            context_length: 32,
            chunk: 0,
        };
        let mut batch = Batch::new(Arc::clone(&on_device), &options).unwrap();
        let mut lanes: Vec<_> = sessions.iter_mut().collect();
        batch
            .feed(&mut lanes, &[&PROMPT, &PROMPT[..3], &[9]])
            .unwrap();
        let logits = batch.logits(&mut lanes).unwrap();
        let tokens = [&PROMPT[..], &PROMPT[..3], &[9]];
        for ((got, set), tokens) in logits.chunks(SIZES.vocabulary).zip(&sets).zip(tokens) {
            let mut alone = self::session(&cpu);
            alone.set_adapters(set.clone()).unwrap();
            alone.feed(tokens).unwrap();
            close(got, alone.logits().unwrap(), "batch");
        }
    }
}

#[test]
fn the_same_device_gives_the_same_bits_and_memory_comes_back() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q4K);
    let model = models.open("stored", &device);
    let held = || {
        let report = model.llama().device().unwrap().report();
        report.parts.iter().map(|(_, bytes)| bytes).sum::<u64>()
    };
    let before = held();
    let first = answers(&mut session(&model));
    assert_eq!(held(), before, "a session's memory is given back");
    assert_eq!(answers(&mut session(&model)), first);
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q8_0);
    let refused = |device: DeviceOptions| {
        let options = ModelOptions {
            device,
            ..ModelOptions::default()
        };
        let error = Model::open(&models.path("stored"), &options).unwrap_err();
        error.to_string()
    };
    let text = refused(DeviceOptions {
        device: DeviceChoice::Gpu(Some("no such card".into())),
        ..device.clone()
    });
    assert!(
        text.contains("no such card") && text.contains("there are"),
        "{text}"
    );
    let text = refused(DeviceOptions {
        memory: Some(2 << 20),
        layers: Some(3),
        ..device.clone()
    });
    assert!(
        text.contains("3 layers need") && text.contains("larger budget"),
        "{text}"
    );
    // A sequence that has no room is refused, and the model stays usable.
    let model = models.open("stored", &device);
    let long = SessionOptions::with_context(1 << 16);
    let text = Session::new(Arc::clone(&model), &long)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("keys and values") && text.contains("budget"),
        "{text}"
    );
    answers(&mut session(&model));
    assert!("gpu:".parse::<DeviceChoice>().is_err());
    assert_eq!(
        "gpu:3".parse::<DeviceChoice>().unwrap().to_string(),
        "gpu:3"
    );
}
