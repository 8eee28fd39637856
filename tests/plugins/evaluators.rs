//! The shipped evaluators beside Python's values, and beside records and answers that mean harm.

use std::sync::Arc;

use graft::dataset::{Location, Role, Sample, Turn};
use graft::evaluate::{EvaluateError, Evaluator, Prediction, Remarks, Scorer};
use serde_json::{Map, Value, json};

use crate::desk::evaluators;
use crate::golden::{check, prediction};

/// Beside `exact-match`, which has a file of its own.
const NAMES: [&str; 7] = [
    "anls",
    "gqa",
    "json-fields",
    "pope",
    "rouge-l",
    "science-qa",
    "vqa-accuracy",
];

#[test]
fn every_value_is_that_of_the_reference() {
    for name in NAMES {
        let file = format!("{}.json", name.replace('-', "_"));
        let cases = check(name, &file);
        assert!(cases >= 200, "{name}: {cases} cases");
    }
}

/// A reference that evaluator `name` can score.
fn reference(name: &str) -> &'static str {
    match name {
        "json-fields" => r#"{"total": 42}"#,
        "pope" => "yes",
        "science-qa" => "A",
        _ => "two cats",
    }
}

fn sample(hoped: &str, extra: Map<String, Value>) -> Sample {
    Sample {
        id: "s".into(),
        turns: vec![
            Turn::text(Role::User, "?"),
            Turn::text(Role::Assistant, hoped),
        ],
        extra,
        origin: Some(Location {
            source: "data.json".into(),
            line: Some(7),
            ..Location::default()
        }),
        ..Sample::default()
    }
}

fn scorer(evaluator: &dyn Evaluator) -> Scorer {
    Scorer::start(evaluator, "{}", 0, Arc::new(Remarks::default())).unwrap()
}

/// Scored, or refused as this sample's own fault.
fn survives(run: &mut Scorer, sample: &Sample, said: &Prediction, what: &str) {
    match run.score(sample, said) {
        Ok(_) | Err(EvaluateError::InvalidInput(_)) => {}
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn no_answer_stops_an_evaluator() {
    let deep = "[".repeat(1 << 20);
    let members: Vec<String> = (0..50_000).map(|i| format!("\"{i}\": {i}")).collect();
    let wide = format!("{{\"{}\": {{{}}}}}", "k".repeat(1 << 19), members.join(","));
    let answers = [
        String::new(),
        "\0\u{1}\u{7f}\u{feff}\u{fffd}".into(),
        "\u{202e}\u{300}".repeat(10_000),
        "0".repeat(1 << 20),
        "-1e999999999999 NaN Infinity".into(),
        "word ".repeat(1 << 19),
        "a b ".repeat(1 << 20),
        ".,.,".repeat(1 << 19),
        "中é".repeat(1 << 18),
        "\u{130}\u{fb03}".repeat(1 << 18),
        format!("{deep}{}", "]".repeat(1 << 20)),
        "{\"a\":".repeat(1 << 19),
        format!("[{}1]", "1,".repeat(1 << 20)),
        format!("[{}0]", "{\"\":[]},".repeat(1 << 18)),
        wide,
        "```json\n".repeat(1 << 17),
        "The answer is ".repeat(1 << 18),
        "x".repeat((4 << 20) + 1),
        "x".repeat(20 << 20),
    ];
    for name in NAMES {
        for evaluator in evaluators(name) {
            let mut run = scorer(&evaluator);
            for (index, answer) in answers.iter().enumerate() {
                let what = format!("{name} {index}");
                let hoped = sample(reference(name), Map::new());
                survives(&mut run, &hoped, &prediction(answer), &what);
                survives(
                    &mut run,
                    &sample(answer, Map::new()),
                    &prediction(answer),
                    &what,
                );
                let nearly = answer.chars().rev().collect::<String>();
                survives(
                    &mut run,
                    &sample(answer, Map::new()),
                    &prediction(&nearly),
                    &what,
                );
            }
            let scores = run.score(
                &sample(reference(name), Map::new()),
                &prediction(reference(name)),
            );
            assert_eq!(scores.unwrap()[0].value, 1.0, "{name}");
            run.finish().unwrap();
        }
    }
}

#[test]
fn no_field_of_a_record_stops_an_evaluator() {
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e308),
        json!(""),
        json!("x\u{1b}[2J]["),
        json!([]),
        json!([[]]),
        json!([null]),
        json!([{"answer": 7}, {}]),
        json!({"structural": ["query"], "semantic": {}, "detailed": 1}),
        json!({"global": {"global": 1}}),
        json!([{"operation": "x", "argument": null}]),
        json!(vec!["answer"; 20_000]),
        json!((0..5000).map(|i| i.to_string()).collect::<Vec<_>>()),
        json!("x".repeat(5 << 20)),
    ];
    let names = [
        "answers",
        "answer",
        "label",
        "choices",
        "question_type",
        "answer_type",
        "question_types",
        "category",
        "subject",
        "grade",
        "types",
        "groups",
        "semantic",
        "question",
        "entailed",
        "valid",
        "plausible",
        "isBalanced",
        "images",
    ];
    for name in NAMES {
        for evaluator in evaluators(name) {
            let mut run = scorer(&evaluator);
            for field in names {
                for value in &values {
                    let extra = Map::from_iter([(field.to_owned(), value.clone())]);
                    let sample = sample(reference(name), extra);
                    let what = format!("{name} {field}");
                    survives(&mut run, &sample, &prediction(reference(name)), &what);
                }
            }
            for total in run.finish().unwrap() {
                assert!(!total.metric.contains(char::is_control), "{}", total.metric);
                assert!(total.metric.len() < 300, "{}", total.metric);
            }
        }
    }
}

