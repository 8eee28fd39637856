//! Training a vision-language model is PyTorch's and PEFT's: loss, gradients of the pairs and of
//! the projector, and ten updates of AdamW, on F32 weights and on blocks.

#[path = "../model/closeness.rs"]
mod closeness;
#[path = "../model/formula.rs"]
mod formula;
#[path = "../model/golden.rs"]
mod golden;

use std::sync::Arc;

use closeness::relative_error;
use formula::{IMAGES, formula_image};
use golden::{Golden, folder};
use graft::adapter::{Adapter, BaseIdentity, LoraPair};
use graft::memory::Arena;
use graft::model::llava::splice;
use graft::model::{Model, ModelOptions, Site, VisionWork};
use graft::tokenizer::{IGNORED, IMAGE};
use graft::train::{
    Example, FeatureCache, Features, Levers, Place, ProductKind, StepReport, TrainOptions, Trainer,
    Workload, plan,
};

const MODELS: [&str; 2] = ["text", "text_quantized"];
/// The models, and the one in blocks with products in words.
const WAYS: [(&str, ProductKind); 3] = [
    ("text", ProductKind::F32),
    ("text_quantized", ProductKind::F32),
    ("text_quantized", ProductKind::Words),
];
const RANK: usize = 4;

/// Ids, how many of the last ids are learned, and the images: as in `make.py`.
fn samples() -> [(Vec<i32>, usize, &'static [usize]); 5] {
    let between: Vec<i32> = (30..46).collect();
    let cut = [&[1, IMAGE], between.as_slice(), &[IMAGE, 50, 51, 52, 2]];
    [
        (vec![1, IMAGE, 5, 17, 33, 8, 60, 61, 2], 4, &[0]),
        (vec![1, 9, 12, 70, 71, 72, 73, 2], 3, &[]),
        (
            vec![1, 4, IMAGE, 6, IMAGE, 7, 80, 81, 82, 83, 2],
            5,
            &[1, 2],
        ),
        (cut.concat(), 15, &[3, 0]),
        (vec![1, IMAGE, 50, 51, 2], 2, &[2]),
    ]
}

fn options(kept_layers: usize) -> TrainOptions {
    TrainOptions {
        rank: RANK,
        alpha: 8.0,
        train_projector: true,
        steps: Some(10),
        batch: 2,
        grad_accum: 2,
        lr: 1e-2,
        projector_lr: 5e-3,
        warmup_ratio: 0.15,
        weight_decay: 0.05,
        clip: 1.0,
        max_len: 64,
        shuffle: false,
        levers: Levers {
            kept_layers: Some(kept_layers),
            ..Levers::default()
        },
        ..TrainOptions::default()
    }
}

fn open(name: &str, threads: usize) -> Arc<Model> {
    let options = ModelOptions {
        mmproj: Some(folder("llava").join("mmproj.gguf")),
        threads,
        ..ModelOptions::default()
    };
    Model::open(&folder("llava").join(format!("{name}.gguf")), &options).unwrap()
}

fn golden(name: &str) -> Golden {
    Golden::open(&folder("llava").join(format!("{name}.safetensors")))
}

/// The samples, their images having gone through the tower.
fn examples(model: &Model, options: &TrainOptions) -> Vec<Example> {
    let vision = model.vision().unwrap();
    let mut work = VisionWork::new(vision.tower(), &Arena::unlimited()).unwrap();
    let mut see = |size| {
        let image = formula_image(size);
        let pool = model.llama().pool();
        Features::new(pool.run(|| vision.features(&image, &mut work)))
    };
    let images = IMAGES.map(&mut see);
    let example = |(i, (ids, learned, shown)): (usize, (Vec<i32>, usize, &[usize]))| {
        let first = ids.len() - learned;
        let label = |(place, &id): (usize, &i32)| {
            let learned = place >= first && id != IMAGE;
            if learned { id } else { IGNORED }
        };
        let labels: Vec<i32> = ids.iter().enumerate().map(label).collect();
        let patches = vision.tower().shape().patches();
        Example {
            id: format!("sample {i}"),
            sequence: splice(&ids, &labels, patches, options.max_len),
            features: shown.iter().map(|&image| images[image].clone()).collect(),
        }
    };
    samples().into_iter().enumerate().map(example).collect()
}

fn trainer(name: &str, threads: usize, options: TrainOptions) -> Trainer {
    let (model, golden) = (open(name, threads), golden(name));
    let pairs = Site::of_layers(model.llama().shape().layers).map(|site| {
        let half = |half| {
            golden
                .get(&format!("initial.{site}.weight.lora_{half}"))
                .to_vec()
        };
        let scale = options.scale();
        (
            site,
            LoraPair::new(half('a'), half('b'), RANK, scale).unwrap(),
        )
    });
    let adapter = Adapter::new("golden", BaseIdentity::default(), 8.0, pairs).unwrap();
    let examples = examples(&model, &options);
    Trainer::new(model, options, examples, Some(adapter)).unwrap()
}

/// Holds arrays in the trainer's order against the golden ones.
fn compare(trainer: &Trainer, arrays: &[&[f32]], golden: &Golden, prefix: &str, within: f32) {
    assert_eq!(arrays.len(), 2 * 14 + 4, "every site and the projector");
    let mut worst = 0f32;
    for (name, array) in trainer.names().zip(arrays) {
        let error = relative_error(array, golden.get(&format!("{prefix}.{name}")));
        assert!(error < within, "{prefix} {name}: {error:e}");
        worst = worst.max(error);
    }
    println!("{prefix}: {worst:.1e}");
}

#[test]
fn loss_and_gradients_agree_with_pytorch() {
    for name in MODELS {
        let (mut trainer, golden) = (trainer(name, 2, options(2)), golden(name));
        compare(
            &trainer,
            &trainer.parameters().arrays(),
            &golden,
            "initial",
            1e-6,
        );
        let report = trainer.step().unwrap().unwrap();
        let loss = report.loss / f64::from(golden.get("loss")[0]) - 1.0;
        println!("{name}, loss: {loss:.1e}");
        assert!(loss.abs() < 1e-5, "{name}: {loss:e}");
        compare(
            &trainer,
            &trainer.gradients().arrays(),
            &golden,
            "gradient",
            2e-5,
        );
    }
}

/// In words of 14 bits, where the processor has them, gradients are off by less than is said.
#[test]
fn gradients_in_words_are_close_to_pytorch() {
    let (name, options) = ("text_quantized", options(2));
    let options = TrainOptions {
        products: ProductKind::Words,
        ..options
    };
    let (mut trainer, golden) = (trainer(name, 2, options), golden(name));
    let report = trainer.step().unwrap().unwrap();
    let loss = report.loss / f64::from(golden.get("loss")[0]) - 1.0;
    println!("{name}, loss: {loss:.1e}");
    assert!(loss.abs() < 1e-4, "{name}: {loss:e}");
    let gradients = trainer.gradients();
    compare(&trainer, &gradients.arrays(), &golden, "gradient", 5e-3);
}

#[test]
fn ten_updates_agree_with_pytorch() {
    for name in MODELS {
        let (mut trainer, golden) = (trainer(name, 2, options(2)), golden(name));
        let mut reports: Vec<StepReport> = vec![];
        while let Some(report) = trainer.step().unwrap() {
            reports.push(report);
        }
        assert_eq!(reports.len(), 10);
        let said = |what: &str, of: fn(&StepReport) -> f64| {
            for (report, &want) in reports.iter().zip(golden.get(what)) {
                let (got, step) = (of(report), report.step);
                let error = (got - f64::from(want)).abs() / f64::from(want).max(1e-9);
                assert!(
                    error < 1e-3,
                    "{name}, {what} of update {step}: {got} {want}"
                );
            }
        };
        said("loss", |r| r.loss);
        said("grad_norm", |r| r.grad_norm);
        said("lr", |r| r.lr);
        assert!(
            reports.iter().all(|r| r.grad_norm > 1.0),
            "all were clipped"
        );
        compare(
            &trainer,
            &trainer.parameters().arrays(),
            &golden,
            "final",
            2e-5,
        );
    }
}

#[test]
fn levers_and_threads_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let disk = [None, Some(Place::Disk)];
    for (name, products) in WAYS {
        let outcome = |threads, kept_layers, [weights, inputs, moments]: [Option<Place>; 3]| {
            let options = TrainOptions {
                levers: Levers {
                    kept_layers: Some(kept_layers),
                    weights,
                    inputs,
                    features: None,
                    gradients: None,
                    moments,
                    folder: Some(folder.path().to_owned()),
                },
                products,
                ..options(kept_layers)
            };
            let mut trainer = trainer(name, threads, options);
            let mut losses = vec![];
            while let Some(report) = trainer.step().unwrap() {
                losses.push((report.loss.to_bits(), report.grad_norm.to_bits()));
            }
            (losses, trainer.parameters().clone())
        };
        let want = outcome(1, 2, [None; 3]);
        for (threads, kept_layers) in [(1, 0), (2, 0), (2, 1), (2, 2)] {
            assert!(
                outcome(threads, kept_layers, [None; 3]) == want,
                "{name}, {threads} threads, {kept_layers} layers kept"
            );
        }
        for (weights, inputs, moments) in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)] {
            let places = [disk[weights], disk[inputs], disk[moments]];
            for kept_layers in [0, 2] {
                assert!(
                    outcome(2, kept_layers, places) == want,
                    "{name}, {kept_layers} layers kept, {places:?}"
                );
            }
        }
    }
}

