//! Evaluating a model that sees on the demo's images, with the exact-match plugin.

mod sight;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graft::Error;
use graft::adapter::{Adapter, Attached, BaseIdentity, LoraPair};
use graft::cancel::Cancel;
use graft::dataset::{ImageFolder, ImageRef, Part, Role, Sample, Turn, prompt};
use graft::evaluate::{
    AnswerOptions, Answerer, EvaluateError, EvaluateOptions, Remarks, Scorer, run,
};
use graft::model::{Model, Site};
use graft::session::{GenerateOptions, Item, Session, SessionOptions, ShownImage, prompt_items};
use graft::tokenizer::ChatTemplate;
use graft_plugins::{Grants, Host, Limits, WasmEvaluator};

const CONTEXT: usize = 400;
const TOKENS: usize = 12;

fn exact_match() -> WasmEvaluator {
    let host = Host::new(Limits::default(), None).unwrap();
    let plugin = host.load(Path::new("exact-match"), &Grants::default());
    plugin.unwrap().into_evaluator().unwrap()
}

fn scorer(options: &str) -> Scorer {
    let host = Arc::new(Remarks::default());
    Scorer::start(&exact_match(), options, 0, host).unwrap()
}

fn images() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../runtime/cli/demo/digits/held-out/images")
        .canonicalize()
        .unwrap()
}

fn sample(id: &str, image: Option<&str>, question: &str, answer: &str) -> Sample {
    let mut content = vec![Part::Text(question.into())];
    if image.is_some() {
        content.insert(0, Part::Image(0));
    }
    let role = Role::User;
    Sample {
        id: id.into(),
        images: image.iter().map(|i| ImageRef::Path(i.into())).collect(),
        turns: vec![Turn { role, content }, Turn::text(Role::Assistant, answer)],
        ..Sample::default()
    }
}

/// Three images, one of them asked about twice, one question without an image.
fn samples() -> Vec<Sample> {
    let (a, b, c) = ("digit_0458.png", "digit_1407.png", "digit_0691.png");
    vec![
        sample("a", Some(a), "Which digit is this?", "zero"),
        sample("a again", Some(a), "Which digit do you see?", "zero"),
        sample("b", Some(b), "Which digit is this?", "five"),
        sample("c", Some(c), "Which digit is this?", "three"),
        sample("none", None, "Which digit is this?", "six"),
        sample("a at last", Some(a), "Is it a nine?", "no"),
    ]
}

fn answerer(model: &Arc<Model>) -> Answerer {
    let options = AnswerOptions {
        max_tokens: TOKENS,
        context_length: CONTEXT,
        ..AnswerOptions::default()
    };
    let template = ChatTemplate::vicuna_v1();
    Answerer::new(model, template, ImageFolder::new(images()), options).unwrap()
}

fn adapter(model: &Model) -> Attached {
    adapter_at(model, Site::of_layers(model.llama().shape().layers))
}

fn adapter_at(model: &Model, sites: impl Iterator<Item = Site>) -> Attached {
    let pairs = sites.map(|site| {
        let mut pair = LoraPair::begin(site, model.sizes(site).unwrap(), 2, 2.0, 5);
        let wave = |(i, b): (usize, &mut f32)| *b = (i % 7) as f32 * 0.1 - 0.3;
        pair.b.iter_mut().enumerate().for_each(wave);
        (site, pair)
    });
    let adapter = Adapter::new("wave", BaseIdentity::default(), 4.0, pairs).unwrap();
    Attached::new([(Arc::new(adapter), 0.5)])
}

/// The answer by another way: a new session for every sample, nothing kept.
fn answer_afresh(model: &Arc<Model>, adapters: &Attached, sample: &Sample) -> String {
    let folder = ImageFolder::new(images());
    let shown = |image: &ImageRef| {
        let pixels = folder.read(image, &sample.id).unwrap().decode().unwrap();
        Item::Image(ShownImage::new(model, &pixels).unwrap())
    };
    let rows: Vec<_> = sample.images.iter().map(shown).collect();
    let (messages, _) = prompt::question(sample);
    let items = prompt_items(model, &ChatTemplate::vicuna_v1(), &messages, &rows).unwrap();
    let context_length = CONTEXT;
    let mut session = Session::new(
        Arc::clone(model),
        &SessionOptions::with_context(context_length),
    )
    .unwrap();
    session.set_adapters(adapters.clone()).unwrap();
    session.feed_items(items).unwrap();
    let options = GenerateOptions {
        max_tokens: TOKENS,
        ..GenerateOptions::default()
    };
    let said = session.generate(&options, |_| ControlFlow::Continue(()));
    said.unwrap().text.trim().to_owned()
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line| serde_json::from_str(line).unwrap();
    text.lines().map(line).collect()
}

