//! The converter on files in memory.

use graft_plugin::testing::{Outcome, convert, survives_damage};
use graft_plugin::{Converter, ImageRef, Value};

use super::VqaV2;

const QUESTIONS: &[u8] = include_bytes!(
    "../../../../tests/golden/plugins/vqa-v2/v2_OpenEnded_mscoco_val2014_questions.json"
);
const ANNOTATIONS: &[u8] =
    include_bytes!("../../../../tests/golden/plugins/vqa-v2/v2_mscoco_val2014_annotations.json");
const BESIDE: &str = r#"{"companion": "other.json"}"#;

fn run(export: &str, options: &str, other: Option<&str>) -> Outcome {
    let file = [("other.json", other.unwrap_or_default().as_bytes())];
    let files = if other.is_some() { &file[..] } else { &[] };
    convert::<VqaV2>(export.as_bytes(), options, files)
}

fn questions(list: &[&str]) -> String {
    format!(
        r#"{{"data_subtype": "val2014", "questions": [{}]}}"#,
        list.join(", ")
    )
}

fn annotations(list: &[&str]) -> String {
    format!(
        r#"{{"annotations": [{}], "data_subtype": "val2014"}}"#,
        list.join(", ")
    )
}

const Q1: &str = r#"{"image_id": 262148, "question": "Where?", "question_id": 1}"#;
const Q2: &str = r#"{"image_id": 9, "question": "What?", "question_id": 2}"#;
const A1: &str = r#"{"question_type": "none", "multiple_choice_answer": "down", "answer_type": "other",
    "answers": [{"answer": "down", "answer_confidence": "yes", "answer_id": 1}, {"answer": "up"}, {"answer": "up"}],
    "image_id": 262148, "question_id": 1}"#;
const A2: &str = r#"{"multiple_choice_answer": "cat", "question_id": 2}"#;

#[test]
fn questions_and_annotations_find_each_other_in_any_order() {
    for (export, other) in [
        (questions(&[Q1, Q2]), annotations(&[A1, A2])),
        (questions(&[Q1, Q2]), annotations(&[A2, A1])),
        (annotations(&[A2, A1]), questions(&[Q1, Q2])),
    ] {
        let outcome = run(&export, BESIDE, Some(&other));
        assert_eq!(outcome.counts(), (2, 2, 0), "{:?}", outcome.codes());
        let first = outcome.samples.iter().position(|s| s.id == "1").unwrap();
        let asked = "Where?\nAnswer the question using a single word or phrase.";
        assert_eq!(outcome.texts(first), ["[image]", asked, "down"]);
        let name = "COCO_val2014_000000262148.jpg";
        assert!(matches!(&outcome.samples[first].images[0], ImageRef::Asset(n) if n == name));
        let extra = &outcome.samples[first].extra;
        assert!(
            matches!(&extra[0], (k, Value::Json(all)) if k == "answers" && all == r#"["down", "up", "up"]"#)
        );
    }
    let both = questions(&[Q1]).replace(
        ']',
        &format!(r#"], "annotations": [{A1}]"#).replace("]}}", "]}"),
    );
    assert_eq!(both.matches("annotations").count(), 1);
    assert_eq!(run(&both, "{}", None).counts(), (1, 1, 0));
}

#[test]
fn options_say_what_is_asked_answered_and_shown() {
    let options = r#"{"companion": "other.json", "question": "Q: {question}", "answer": "majority", "system": "s",
        "image_name": "{id}-{subtype}.png", "subtype": "x", "image_root": "in"}"#;
    let outcome = run(&questions(&[Q1]), options, Some(&annotations(&[A1])));
    assert_eq!(outcome.texts(0), ["s", "[image]", "Q: Where?", "up"]);
    assert!(matches!(&outcome.samples[0].images[0], ImageRef::Asset(n) if n == "in/262148-x.png"));
    for bad in [
        r#"{"question": "{answer}"}"#,
        r#"{"image_name": "{x}"}"#,
        r#"{"answer": "x"}"#,
    ] {
        assert!(run("{}", bad, None).summary.is_err(), "{bad}");
    }
    assert!(run(&questions(&[]), BESIDE, None).summary.is_err());
}

#[test]
fn what_is_of_no_use_is_named_and_the_next_is_read() {
    for (bad, answer, codes) in [
        (
            r#"{"image_id": 1, "question": "q"}"#,
            None,
            vec!["vqa-v2-no-question-id"],
        ),
        (
            r#"{"question_id": 1, "question": "q"}"#,
            Some(A1),
            vec!["vqa-v2-no-image"],
        ),
        (
            r#"{"question_id": 1, "image_id": 1, "question": " "}"#,
            Some(A1),
            vec!["vqa-v2-no-question-text"],
        ),
        (Q1, None, vec!["vqa-v2-no-annotation"]),
        (
            Q1,
            Some(r#"{"question_id": 1, "answers": []}"#),
            vec!["vqa-v2-no-answer", "vqa-v2-no-annotation"],
        ),
        (r#"{"question_id": }"#, None, vec!["malformed-json"]),
    ] {
        let answers: Vec<&str> = answer.into_iter().chain([A2]).collect();
        let outcome = run(&questions(&[bad, Q2]), BESIDE, Some(&annotations(&answers)));
        assert_eq!(outcome.counts(), (2, 1, 1), "{bad}");
        assert_eq!(outcome.codes(), codes, "{bad}");
        assert!(
            outcome
                .remarks
                .iter()
                .all(|r| r.at.as_ref().unwrap().record_index == Some(0))
        );
    }
    let orphan = run(&questions(&[Q2]), BESIDE, Some(&annotations(&[A1, A2])));
    assert_eq!(
        (orphan.counts(), orphan.codes()),
        ((2, 1, 1), vec!["vqa-v2-no-question"])
    );
    assert_eq!(orphan.remarks[0].at.as_ref().unwrap().source, "other.json");
    let twice = run(&questions(&[Q1, Q2, Q2]), BESIDE, Some(&annotations(&[A1])));
    assert_eq!(twice.counts(), (3, 1, 2));
    assert_eq!(
        twice.codes(),
        ["vqa-v2-duplicate-question", "vqa-v2-no-annotation"]
    );
    let missing = r#"{"companion": "other.json", "image_name": "missing.png"}"#;
    let missing = run(&questions(&[Q1]), missing, Some(&annotations(&[A1])));
    assert_eq!(missing.codes(), ["vqa-v2-missing-image"]);
    let nameless = questions(&[Q1]).replace("data_subtype", "subtype");
    let other = annotations(&[A1]).replace("data_subtype", "subtype");
    assert_eq!(
        run(&nameless, BESIDE, Some(&other)).fault(),
        Some("vqa-v2-no-subtype")
    );
}

#[test]
fn only_its_two_files_are_recognised() {
    assert_eq!(VqaV2::detect(QUESTIONS, "a"), 95);
    assert_eq!(VqaV2::detect(ANNOTATIONS, "a"), 95);
    for other in [
        "",
        "[]",
        "{}",
        r#"{"questions": ["x"]}"#,
        r#"{"annotations": [{"caption": "x"}]}"#,
    ] {
        assert_eq!(VqaV2::detect(other.as_bytes(), "vqa.json"), 0, "{other}");
    }
}

#[test]
fn no_damage_is_silent() {
    survives_damage::<VqaV2>(QUESTIONS, BESIDE, &[("other.json", ANNOTATIONS)]);
    survives_damage::<VqaV2>(ANNOTATIONS, BESIDE, &[("other.json", QUESTIONS)]);
}
