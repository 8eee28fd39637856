//! Whole training runs take PyTorch's course: the loss of every update is that of PyTorch,
//! transformers and PEFT, on floats and on the blocks of the same values; and a base in 4 bits
//! ends where its floats end. `tests/golden/curves/make.py` says what PyTorch did.

#[path = "../model/edited.rs"]
mod edited;
#[path = "../model/seeded.rs"]
mod seeded;
mod turned;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use graft::adapter::{Adapter, BaseIdentity, LoraPair};
use graft::cancel::Cancel;
use graft::dataset::{ImageFolder, llava_json};
use graft::memory::Arena;
use graft::model::{Model, ModelOptions, Site};
use graft::quantize::{Mix, QuantizeOptions, Report, quantize};
use graft::train::{Preparation, ProductKind, StepReport, TrainOptions, Trainer, prepare};
use graft_kernels::QuantType;
use serde_json::Value;

/// Most that the loss of an update may differ from PyTorch's. Rounding alone makes 3e-6 of difference,
/// between PyTorch's f32 and f64 as well; a weight decay of 0.01 that is forgotten makes over 1e-3.
const LOSS: f64 = 1e-4;
/// The same where frozen layers are multiplied in words of 14 bits.
const WORDS: f64 = 1e-3;
/// Most that a base in 4 bits may end from its floats, relative to where these end.
const END: f64 = 0.02;
/// Updates at the end whose mean loss is the end of a run.
const LAST: usize = 10;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn golden(file: &str) -> PathBuf {
    repository().join("tests/golden/curves").join(file)
}

/// A run that PyTorch made.
struct Course {
    name: &'static str,
    options: TrainOptions,
    record: Value,
}

impl Course {
    fn read(name: &'static str) -> Self {
        let text = std::fs::read_to_string(golden("losses.json")).unwrap();
        let mut all: Value = serde_json::from_str(&text).unwrap();
        let record = all[name].take();
        let mut options = serde_json::to_value(TrainOptions::default()).unwrap();
        for (key, value) in record["options"].as_object().unwrap() {
            *options.get_mut(key).unwrap() = value.clone();
        }
        Self {
            name,
            options: serde_json::from_value(options).unwrap(),
            record,
        }
    }

    fn numbers(&self, what: &str) -> impl Iterator<Item = f64> {
        let numbers = self.record[what].as_array().unwrap();
        numbers.iter().map(|n| n.as_f64().unwrap())
    }

    /// Trains on `model` what PyTorch trained.
    fn train(&self, model: &Arc<Model>) -> Vec<StepReport> {
        let samples = llava_json::read(&golden(&format!("{}.json", self.name))).unwrap();
        let preparation = Preparation {
            model,
            template: &model.chat_template(None).unwrap(),
            images: &ImageFolder::new(repository().join("runtime/cli/demo/digits/train/images")),
            cache: None,
            max_len: self.options.max_len,
            arena: &Arena::unlimited(),
        };
        let prepared = prepare(&preparation, &samples, &Cancel::new(), |_| {}).unwrap();
        assert!(prepared.warnings.is_empty(), "{:?}", prepared.warnings);
        let initial = self.initial(model);
        let options = self.options.clone();
        let mut trainer =
            Trainer::new(Arc::clone(model), options, prepared.examples, Some(initial)).unwrap();
        std::iter::from_fn(|| trainer.step().unwrap()).collect()
    }

    /// A as in `make.py`, B zero.
    fn initial(&self, model: &Model) -> Adapter {
        let shape = model.llama().shape();
        let (rank, scale) = (self.options.rank, self.options.scale());
        let pairs = Site::of_layers(shape.layers).map(|site| {
            let (outputs, inputs) = shape.sizes(site).unwrap();
            let spread = (inputs as f64).powf(-0.5) as f32;
            let a = seeded::values(&format!("{site}.lora_a"), rank * inputs, spread, 0.0);
            let b = vec![0.0; outputs * rank];
            (site, LoraPair::new(a, b, rank, scale).unwrap())
        });
        let base = BaseIdentity::default();
        Adapter::new("initial", base, self.options.alpha, pairs).unwrap()
    }

    /// Holds every update of a run against PyTorch's, whose loss may differ by so much.
    fn compare(&self, base: &str, reports: &[StepReport], most: f64) {
        assert_eq!(reports.len(), self.numbers("loss").count());
        let wanted = self.numbers("loss").zip(self.numbers("grad_norm"));
        let mut worst = [0f64; 2];
        for ((report, learned), (loss, norm)) in reports
            .iter()
            .zip(self.numbers("learned_tokens"))
            .zip(wanted)
        {
            let step = report.step;
            assert_eq!(report.learned_tokens as f64, learned, "update {step}");
            let loss_error = (report.loss - loss).abs();
            let norm_error = (report.grad_norm / norm - 1.0).abs();
            assert!(
                loss_error <= most,
                "{} on {base}, update {step}: loss {} is not {loss}",
                self.name,
                report.loss
            );
            worst = [worst[0].max(loss_error), worst[1].max(norm_error)];
        }
        let (name, [loss, norm]) = (self.name, worst);
        let (updates, end) = (reports.len(), end(reports));
        println!(
            "{name} on {base}: {updates} updates, loss {:.4} to {end:.4}; from PyTorch at most \
             {loss:.1e} in the loss, {norm:.1e} of the gradient's norm",
            reports[0].loss
        );
        assert!(norm < 1e-2, "{name} on {base}: {norm}");
    }
}