#[test]
fn features_on_the_disk_are_those_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut in_memory = trainer("text", 2, options(2));
    let model = Arc::clone(in_memory.model());
    let cache = FeatureCache::open(folder.path(), model.vision().unwrap()).unwrap();
    let examples: Vec<Example> = in_memory.examples().to_vec();
    let on_disk = examples.into_iter().map(|mut example| {
        for features in &mut example.features {
            let image = features.digest();
            let kept = cache.keep(&image, features.get(&mut []).unwrap()).unwrap();
            assert!(kept.on_disk() && kept.digest() == features.digest());
            assert_eq!(cache.find(&image).unwrap().digest(), kept.digest());
            *features = kept;
        }
        example
    });
    let initial = in_memory.parameters().adapter.clone();
    let examples: Vec<Example> = on_disk.collect();
    let options = in_memory.options().clone();
    let mut from_disk = Trainer::new(model, options, examples.clone(), Some(initial)).unwrap();
    for _ in 0..3 {
        let [a, b] = [&mut in_memory, &mut from_disk].map(|t| t.step().unwrap().unwrap());
        assert_eq!(
            (a.loss, a.grad_norm, a.tokens),
            (b.loss, b.grad_norm, b.tokens)
        );
    }
    assert!(in_memory.parameters() == from_disk.parameters());

    // A damaged file is never learned from, and not taken for what it was by the next run.
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(cache.find(&examples[0].features[0].digest()).is_none());
    let error = from_disk.step().unwrap_err().to_string();
    assert!(error.contains(".features"), "{error}");
}

