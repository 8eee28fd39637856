//! The converter on exports in memory.

use graft_plugin::testing::{Outcome, convert, survives_damage};
use graft_plugin::{Converter, ImageRef, Role};

use super::ShareGpt;

const FIXTURE: &[u8] = include_bytes!("../../../../tests/golden/plugins/sharegpt/export.json");
const LINES: &[u8] = include_bytes!("../../../../tests/golden/plugins/sharegpt/lines.jsonl");

fn run(export: &str, options: &str) -> Outcome {
    convert::<ShareGpt>(export.as_bytes(), options, &[])
}

const Q: &str = r#"{"from": "human", "value": "q"}"#;
const A: &str = r#"{"from": "gpt", "value": "a"}"#;

fn record(more: &str, turns: &[&str]) -> String {
    format!("{{{more}\"conversations\": [{}]}}", turns.join(", "))
}

#[test]
fn the_dialects_of_the_format_are_read() {
    for export in [
        record("", &[Q, A]),
        r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#.into(),
        r#"{"items": [{"from": "user", "value": "q"}, {"from": "chatgpt", "text": "a"}]}"#.into(),
        r#"{"conversations": [{"from": "Human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"}}"#.into(),
        record(r#""system": "", "images": [], "#, &[Q, A]),
    ] {
        let outcome = run(&export, "{}");
        assert_eq!(outcome.counts(), (1, 1, 0), "{export}: {:?}", outcome.codes());
        assert_eq!(outcome.texts(0), ["q", "a"]);
        assert_eq!(outcome.samples[0].id, "record-1");
    }
    let outcome = run(
        &record(r#""system": "own", "id": 7, "#, &[Q, A]),
        r#"{"system": "given"}"#,
    );
    assert_eq!(outcome.texts(0), ["own", "q", "a"]);
    assert_eq!(outcome.samples[0].turns[0].role, Role::System);
    assert_eq!(outcome.samples[0].id, "7");
    assert_eq!(
        run(&record("", &[Q, A]), r#"{"system": "given"}"#).texts(0)[0],
        "given"
    );
}

#[test]
fn images_are_named_by_the_record_and_shown_by_its_text() {
    let shown = r#"{"from": "human", "value": "<image>\nq"}"#;
    for images in [
        r#""image": "in/a.png", "#,
        r#""images": ["in/a.png"], "#,
        r#""images": [{"path": "in\\a.png"}], "#,
    ] {
        let outcome = run(&record(images, &[shown, A]), "{}");
        assert_eq!(outcome.texts(0), ["[image]", "q", "a"]);
        assert!(
            matches!(&outcome.samples[0].images[0], ImageRef::Asset(name) if name == "in/a.png")
        );
    }
    let options = r#"{"image_root": "coco", "image_strip": "/gqa/"}"#;
    let outcome = run(&record(r#""image": "/gqa/a.png", "#, &[shown, A]), options);
    assert!(matches!(&outcome.samples[0].images[0], ImageRef::Asset(name) if name == "coco/a.png"));
}

#[test]
fn a_record_that_is_of_no_use_is_named_and_the_next_is_read() {
    let call = r#"{"from": "function_call", "value": "{}"}"#;
    let result = r#"{"from": "observation", "value": "1"}"#;
    for (bad, code, field) in [
        ("7".to_owned(), "sharegpt-unknown-record", None),
        (
            r#"{"conversations": "q"}"#.into(),
            "sharegpt-unknown-record",
            None,
        ),
        (record("", &[Q]), "sharegpt-no-answer", None),
        (
            record("", &[r#"{"value": "q"}"#, A]),
            "sharegpt-unknown-role",
            Some("/conversations/0"),
        ),
        (
            record("", &[r#"{"from": "cat", "value": "q"}"#]),
            "sharegpt-unknown-role",
            Some("/conversations/0"),
        ),
        (
            record("", &[Q, r#"{"from": "gpt", "value": 7}"#]),
            "sharegpt-turn-value",
            Some("/conversations/1"),
        ),
        (
            record("", &[Q, r#"{"from": "gpt", "value": null}"#]),
            "sharegpt-empty-turn",
            Some("/conversations/1"),
        ),
        (
            record("", &[Q, call, result, A]),
            "sharegpt-tool-turn",
            Some("/conversations/1"),
        ),
        (
            record(r#""image": "missing.png", "#, &[Q, A]),
            "sharegpt-missing-image",
            Some("/image"),
        ),
        (
            record(r#""images": ["../a.png"], "#, &[Q, A]),
            "sharegpt-image-name",
            Some("/images/0"),
        ),
        (
            record(r#""images": [7], "#, &[Q, A]),
            "sharegpt-image-name",
            Some("/images/0"),
        ),
        (
            record(r#""video": "a.mp4", "#, &[Q, A]),
            "sharegpt-unsupported-media",
            Some("/video"),
        ),
        (
            record(r#""system": 7, "#, &[Q, A]),
            "sharegpt-turn-value",
            Some("/system"),
        ),
        (
            r#"{"conversations": [}, {]}"#.into(),
            "malformed-json",
            None,
        ),
    ] {
        let export = format!("[{bad},\n{}]", record("", &[Q, A]));
        let outcome = run(&export, "{}");
        assert_eq!(outcome.counts(), (2, 1, 1), "{bad}");
        let remark = outcome.remarks.last().unwrap();
        assert_eq!(remark.code, code, "{bad}");
        let at = remark.at.as_ref().unwrap();
        assert_eq!((at.record_index, at.line), (Some(0), Some(1)), "{bad}");
        assert_eq!(at.field.as_deref(), field, "{bad}");
    }
    let outcome = run(
        &record("", &[Q, call, result, A]),
        r#"{"tool_turns": "text"}"#,
    );
    assert_eq!(outcome.texts(0), ["q", "{}", "1", "a"]);
}

#[test]
fn options_are_checked() {
    for bad in [
        r#"{"tool_turns": "x"}"#,
        r#"{"system": 7}"#,
        r#"{"check_images": "maybe"}"#,
    ] {
        assert!(run("[]", bad).summary.is_err(), "{bad}");
    }
}

#[test]
fn only_conversations_are_recognised() {
    assert_eq!(ShareGpt::detect(FIXTURE, "a"), 95);
    assert_eq!(ShareGpt::detect(LINES, "a"), 95);
    assert!(ShareGpt::detect(&FIXTURE[..120], "a") >= 80);
    for other in [
        "",
        "[]",
        "{}",
        r#"{"messages": 7}"#,
        r#"{"conversations": [7]}"#,
        "a,b\n1,2",
    ] {
        assert_eq!(
            ShareGpt::detect(other.as_bytes(), "sharegpt.json"),
            0,
            "{other}"
        );
    }
}

#[test]
fn no_damage_is_silent() {
    survives_damage::<ShareGpt>(FIXTURE, "{}", &[]);
    survives_damage::<ShareGpt>(LINES, r#"{"tool_turns": "text"}"#, &[]);
}