#[test]
fn a_sample_that_cannot_be_scored_is_named_with_its_place_and_the_run_goes_on() {
    for name in NAMES {
        for evaluator in evaluators(name) {
            let mut run = scorer(&evaluator);
            let mut silent = sample("x", Map::new());
            silent.turns.pop();
            let error = run.score(&silent, &prediction("x")).unwrap_err();
            let EvaluateError::InvalidInput(fault) = error else {
                panic!("{name}: {error}");
            };
            assert_eq!(fault.code, "no-reference", "{name}");
            assert!(fault.message.contains("\"s\""), "{name}: {}", fault.message);
            assert_eq!(fault.at, silent.origin, "{name}");
            assert!(run.finish().unwrap().is_empty(), "{name}");
        }
    }
}

#[test]
fn remarks_reach_the_host_with_the_sample_and_its_place() {
    for (name, said, code) in [
        ("pope", "A bus", "neither-yes-nor-no"),
        ("science-qa", "because", "no-choice"),
        ("json-fields", "{\"total\": 42,}", "malformed-json"),
    ] {
        for evaluator in evaluators(name) {
            let remarks = Arc::new(Remarks::default());
            let told = Arc::clone(&remarks);
            let mut run = Scorer::start(&evaluator, "{}", 0, told).unwrap();
            let sample = sample(reference(name), Map::new());
            run.score(&sample, &prediction(reference(name))).unwrap();
            assert!(remarks.remarks().is_empty(), "{name}");
            for _ in 0..200 {
                run.score(&sample, &prediction(said)).unwrap();
            }
            let remarks = remarks.remarks();
            assert_eq!(remarks.len(), 100, "{name}");
            assert_eq!(
                (remarks[0].code.as_str(), &remarks[0].at),
                (code, &sample.origin)
            );
            assert!(
                remarks[0].message.contains("\"s\""),
                "{}",
                remarks[0].message
            );
        }
    }
}

#[test]
fn the_order_of_the_samples_does_not_matter_to_the_whole() {
    let said = [
        "yes",
        "no",
        "two cats",
        "{\"total\": 7, \"x\": 1}",
        "B",
        "The answer is A.",
    ];
    for name in NAMES {
        for evaluator in evaluators(name) {
            let whole = |order: &mut dyn Iterator<Item = usize>| {
                let mut run = scorer(&evaluator);
                for index in order {
                    let kind = json!(["a", "b", "c"][index % 3]);
                    let extra = Map::from_iter([("category".to_owned(), kind)]);
                    let sample = sample(reference(name), extra);
                    run.score(&sample, &prediction(said[index % said.len()]))
                        .unwrap();
                }
                run.finish().unwrap()
            };
            let (forth, back) = (whole(&mut (0..60)), whole(&mut (0..60).rev()));
            assert_eq!(forth.len(), back.len(), "{name}");
            for (one, other) in forth.iter().zip(&back) {
                assert_eq!((&one.metric, one.weight), (&other.metric, other.weight));
                assert!(
                    (one.value - other.value).abs() < 1e-12,
                    "{name} {}",
                    one.metric
                );
            }
        }
    }
}