/// The mean loss of the last updates.
fn end(reports: &[StepReport]) -> f64 {
    let last = &reports[reports.len() - LAST..];
    last.iter().map(|r| r.loss).sum::<f64>() / LAST as f64
}

/// Holds the end of a run on blocks against that of the run on floats.
fn compare_ends(name: &str, floats: &[StepReport], blocks: &[StepReport]) {
    let (want, got) = (end(floats), end(blocks));
    let difference = got / want - 1.0;
    println!(
        "{name}: first {:.4} and {:.4}, end {want:.4} and {got:.4}, {:+.2} %",
        floats[0].loss,
        blocks[0].loss,
        100.0 * difference
    );
    assert!(difference.abs() <= END, "{name}: {want} and {got}");
}

fn open(text: &Path, mmproj: Option<&Path>) -> Arc<Model> {
    let options = ModelOptions {
        mmproj: mmproj.map(Path::to_owned),
        threads: 2,
        ..ModelOptions::default()
    };
    Model::open(text, &options).unwrap()
}

fn stored(input: &Path, output: &Path, mix: Mix) -> Report {
    let options = QuantizeOptions {
        threads: 2,
        allow_requantize: true,
        ..QuantizeOptions::default()
    };
    quantize(input, output, mix, &options).unwrap()
}

fn count(report: &Report, to: QuantType) -> usize {
    report.tensors.iter().filter(|t| t.to == to).count()
}

#[test]
fn the_demo_learns_update_by_update_what_it_learns_in_pytorch() {
    let course = Course::read("demo");
    let demo = repository().join("runtime/cli/demo");
    let [blocks, mmproj] = ["model.gguf", "mmproj.gguf"].map(|file| demo.join(file));
    let folder = tempfile::tempdir().unwrap();
    let floats = folder.path().join("floats.gguf");
    stored(&blocks, &floats, Mix::F32);
    for (base, file) in [("F32", &floats), ("the blocks of it", &blocks)] {
        course.compare(base, &course.train(&open(file, Some(&mmproj))), LOSS);
    }
    let mut course = course;
    course.options.products = ProductKind::Words;
    let in_words = course.train(&open(&blocks, Some(&mmproj)));
    course.compare("the blocks in words", &in_words, WORDS);
}

#[test]
fn the_demo_on_4_bits_ends_where_it_ends_on_floats() {
    let course = Course::read("demo");
    let demo = repository().join("runtime/cli/demo");
    let shipped = ["model.gguf", "mmproj.gguf"].map(|file| demo.join(file));
    let folder = tempfile::tempdir().unwrap();
    let [floats, mmproj, blocks] =
        ["floats.gguf", "mmproj.gguf", "blocks.gguf"].map(|file| folder.path().join(file));
    turned::write(shipped.each_ref().map(PathBuf::as_path), [&floats, &mmproj]);
    let on_floats = course.train(&open(&floats, Some(&mmproj)));
    let first = course.numbers("loss").next().unwrap();
    assert!(
        (on_floats[0].loss - first).abs() < LOSS,
        "turning changed the model: {} {first}",
        on_floats[0].loss
    );
    let report = stored(&floats, &blocks, Mix::Q4KM);
    let lost = report.worst().unwrap().error.relative();
    assert!(
        lost > 0.03,
        "4 bits have cost nothing, so this shows nothing"
    );
    assert!(count(&report, QuantType::Q4K) >= 20);
    let on_blocks = course.train(&open(&blocks, Some(&mmproj)));
    compare_ends("demo, F32 and Q4_K_M", &on_floats, &on_blocks);
}

#[test]
fn a_text_model_learns_update_by_update_what_it_learns_in_pytorch() {
    let floats = repository().join("../shared/data/gguf/stories260K.gguf");
    if !floats.exists() {
        println!("skipped: no {}", floats.display());
        return;
    }
    let course = Course::read("text");
    let on_floats = course.train(&open(&floats, None));
    course.compare("F32", &on_floats, LOSS);

    // Its rows of 64 and 172 weights hold no block of 256, so other types take Q4_K's place.
    let folder = tempfile::tempdir().unwrap();
    let blocks = folder.path().join("blocks.gguf");
    let report = stored(&floats, &blocks, Mix::Q4KM);
    assert_eq!(count(&report, QuantType::Q4K), 0);
    assert!(count(&report, QuantType::Q5_0) >= 20);
    let on_blocks = course.train(&open(&blocks, None));
    compare_ends("text, F32 and what Q4_K_M becomes", &on_floats, &on_blocks);
}
