//! The exact-match evaluator beside values that Python computed (tests/golden/plugins).

use std::path::PathBuf;
use std::sync::Arc;

use graft::dataset::{Role, Sample, Turn};
use graft::evaluate::{EvaluateError, Evaluator, Prediction, Remarks, Scorer};
use serde_json::Value;

use super::desk::evaluators;

fn sample(answer: &str) -> Sample {
    Sample {
        id: "s".into(),
        turns: vec![
            Turn::text(Role::User, "?"),
            Turn::text(Role::Assistant, answer),
        ],
        ..Sample::default()
    }
}

fn prediction(text: &str) -> Prediction {
    Prediction {
        text: text.into(),
        ..Prediction::default()
    }
}

fn scorer(evaluator: &dyn Evaluator, options: &str) -> Scorer {
    Scorer::start(evaluator, options, 0, Arc::new(Remarks::default())).unwrap()
}

#[test]
fn matches_and_accuracy_are_those_of_python() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/plugins/exact_match.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let groups = golden.as_array().unwrap();
    assert_eq!(groups.len(), 16);
    for evaluator in evaluators("exact-match") {
        for group in groups {
            let options = group["options"].to_string();
            let mut run = scorer(&evaluator, &options);
            for case in group["cases"].as_array().unwrap() {
                let (reference, said) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
                let scores = run.score(&sample(reference), &prediction(said)).unwrap();
                let right = case[2].as_bool().unwrap();
                assert_eq!(scores.len(), 1);
                let found = scores[0].value == 1.0;
                assert_eq!(found, right, "{options}: {reference:?} and {said:?}");
            }
            let total = run.finish().unwrap();
            let cases = group["cases"].as_array().unwrap().len();
            // Reading the file back may cost the last bit.
            let error = total[0].value - group["accuracy"].as_f64().unwrap();
            assert!(error.abs() < 1e-15, "{options}: {error}");
            assert_eq!(
                (total[0].metric.as_str(), total[0].weight),
                ("accuracy", cases as f64)
            );
        }
    }
}

#[test]
fn a_sample_without_answer_cannot_be_scored_and_the_run_goes_on() {
    for evaluator in evaluators("exact-match") {
        let mut run = scorer(&evaluator, "{}");
        let mut silent = sample("x");
        silent.turns.pop();
        let error = run.score(&silent, &prediction("x")).unwrap_err();
        assert!(matches!(error, EvaluateError::InvalidInput(_)), "{error:?}");
        run.score(&sample("x"), &prediction("X.")).unwrap();
        assert_eq!(run.finish().unwrap()[0].value, 1.0);
        assert!(scorer(&evaluator, "{}").finish().unwrap().is_empty());
    }
}

#[test]
fn runs_do_not_know_of_each_other() {
    for evaluator in evaluators("exact-match") {
        let (mut one, mut other) = (scorer(&evaluator, "{}"), scorer(&evaluator, "{}"));
        one.score(&sample("a"), &prediction("a")).unwrap();
        other.score(&sample("a"), &prediction("b")).unwrap();
        assert_eq!(one.finish().unwrap()[0].value, 1.0);
        assert_eq!(other.finish().unwrap()[0].value, 0.0);
    }
}

#[test]
fn the_last_answer_of_a_conversation_counts_and_long_texts_do_no_harm() {
    for evaluator in evaluators("exact-match") {
        let mut run = scorer(&evaluator, "{}");
        let mut talk = sample("first");
        talk.turns.push(Turn::text(Role::User, "and?"));
        talk.turns.push(Turn::text(Role::Assistant, "second"));
        let right = |scores: Vec<graft::evaluate::Score>| scores[0].value == 1.0;
        assert!(right(run.score(&talk, &prediction("second")).unwrap()));
        assert!(!right(run.score(&talk, &prediction("first")).unwrap()));
        let long = "wort ".repeat(400_000);
        assert!(right(
            run.score(&sample(&long), &prediction(&long)).unwrap()
        ));
        // More than its memory holds: the run ends with the reason, the host goes on.
        let longer = "x".repeat(260 << 20);
        let error = run.score(&sample("x"), &prediction(&longer)).unwrap_err();
        assert!(matches!(error, EvaluateError::Plugin(_)), "{error:?}");
        assert!(
            scorer(&evaluator, "{}")
                .score(&sample("x"), &prediction("x"))
                .is_ok()
        );
    }
}