#[test]
fn predictions_are_those_of_fresh_sessions_and_every_image_is_computed_once() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let mut answerer = answerer(&model);
    let mut seen = BTreeMap::new();
    for (name, adapters) in [("base", Attached::default()), ("wave", adapter(&model))] {
        let afresh: Vec<String> = samples()
            .iter()
            .map(|s| answer_afresh(&model, &adapters, s))
            .collect();
        // Two references are what the model will say, so the accuracy is known beforehand.
        let mut asked = samples();
        for i in [1, 3] {
            asked[i].turns[1] = Turn::text(Role::Assistant, afresh[i].as_str());
        }
        let equal = |(sample, said): (&Sample, &String)| {
            prompt::question(sample).1.to_lowercase() == said.to_lowercase()
        };
        assert_eq!(asked.iter().zip(&afresh).filter(|&p| equal(p)).count(), 2);

        let predictions = folder.path().join(format!("{name}.jsonl"));
        let report = folder.path().join(format!("{name}.json"));
        let options = EvaluateOptions {
            evaluator: "exact-match".into(),
            predictions: Some(predictions.clone()),
            report: Some(report.clone()),
            ..EvaluateOptions::default()
        };
        answerer.set_adapters(adapters).unwrap();
        let mut done = Vec::new();
        let result = run(
            &mut answerer,
            &asked,
            &options,
            scorer("{}"),
            &Cancel::new(),
            |p| done.push(p.done),
        )
        .unwrap();
        assert_eq!(done, [1, 2, 3, 4, 5, 6]);
        let accuracy = &result.metrics[0];
        assert_eq!(
            (accuracy.name.as_str(), accuracy.value, accuracy.weight),
            ("accuracy", 2.0 / 6.0, 6.0)
        );
        assert_eq!((result.samples, result.scored, result.failed), (6, 6, 0));
        assert_eq!(result.images_computed, if name == "base" { 3 } else { 0 });
        assert!(
            result.computed_tokens < result.prompt_tokens / 2,
            "{result:?}"
        );
        assert_eq!(result.model.fingerprint, model.fingerprint());
        assert_eq!(result.finish.values().sum::<usize>(), 6);

        let lines = lines(&predictions);
        for ((line, said), sample) in lines.iter().zip(&afresh).zip(&asked) {
            assert_eq!(line["predicted"], said.as_str(), "{name} {}", sample.id);
            assert_eq!(line["id"], sample.id.as_str());
            assert_eq!(line["question"], sample.turns[0].plain_text());
            assert_eq!(line["expected"], sample.turns[1].plain_text());
            let right = f64::from(u8::from(equal((sample, said))));
            assert_eq!(line["score"]["accuracy"], right);
        }
        let written: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
        assert_eq!(written["metrics"][0]["value"], 2.0 / 6.0);
        assert_eq!(written["data_sha256"], result.data_sha256.as_str());
        seen.insert(name, (afresh, result));
    }
    let (base, wave) = (&seen["base"], &seen["wave"]);
    assert_ne!(base.0, wave.0, "the adapter changes what is said");
    assert_ne!(base.0[0], base.0[2], "the image changes what is said");
    assert!(base.1.adapters.is_empty());
    let used = &wave.1.adapters[0];
    assert_eq!((used.name.as_str(), used.strength), ("wave", 0.5));
    assert_eq!(used.sha256.len(), 64);
}

#[test]
fn images_are_seen_anew_where_adapters_change_what_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let blocks = model.vision().unwrap().tower().shape().blocks;
    let seeing = adapter_at(&model, Site::of_vision(blocks));
    let sets = [Attached::default(), seeing, adapter(&model)];
    let mut answerer = answerer(&model);
    let mut computed = Vec::new();
    for i in [0, 1, 0, 2, 1, 1] {
        answerer.set_adapters(sets[i].clone()).unwrap();
        for sample in samples() {
            let answer = answerer.answer(&sample, &Cancel::new()).unwrap();
            let afresh = answer_afresh(&model, &sets[i], &sample);
            assert_eq!(answer.text, afresh, "set {i}, {}", sample.id);
        }
        computed.push(answerer.images_computed());
    }
    assert_eq!(computed, [3, 6, 9, 9, 12, 12]);
    let said = |set: &Attached| -> Vec<String> {
        let samples = samples();
        samples
            .iter()
            .map(|sample| answer_afresh(&model, set, sample))
            .collect()
    };
    assert_ne!(
        said(&sets[0]),
        said(&sets[1]),
        "what is seen changes what is said"
    );
}

