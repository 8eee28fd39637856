//! The converter on exports in memory.

use graft_plugin::testing::{Outcome, convert, survives_damage};
use graft_plugin::{Converter, ImageRef};

use super::LabelStudio;

const FIXTURE: &[u8] = include_bytes!("../../../../tests/golden/plugins/label-studio/export.json");
const FLAT: &[u8] = include_bytes!("../../../../tests/golden/plugins/label-studio/min.json");

fn run(export: &str, options: &str) -> Outcome {
    convert::<LabelStudio>(export.as_bytes(), options, &[])
}

/// A task about a text, with these results.
fn task(results: &str) -> String {
    format!(
        r#"{{"id": 1, "data": {{"text": "Ana is here."}}, "annotations": [{{"id": 5, "result": [{results}]}}]}}"#
    )
}

const CHOICE: &str = r#"{"id": "a", "from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": ["Good"]}}"#;

#[test]
fn every_kind_of_result_becomes_an_answer() {
    for (result, question, answer) in [
        (CHOICE, "What is the mood?", "Good"),
        (
            r#"{"from_name": "n", "type": "choices", "value": {"choices": ["A", "B"]}}"#,
            "What is the n?",
            "A, B",
        ),
        (
            r#"{"from_name": "sum_up", "type": "textarea", "value": {"text": ["one", "two"]}}"#,
            "What is the sum up?",
            "one\ntwo",
        ),
        (
            r#"{"from_name": "ner", "type": "labels", "value": {"start": 0, "end": 3, "text": "Ana", "labels": ["PER"]}}"#,
            "Which labelled parts does the text have?",
            "person: Ana",
        ),
        (
            r#"{"from_name": "t", "type": "taxonomy", "value": {"taxonomy": [["Eukarya", "Cat"], ["Bacteria"]]}}"#,
            "What is the t?",
            "Eukarya > Cat, Bacteria",
        ),
        (
            r#"{"from_name": "r", "type": "rating", "value": {"rating": 4}}"#,
            "What is the r?",
            "4",
        ),
        (
            r#"{"from_name": "b", "type": "rectanglelabels", "value": {"x": 10, "y": 20.5, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["Cat"]}}"#,
            "What is where in the image?",
            "Cat: [0.100, 0.205, 0.400, 0.605]",
        ),
    ] {
        let outcome = run(&task(result), r#"{"labels": {"PER": "person"}}"#);
        assert_eq!(
            outcome.counts(),
            (1, 1, 0),
            "{result}: {:?}",
            outcome.codes()
        );
        assert_eq!(
            outcome.texts(0),
            [&format!("Ana is here.\n{question}"), answer],
            "{result}"
        );
    }
    // Both results of a control make one answer; what is said of a region stands beside it.
    let two = r#"{"id": "r1", "from_name": "text", "type": "textarea", "value": {"x": 1, "y": 1, "width": 9, "height": 9, "text": ["42"]}},
        {"id": "r1", "from_name": "box", "type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["Sum"]}},
        {"id": "r1", "from_name": "shape", "type": "rectangle", "value": {"x": 1, "y": 1, "width": 9, "height": 9}},
        {"id": "r2", "from_name": "box", "type": "rectanglelabels", "value": {"x": 50, "y": 50, "width": 50.5, "height": 50, "rectanglelabels": ["Date"]}}"#;
    let outcome = run(&task(two), r#"{"questions": {"box": "Read it."}}"#);
    assert_eq!(
        outcome.texts(0)[1],
        "Sum: [0.010, 0.010, 0.100, 0.100] 42\nDate: [0.500, 0.500, 1.000, 1.000]"
    );
    assert!(outcome.remarks.is_empty(), "{:?}", outcome.codes());
}

#[test]
fn flat_tasks_are_read_too() {
    let about = r#""annotator": 1, "annotation_id": 5, "created_at": "2024-01-01", "updated_at": "2024-01-01", "lead_time": 3.5"#;
    for (answer, expected) in [
        (r#""mood": "Good""#, vec!["Ana.\nWhat is the mood?", "Good"]),
        (
            r#""mood": {"choices": ["A", "B"]}"#,
            vec!["Ana.\nWhat is the mood?", "A, B"],
        ),
        (
            r#""said": ["x", "y"]"#,
            vec!["Ana.\nWhat is the said?", "x, y"],
        ),
        (
            r#""said": {"text": ["x", "y"]}"#,
            vec!["Ana.\nWhat is the said?", "x\ny"],
        ),
        (
            r#""ner": [{"start": 0, "end": 3, "text": "Ana", "labels": ["PER"]}]"#,
            vec!["Ana.\nWhich labelled parts does the text have?", "PER: Ana"],
        ),
        (
            r#""tax": [{"taxonomy": [["a", "b"]]}], "stars": [{"rating": 3}]"#,
            vec!["Ana.\nWhat is the tax?", "a > b", "What is the stars?", "3"],
        ),
    ] {
        let export =
            format!(r#"[{{"source": "web", "text": "Ana.", "id": 7, {answer}, {about}}}]"#);
        let outcome = run(&export, "{}");
        assert_eq!(
            outcome.counts(),
            (1, 1, 0),
            "{answer}: {:?}",
            outcome.codes()
        );
        assert_eq!(outcome.texts(0), expected, "{answer}");
        assert_eq!(outcome.samples[0].id, "task-7");
    }
}

#[test]
fn images_are_found_in_the_data() {
    for data in [
        r#""image": "/data/upload/1/ab-a.png""#,
        r#""ocr": "/data/local-files/?d=ab-a.png""#,
        r#""captioning": "https://h/x/ab-a.png?v=1""#,
    ] {
        let export = task(CHOICE).replace(r#""text": "Ana is here.""#, data);
        let outcome = run(&export, r#"{"image_root": "in"}"#);
        assert_eq!(
            outcome.texts(0),
            ["[image]", "What is the mood?", "Good"],
            "{data}"
        );
        assert!(
            matches!(&outcome.samples[0].images[0], ImageRef::Asset(n) if n == "in/ab-a.png"),
            "{data}"
        );
    }
    let asked = task(CHOICE).replace(
        r#""text": "Ana"#,
        r#""photo": "a.png", "question": "How?", "note": "Ana"#,
    );
    assert_eq!(run(&asked, "{}").texts(0), ["[image]", "How?", "Good"]);
    let chosen = r#"{"text_field": "note", "question": "{control}: {note}"}"#;
    assert_eq!(
        run(&asked, chosen).texts(0)[1],
        "Ana is here.\nmood: Ana is here."
    );
}

#[test]
fn of_several_annotations_the_best_is_taken_or_each() {
    let other = CHOICE.replace("Good", "Bad");
    let export = format!(
        r#"[{{"id": 1, "data": {{"text": "t"}}, "annotations": [
            {{"was_cancelled": true, "result": [{CHOICE}]}}, {{"result": [{CHOICE}]}},
            {{"ground_truth": true, "result": [{other}]}}]}}]"#
    );
    let outcome = run(&export, "{}");
    assert_eq!(
        (outcome.counts(), outcome.codes()),
        ((1, 1, 0), vec!["label-studio-further-annotations"])
    );
    assert_eq!(outcome.texts(0)[1], "Bad");
    let each = run(&export, r#"{"annotations": "each"}"#);
    let ids: Vec<&str> = each.samples.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["task-1#1", "task-1#2"]);
    let two = format!("{CHOICE}, {}", other.replace("mood", "tone"));
    let controls = run(&task(&two), r#"{"turns": "control", "system": "s"}"#);
    assert_eq!(
        controls.texts(1),
        ["s", "Ana is here.\nWhat is the tone?", "Bad"]
    );
    assert_eq!(controls.samples[1].id, "task-1#tone");
    let old = task(CHOICE).replace("annotations", "completions");
    assert_eq!(run(&old, "{}").counts(), (1, 1, 0));
    let guessed = task(CHOICE).replace("annotations", "predictions");
    assert_eq!(run(&guessed, "{}").codes(), ["label-studio-no-annotation"]);
    assert_eq!(
        run(&guessed, r#"{"predictions": true}"#).counts(),
        (1, 1, 0)
    );
}

#[test]
fn what_is_of_no_use_is_named_and_the_next_is_read() {
    let result = |value: &str| {
        task(&format!(
            r#"{{"from_name": "x", "type": "y", "value": {value}}}"#
        ))
    };
    for (bad, codes) in [
        ("7".to_owned(), vec!["label-studio-unknown-record"]),
        (
            r#"{"data": {"audio": "a.wav"}, "annotations": []}"#.into(),
            vec!["label-studio-no-content"],
        ),
        (
            r#"{"data": {"text": "t"}, "annotations": []}"#.into(),
            vec!["label-studio-no-annotation"],
        ),
        (
            r#"{"data": {"text": "t"}, "annotations": [{"was_cancelled": true}]}"#.into(),
            vec!["label-studio-cancelled"],
        ),
        (
            r#"{"data": {"text": "t"}, "annotations": [{"result": []}]}"#.into(),
            vec!["label-studio-no-result"],
        ),
        (
            r#"{"text": "t", "id": 1, "annotator": 1}"#.into(),
            vec!["label-studio-no-result"],
        ),
        (
            task(r#"{"type": "relation", "from_id": "a", "to_id": "b"}"#),
            vec!["label-studio-relation", "label-studio-no-result"],
        ),
        (
            task(r#"{"type": "choices"}"#),
            vec!["label-studio-bad-result", "label-studio-no-result"],
        ),
        (
            result(r#"{"choices": []}"#),
            vec!["label-studio-empty-result", "label-studio-no-result"],
        ),
        (
            result(r#"{"text": [" "]}"#),
            vec!["label-studio-empty-result", "label-studio-no-result"],
        ),
        (
            result(r#"{"labels": ["A"], "start": 0, "end": 1}"#),
            vec!["label-studio-empty-result", "label-studio-no-result"],
        ),
        (
            result(r#"{"taxonomy": [["a"], 7]}"#),
            vec!["label-studio-bad-result", "label-studio-no-result"],
        ),
        (
            result(r#"{"points": [[1, 2]], "polygonlabels": ["A"]}"#),
            vec!["label-studio-unsupported-result", "label-studio-no-result"],
        ),
        (
            result(r#"{"x": 1, "y": 1, "width": 200, "height": 1, "rectanglelabels": ["A"]}"#),
            vec!["label-studio-bad-box", "label-studio-no-result"],
        ),
        (
            result(r#"{"x": NaN, "y": 1, "width": 2, "height": 1, "rectanglelabels": ["A"]}"#),
            vec!["label-studio-bad-box", "label-studio-no-result"],
        ),
        (
            result(r#"{"x": 1e999, "y": 1, "width": 2, "height": 1, "rectanglelabels": ["A"]}"#),
            vec!["label-studio-bad-box", "label-studio-no-result"],
        ),
        (
            task(CHOICE).replace("\"text\": \"Ana is here.\"", "\"image\": \"missing.png\""),
            vec!["label-studio-missing-image"],
        ),
        (r#"{"data": }"#.into(), vec!["malformed-json"]),
    ] {
        let outcome = run(&format!("[{bad},\n{}]", task(CHOICE)), "{}");
        assert_eq!(outcome.counts(), (2, 1, 1), "{bad}: {:?}", outcome.codes());
        assert_eq!(outcome.codes(), codes, "{bad}");
        for remark in &outcome.remarks {
            let at = remark.at.as_ref().unwrap();
            assert_eq!((at.record_index, at.line), (Some(0), Some(1)), "{bad}");
        }
    }
    let field = |options| run(&task(CHOICE), options).codes().join(" ");
    assert_eq!(field(r#"{"text_field": "x"}"#), "label-studio-no-content");
    assert_eq!(field(r#"{"image_field": "x"}"#), "label-studio-no-content");
    assert_eq!(field(r#"{"question": "{x}"}"#), "label-studio-no-content");
    for bad in [
        r#"{"question": "{"}"#,
        r#"{"questions": "x"}"#,
        r#"{"labels": {"a": 1}}"#,
    ] {
        assert!(run("[]", bad).summary.is_err(), "{bad}");
    }
}

#[test]
fn only_tasks_are_recognised() {
    assert_eq!(LabelStudio::detect(FIXTURE, "a"), 95);
    assert_eq!(LabelStudio::detect(FLAT, "a"), 95);
    for other in [
        "",
        "[]",
        "{}",
        r#"[{"data": [1]}]"#,
        r#"[{"annotations": []}]"#,
        r#"[{"annotation_id": 1}]"#,
    ] {
        assert_eq!(
            LabelStudio::detect(other.as_bytes(), "label-studio.json"),
            0,
            "{other}"
        );
    }
}

#[test]
fn no_damage_is_silent() {
    survives_damage::<LabelStudio>(FIXTURE, "{}", &[]);
    survives_damage::<LabelStudio>(FLAT, r#"{"annotations": "each", "turns": "control"}"#, &[]);
}