/// What is trained in memory is what is written: the mmproj file with the new projector computes
/// the rows that training saw.
#[test]
fn a_trained_projector_is_written_and_read_again() {
    let mut trainer = trainer("text", 2, options(2));
    while trainer.step().unwrap().is_some() {}
    let projector = trainer.parameters().projector.as_ref().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mmproj.gguf");
    let vision = trainer.model().vision().unwrap();
    vision.write_with_projector(&path, projector).unwrap();
    let options = ModelOptions {
        mmproj: Some(path),
        threads: 2,
        ..ModelOptions::default()
    };
    let text = golden::folder("llava").join("text.gguf");
    let reopened = Model::open(&text, &options).unwrap();
    let again = reopened.vision().unwrap();
    assert_eq!(again.projector().parameters(), *projector);
    assert_eq!(again.fingerprint(), vision.fingerprint(), "the tower stays");
    let image = formula_image(IMAGES[1]);
    let rows = |model: &Model| model.image_rows(&image).unwrap();
    let moved = relative_error(&rows(&reopened), &rows(trainer.model()));
    assert!(moved > 1e-2, "training moved the projector: {moved}");
}

/// Samples with two images, one and none, the projector learning with the pairs.
#[test]
fn a_pack_with_images_learns_what_its_samples_do() {
    for (name, products) in WAYS {
        let update = |packing, threads| {
            let options = TrainOptions {
                packing,
                products,
                batch: 5,
                grad_accum: 1,
                ..options(1)
            };
            let mut trainer = trainer(name, threads, options);
            let report = trainer.step().unwrap().unwrap();
            (report, trainer)
        };
        let (alone, samples) = update(false, 2);
        let (together, packs) = update(true, 2);
        assert!(packs.packs().len() < samples.packs().len());
        assert!(
            packs
                .packs()
                .iter()
                .any(|p| p.members().len() > 1 && p.image())
        );
        assert_eq!(alone.tokens, together.tokens);
        let loss = (alone.loss / together.loss - 1.0).abs();
        assert!(loss < 1e-6, "{name}: {loss:e}");
        let gradients = (packs.gradients().arrays(), samples.gradients().arrays());
        let mut worst = 0f32;
        for ((name, got), want) in packs.names().zip(gradients.0).zip(gradients.1) {
            let error = relative_error(got, want);
            assert!(error < 3e-6, "{name}: {error:e}");
            worst = worst.max(error);
        }
        println!("{name}: loss {loss:.1e}, gradients {worst:.1e}");
        let (again, other) = update(true, 1);
        assert_eq!(again.loss.to_bits(), together.loss.to_bits());
        assert!(other.gradients().arrays() == packs.gradients().arrays());
    }
}