#[test]
fn the_data_hash_is_of_what_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let mut answerer = answerer(&model);
    let mut hash = |samples: &[Sample], limit| {
        let options = EvaluateOptions {
            limit,
            ..EvaluateOptions::default()
        };
        let none = Cancel::new();
        let report = run(
            &mut answerer,
            samples,
            &options,
            scorer("{}"),
            &none,
            |_| {},
        );
        let report = report.unwrap();
        assert_eq!(
            report.samples,
            if limit == 0 { samples.len() } else { limit }
        );
        report.data_sha256
    };
    let first = hash(&samples(), 2);
    assert_eq!(first, hash(&samples()[..2], 0));
    let mut other_image = samples();
    other_image[1].images = vec![ImageRef::Path("digit_1407.png".into())];
    let mut other_answer = samples();
    other_answer[0].turns[1] = Turn::text(Role::Assistant, "one");
    assert_ne!(first, hash(&other_image, 2));
    assert_ne!(first, hash(&other_answer, 2));
    assert_ne!(first, hash(&samples(), 3));
}

#[test]
fn a_sample_that_cannot_be_asked_or_scored_is_noted_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let mut answerer = answerer(&model);
    let mut asked = samples();
    asked[0].images = vec![ImageRef::Path("no such file.png".into())];
    asked[2].turns[0] = Turn::text(Role::User, "why ".repeat(CONTEXT));
    asked[2].images.clear();
    asked[4].turns.truncate(1);
    asked[5].turns.insert(0, Turn::text(Role::Assistant, "hi"));
    let predictions = folder.path().join("p.jsonl");
    let options = EvaluateOptions {
        predictions: Some(predictions.clone()),
        ..EvaluateOptions::default()
    };
    let report = run(
        &mut answerer,
        &asked,
        &options,
        scorer("{}"),
        &Cancel::new(),
        |_| {},
    )
    .unwrap();
    assert_eq!((report.scored, report.failed), (2, 4));
    assert_eq!(report.metrics[0].weight, 2.0);
    let reasons: Vec<_> = report
        .failures
        .iter()
        .map(|f| (f.index, f.reason.as_str()))
        .collect();
    for ((index, reason), (at, expected)) in reasons.iter().zip([
        (0, "no such file.png"),
        (2, "context is full"),
        (4, "has no answer to compare with"),
        (5, "turn"),
    ]) {
        assert_eq!(*index, at);
        assert!(reason.contains(expected), "{reason}");
    }
    let lines = lines(&predictions);
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0]["predicted"], serde_json::Value::Null);
    assert!(lines[0]["error"].as_str().unwrap().contains("no such file"));
    assert!(lines[4]["predicted"].is_string());
    assert!(lines[1].get("error").is_none());
}

#[test]
fn an_evaluation_without_a_result_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let mut answerer = answerer(&model);
    let out = tempfile::tempdir().unwrap();
    let options = EvaluateOptions {
        predictions: Some(out.path().join("p.jsonl")),
        report: Some(out.path().join("r.json")),
        ..EvaluateOptions::default()
    };
    let cancel = Cancel::new();
    let error = run(
        &mut answerer,
        &samples(),
        &options,
        scorer("{}"),
        &cancel,
        |p| {
            if p.done == 2 {
                cancel.raise();
            }
        },
    );
    assert!(matches!(error, Err(Error::Cancelled)), "{error:?}");

    let calm = Cancel::new();
    let mut none = samples();
    none.iter_mut().for_each(|s| s.turns.truncate(1));
    let error = run(&mut answerer, &none, &options, scorer("{}"), &calm, |_| {});
    let error = error.unwrap_err().to_string();
    assert!(error.contains("none of the 6 samples"), "{error}");
    assert!(error.contains("the first, a:"), "{error}");

    let error = run(&mut answerer, &[], &options, scorer("{}"), &calm, |_| {});
    assert!(matches!(
        error,
        Err(Error::Evaluate(EvaluateError::NoSamples))
    ));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);

    let nowhere = EvaluateOptions {
        predictions: Some(out.path().join("no/such/folder.jsonl")),
        ..EvaluateOptions::default()
    };
    assert!(
        run(
            &mut answerer,
            &samples(),
            &nowhere,
            scorer("{}"),
            &calm,
            |_| {}
        )
        .is_err()
    );
}

#[test]
fn a_small_cache_of_images_changes_only_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let mut counts = Vec::new();
    for image_cache_bytes in [0, 1 << 20] {
        let options = AnswerOptions {
            max_tokens: TOKENS,
            context_length: CONTEXT,
            image_cache_bytes,
            system: Some("Say a digit.".into()),
        };
        let template = ChatTemplate::vicuna_v1();
        let mut small =
            Answerer::new(&model, template, ImageFolder::new(images()), options).unwrap();
        let said: Vec<String> = samples()
            .iter()
            .map(|s| small.answer(s, &Cancel::new()).unwrap().text)
            .collect();
        counts.push((small.images_computed(), said));
    }
    // Without a cache only the image of the question before is still there.
    assert_eq!((counts[0].0, counts[1].0), (4, 3));
    assert_eq!(counts[0].1, counts[1].1);
    let plain = answer_afresh(&model, &Attached::default(), &samples()[0]);
    assert_ne!(counts[0].1[0], plain, "the system text counts");
}
