//! The converter on exports in memory.

use graft_plugin::Converter;
use graft_plugin::testing::{Outcome, convert, survives_damage};

use super::Doccano;

const SPANS: &[u8] = include_bytes!("../../../../tests/golden/plugins/doccano/spans.jsonl");
const CLASSES: &[u8] = include_bytes!("../../../../tests/golden/plugins/doccano/classes.jsonl");
const ANSWERS: &[u8] = include_bytes!("../../../../tests/golden/plugins/doccano/answers.jsonl");

fn run(export: &str, options: &str) -> Outcome {
    convert::<Doccano>(export.as_bytes(), options, &[])
}

const WHICH: &str = "Größe Ana\nWhich labelled parts does the text have?";

#[test]
fn spans_are_read_under_all_their_names() {
    for labels in [
        r#""label": [[6, 9, "PER"]]"#,
        r#""labels": [[6, 9, "PER"]]"#,
        r#""entities": [{"id": 1, "label": "PER", "start_offset": 6, "end_offset": 9}], "relations": []"#,
        r#""annotations": [{"label": "PER", "start_offset": 6, "end_offset": 9, "user": 1}]"#,
        r#""label": [], "entities": [{"label": "PER", "start": 6, "end": 9}]"#,
    ] {
        let export = format!(r#"{{"id": 4, "text": "Größe Ana", {labels}, "Comments": []}}"#);
        let outcome = run(&export, "{}");
        assert_eq!(
            outcome.counts(),
            (1, 1, 0),
            "{labels}: {:?}",
            outcome.codes()
        );
        assert_eq!(outcome.texts(0), [WHICH, "PER: Ana"], "{labels}");
        assert_eq!(outcome.samples[0].id, "4");
    }
    let numbered = r#"{"data": "Größe Ana", "annotations": [{"label": 3, "start_offset": 6, "end_offset": 9}]}"#;
    let options = r#"{"labels": {"3": "person"}, "question": "Who? {text}", "system": "s"}"#;
    assert_eq!(
        run(numbered, options).texts(0),
        ["s", "Who? Größe Ana", "person: Ana"]
    );
    let unordered = r#"{"text": "a b", "label": [[2, 3, "Y"], [0, 1, "X"]]}"#;
    assert_eq!(run(unordered, "{}").texts(0)[1], "X: a\nY: b");
}

#[test]
fn texts_are_classes_or_answers() {
    let class = r#"{"text": "t", "label": ["good", "new"]}"#;
    let outcome = run(class, "{}");
    assert_eq!(
        outcome.texts(0),
        ["t\nWhich label fits the text?", "good, new"]
    );
    assert_eq!(outcome.codes(), ["doccano-guessed-task"]);
    for class in [
        r#"{"text": "t", "label": "good"}"#,
        r#"{"text": "t", "annotations": [{"label": "good"}]}"#,
    ] {
        assert_eq!(
            run(class, r#"{"task": "classification"}"#).texts(0)[1],
            "good"
        );
    }
    let answers = r#"{"id": 1, "text": "t", "label": ["one answer of some words", "two"]}"#;
    let outcome = run(answers, "{}");
    assert_eq!(
        (outcome.texts(0), outcome.texts(1)),
        (vec!["t", "one answer of some words"], vec!["t", "two"])
    );
    assert_eq!(outcome.samples[1].id, "1#2");
    let first = run(answers, r#"{"answers": "first", "task": "seq2seq"}"#);
    assert_eq!(
        (first.counts(), first.codes()),
        ((1, 1, 0), vec!["doccano-further-answers"])
    );
    let caption = r#"{"filename": "a.png", "label": ["a cat"]}"#;
    assert_eq!(
        run(caption, r#"{"task": "seq2seq"}"#).texts(0),
        ["[image]", "Describe the image.", "a cat"]
    );
    assert_eq!(
        run(caption, "{}").texts(0)[1],
        "Which label fits the image?"
    );
    let none = r#"{"text": "t", "label": []}"#;
    assert_eq!(run(none, r#"{"no_label": "none"}"#).texts(0)[1], "none");
}

#[test]
fn boxes_become_fractions_of_the_image() {
    // The desk's images are 200 wide and 100 high.
    let boxes = r#"{"filename": "a.png", "bbox": [{"x": 20, "y": 10, "width": 100, "height": 50, "label": "cat"},
        {"x": 300, "y": 0, "width": 1, "height": 1, "label": "dog"}]}"#.replace('\n', "");
    let outcome = run(&boxes, "{}");
    assert_eq!(
        outcome.texts(0),
        [
            "[image]",
            "What is where in the image?",
            "cat: [0.100, 0.100, 0.600, 0.600]"
        ]
    );
    assert_eq!(outcome.codes(), ["doccano-bad-box"]);
}

#[test]
fn what_is_of_no_use_is_named_and_the_next_is_read() {
    for (bad, codes) in [
        ("7", vec!["doccano-no-content"]),
        (r#"{"label": ["a"]}"#, vec!["doccano-no-content"]),
        (
            r#"{"text": " ", "label": ["a"]}"#,
            vec!["doccano-no-content"],
        ),
        (r#"{"text": "t"}"#, vec!["doccano-no-label"]),
        (r#"{"text": "t", "label": []}"#, vec!["doccano-no-label"]),
        (r#"{"text": "t", "label": null}"#, vec!["doccano-no-label"]),
        (
            r#"{"text": "t", "label": [{"points": []}]}"#,
            vec!["doccano-unsupported-label"],
        ),
        (
            r#"{"text": "t", "label": [[0, 9, "A"]]}"#,
            vec!["doccano-bad-span", "doccano-no-label"],
        ),
        (
            r#"{"text": "t", "label": [[1, 0, "A"]]}"#,
            vec!["doccano-bad-span", "doccano-no-label"],
        ),
        (
            r#"{"text": "t", "label": [[0, 1]]}"#,
            vec!["doccano-bad-span", "doccano-no-label"],
        ),
        (
            r#"{"text": "t", "label": [[NaN, 1, "A"]]}"#,
            vec!["doccano-bad-span", "doccano-no-label"],
        ),
        (
            r#"{"filename": "missing.png", "label": ["a"]}"#,
            vec!["doccano-missing-image"],
        ),
        (
            r#"{"filename": "missing.png", "bbox": [{"x": 1, "y": 1, "width": 1, "height": 1, "label": "a"}]}"#,
            vec!["doccano-missing-image"],
        ),
        (r#"{"text": "t", "label": ["#, vec!["malformed-json"]),
        (
            r#"{"text": "t", "label": [[0, 1, "A"]], "relations": [{"type": "x"}]"#,
            vec!["malformed-json"],
        ),
    ] {
        let good = r#"{"text": "t", "label": ["a"]}"#;
        let outcome = run(
            &format!("{good}\n{bad}\n{good}\n"),
            r#"{"task": "classification"}"#,
        );
        assert_eq!(outcome.counts(), (3, 2, 1), "{bad}: {:?}", outcome.codes());
        assert_eq!(outcome.codes(), codes, "{bad}");
        for remark in &outcome.remarks {
            let at = remark.at.as_ref().unwrap();
            assert_eq!((at.record_index, at.line), (Some(1), Some(2)), "{bad}");
        }
    }
    let related = r#"{"text": "t", "entities": [{"label": "A", "start_offset": 0, "end_offset": 1}], "relations": [{"type": "x"}]}"#;
    assert_eq!(run(related, "{}").codes(), ["doccano-relations"]);
    for bad in [
        r#"{"question": "{x}"}"#,
        r#"{"task": "ner"}"#,
        r#"{"labels": []}"#,
    ] {
        assert!(run("", bad).summary.is_err(), "{bad}");
    }
}

#[test]
fn only_labelled_lines_are_recognised() {
    assert_eq!(Doccano::detect(SPANS, "a"), 90);
    assert_eq!(Doccano::detect(CLASSES, "a"), 75);
    assert_eq!(Doccano::detect(ANSWERS, "a"), 75);
    for other in [
        "",
        "[]",
        "{}",
        r#"{"text": "t"}"#,
        r#"{"label": ["a"]}"#,
        r#"{"text": 7, "label": ["a"]}"#,
    ] {
        assert_eq!(
            Doccano::detect(other.as_bytes(), "doccano.jsonl"),
            0,
            "{other}"
        );
    }
}

#[test]
fn no_damage_is_silent() {
    for fixture in [SPANS, CLASSES, ANSWERS] {
        survives_damage::<Doccano>(fixture, "{}", &[]);
    }
}