/// Pairs begin with B = 0: until the first update the projector learns as if there were none.
#[test]
fn a_projector_alone_learns_what_it_learns_beside_new_pairs() {
    for name in MODELS {
        let begin = |targets: &str, packing| {
            let options = TrainOptions {
                targets: targets.into(),
                packing,
                ..options(1)
            };
            let model = open(name, 2);
            let mut examples = examples(&model, &options);
            // A sample without an image teaches the projector nothing, and a run of it alone leaves it out.
            examples.retain(|e| !e.features.is_empty());
            Trainer::new(model, options, examples, None).unwrap()
        };
        for packing in [false, true] {
            let mut both = begin("all-linear", packing);
            let mut alone = begin("none", packing);
            assert!(alone.parameters().adapter.is_empty());
            assert_eq!(alone.names().count(), 4);
            let reports = [&mut both, &mut alone].map(|t| t.step().unwrap().unwrap());
            assert_eq!(reports[0].loss.to_bits(), reports[1].loss.to_bits());
            let projector = |t: &Trainer| t.gradients().projector.clone();
            assert!(projector(&both) == projector(&alone), "{name}");
            let size = |t: &Trainer| {
                let arrays = &t.gradients().projector.as_ref().unwrap().arrays;
                arrays.iter().flatten().fold(0f32, |m, v| m.max(v.abs()))
            };
            assert!(size(&alone) > 0.0);
        }
    }
}

#[test]
fn a_projector_alone_goes_on_from_a_checkpoint_and_leaves_no_adapter() {
    let options = TrainOptions {
        targets: "none".into(),
        ..options(1)
    };
    let begin = || {
        let model = open("text", 2);
        let examples = examples(&model, &options);
        Trainer::new(model, options.clone(), examples, None).unwrap()
    };
    let mut whole = begin();
    assert_eq!(whole.examples().len(), 4, "those with images");
    let mut losses = vec![];
    while let Some(report) = whole.step().unwrap() {
        losses.push(report.loss);
    }
    assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
    let folder = tempfile::tempdir().unwrap();
    let mut stopped = begin();
    for _ in 0..4 {
        stopped.step().unwrap();
    }
    let saved = stopped.save(folder.path()).unwrap();
    assert!(saved.join("mmproj.gguf").exists() && !saved.join("adapter.gguf").exists());
    let mut resumed = begin();
    resumed.resume(&saved).unwrap();
    while resumed.step().unwrap().is_some() {}
    assert!(resumed.parameters() == whole.parameters());
}

#[test]
fn a_projector_alone_needs_images_and_no_adapter_to_go_on_from() {
    let options = TrainOptions {
        targets: "none".into(),
        ..options(1)
    };
    let model = open("text", 2);
    let mut unseen = examples(&model, &options);
    unseen.retain(|e| e.features.is_empty());
    let work = Workload::of(&unseen);
    let planned = plan(&model, &options, &work, None, None).unwrap_err();
    let begun = Trainer::new(Arc::clone(&model), options.clone(), unseen, None).unwrap_err();
    for error in [planned, begun] {
        assert!(
            error.to_string().contains("no sample shows an image"),
            "{error}"
        );
    }
    let pairs = trainer("text", 2, self::options(1))
        .parameters()
        .adapter
        .clone();
    let seen = examples(&model, &options);
    let work = Workload::of(&seen);
    let planned = plan(&model, &options, &work, None, None).unwrap();
    let error = Trainer::new(
        Arc::clone(&model),
        options.clone(),
        seen.clone(),
        Some(pairs),
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("--targets is none"), "{error}");
    let trainer = Trainer::new(model, options, seen, None).unwrap();
    assert_eq!(planned.parameters, trainer.parameters().len());
    assert_eq!((planned.packs, planned.steps), (4, 10));
    let blind = golden::folder("llava").join("text.gguf");
    let blind = Model::open(&blind, &ModelOptions::default()).unwrap();
    let error = plan(&blind, trainer.options(), &work, None, None).unwrap_err();
    assert!(error.to_string().contains("give --mmproj"), "{error}");
}
