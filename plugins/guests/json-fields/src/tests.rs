//! Whole runs over a few documents.

use graft_plugin::{Evaluator, Part, Prediction, Role, Run, Sample, Score, Turn, Value};

use super::{JsonFields, without_fence};

fn sample(hoped: &str) -> Sample {
    let content = vec![Part::Text(hoped.into())];
    let role = Role::Assistant;
    Sample {
        id: "s".into(),
        images: vec![],
        turns: vec![Turn { role, content }],
        origin: None,
        extra: vec![("kind".into(), Value::Text("invoice".into()))],
    }
}

fn said(text: &str) -> Prediction {
    Prediction {
        text: text.into(),
        finish_reason: "end".into(),
        millis: 1,
        extra: vec![],
    }
}

fn value(scores: &[Score], name: &str) -> f64 {
    let found = scores.iter().find(|s| s.metric == name);
    found.unwrap_or_else(|| panic!("no {name}")).value
}

#[test]
fn every_value_is_right_wrong_missing_or_extra() {
    let mut run = JsonFields::start(r#"{"by": "kind"}"#, 0).unwrap();
    let hoped = r#"{"total": 42.00, "name": "ACME Inc", "tags": ["a", "b", "b"], "date": "1 May"}"#;
    let given = r#"{"total": "42", "name": "Acme  inc", "tags": ["b", "c"], "note": "x"}"#;
    let scores = run.score(&sample(hoped), &said(given)).unwrap();
    // Right: total, name, one b. Hoped for six, given five.
    assert_eq!(value(&scores, "f1"), 6.0 / 11.0);
    assert_eq!(value(&scores, "precision"), 0.6);
    assert_eq!(value(&scores, "recall"), 0.5);
    assert_eq!(value(&scores, "exact-f1"), 2.0 / 11.0);
    assert_eq!(value(&scores, "missing"), 2.0);
    assert_eq!(value(&scores, "extra"), 1.0);
    assert_eq!(value(&scores, "malformed"), 0.0);
    assert_eq!(value(&scores, "perfect-documents"), 0.0);
    let scores = run.score(&sample(hoped), &said("no idea")).unwrap();
    assert_eq!(value(&scores, "recall"), 0.0);
    assert_eq!(value(&scores, "precision"), 0.0);
    assert_eq!(value(&scores, "malformed"), 1.0);
    assert_eq!(run.remarks()[0].code, "malformed-json");
    run.score(&sample(hoped), &said(&format!("```json\n{hoped}\n```")))
        .unwrap();
    let totals = run.finish().unwrap();
    assert_eq!(value(&totals, "f1"), 2.0 * 9.0 / (18.0 + 11.0));
    assert_eq!(value(&totals, "missing[kind=invoice]"), 8.0);
    assert_eq!(value(&totals, "perfect-documents"), 1.0 / 3.0);
    assert_eq!(value(&totals, "f1[field=/tags/*]"), 8.0 / 14.0);
    assert_eq!(value(&totals, "exact-f1[field=/total]"), 0.4);
    assert!(totals.iter().all(|s| s.metric != "f1[field=/note]"));
}

#[test]
fn nothing_hoped_for_and_nothing_given_is_right() {
    let mut run = JsonFields::start("{}", 0).unwrap();
    let scores = run
        .score(&sample("{}"), &said(r#"{"a": null, "b": []}"#))
        .unwrap();
    for name in ["f1", "precision", "recall", "perfect-documents"] {
        assert_eq!(value(&scores, name), 1.0, "{name}");
    }
    let scores = run.score(&sample("{}"), &said("{")).unwrap();
    assert_eq!(value(&scores, "perfect-documents"), 0.0);
    let scores = run.score(&sample("{}"), &said("[1]")).unwrap();
    assert_eq!((value(&scores, "f1"), value(&scores, "recall")), (0.0, 0.0));
}

#[test]
fn a_fence_is_taken_off_only_around_everything() {
    for (text, inside) in [
        ("```json\n{}\n```", "{}\n"),
        (" ```\n{}```\n", "{}"),
        ("```{}```", "```{}```"),
        ("Here:\n```json\n{}\n```", "Here:\n```json\n{}\n```"),
        ("```", "```"),
        ("``````", "``````"),
        ("{}", "{}"),
    ] {
        assert_eq!(without_fence(text), inside);
    }
    let mut run = JsonFields::start(r#"{"fences": false}"#, 0).unwrap();
    let scores = run.score(&sample("1"), &said("```\n1\n```")).unwrap();
    assert_eq!(value(&scores, "malformed"), 1.0);
}

#[test]
fn a_reference_that_is_no_json_is_refused() {
    let mut run = JsonFields::start("{}", 0).unwrap();
    for bad in ["", "seven", "{\"a\": 01}"] {
        assert!(run.score(&sample(bad), &said("1")).is_err(), "{bad}");
    }
    assert!(run.finish().unwrap().is_empty());
    assert!(JsonFields::start(r#"{"fences": "yes"}"#, 0).is_err());
}
