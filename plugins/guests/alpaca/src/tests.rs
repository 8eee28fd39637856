//! The converter on exports in memory.

use graft_plugin::Converter;
use graft_plugin::testing::{Outcome, convert, survives_damage};

use super::Alpaca;

const FIXTURE: &[u8] = include_bytes!("../../../../tests/golden/plugins/alpaca/export.json");
const SEEDS: &[u8] = include_bytes!("../../../../tests/golden/plugins/alpaca/seed_tasks.jsonl");

fn run(export: &str, options: &str) -> Outcome {
    convert::<Alpaca>(export.as_bytes(), options, &[])
}

#[test]
fn the_dialects_of_the_format_are_read() {
    for (export, expected) in [
        (
            r#"{"instruction": "add", "input": "1 2", "output": "3"}"#,
            vec!["add\n1 2", "3"],
        ),
        (
            r#"{"instruction": "add", "input": "", "output": 3}"#,
            vec!["add", "3"],
        ),
        (
            r#"{"instruction": "add", "input": null, "output": "3", "text": "x"}"#,
            vec!["add", "3"],
        ),
        (
            r#"{"instruction": "add", "input": "<noinput>", "output": "3"}"#,
            vec!["add", "3"],
        ),
        (
            r#"{"instruction": "who", "context": "Ana", "response": "her", "category": "qa"}"#,
            vec!["who\nAna", "her"],
        ),
        (
            r#"{"instruction": "q", "chosen": "good", "rejected": "bad"}"#,
            vec!["q", "good"],
        ),
        (
            r#"{"instruction": "q", "output": "a", "system": "s", "history": [["p", "b"]]}"#,
            vec!["s", "p", "b", "q", "a"],
        ),
        (
            r#"{"instruction": "<image>q", "output": "a", "images": ["a.png"]}"#,
            vec!["[image]", "q", "a"],
        ),
        (
            r#"{"instruction": "q", "output": "a", "image": "a.png"}"#,
            vec!["[image]", "q", "a"],
        ),
        (r#"{"prompt": "q", "completion": "a"}"#, vec!["q", "a"]),
    ] {
        let outcome = run(export, "{}");
        assert_eq!(
            outcome.counts(),
            (1, 1, 0),
            "{export}: {:?}",
            outcome.codes()
        );
        assert_eq!(outcome.texts(0), expected, "{export}");
    }
}

#[test]
fn instances_are_a_sample_each() {
    let export = r#"{"id": "seed", "instruction": "add", "instances": [{"input": "1 2", "output": "3"},
        {"input": "", "output": ""}, {"input": "", "output": "4"}]}"#;
    let outcome = run(export, "{}");
    assert_eq!(outcome.counts(), (1, 2, 0));
    assert_eq!(outcome.codes(), ["alpaca-no-answer"]);
    assert_eq!(
        outcome.remarks[0].at.as_ref().unwrap().field.as_deref(),
        Some("/instances/1")
    );
    let ids: Vec<&str> = outcome.samples.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["seed#1", "seed#3"]);
}

#[test]
fn the_question_is_what_the_template_says() {
    let options = r####"{"template": "### {instruction}: {{{input}}}", "template_without_input": "-{instruction}-", "system": "s"}"####;
    let export = r#"[{"instruction": "add", "input": "1", "output": "3"}, {"instruction": "go", "output": "x"}]"#;
    let outcome = run(export, options);
    assert_eq!(outcome.texts(0), ["s", "### add: {1}", "3"]);
    assert_eq!(outcome.texts(1), ["s", "-go-", "x"]);
    for bad in [
        r#"{"template": "{output}"}"#,
        r#"{"template_without_input": "{input}"}"#,
        r#"{"template": "{"}"#,
    ] {
        assert!(run("[]", bad).summary.is_err(), "{bad}");
    }
}

#[test]
fn a_record_that_is_of_no_use_is_named_and_the_next_is_read() {
    for (bad, code, field) in [
        ("[1]", "alpaca-no-instruction", None),
        (r#"{"output": "a"}"#, "alpaca-no-instruction", None),
        (
            r#"{"instruction": " ", "output": "a"}"#,
            "alpaca-no-instruction",
            None,
        ),
        (
            r#"{"instruction": ["q"], "output": "a"}"#,
            "alpaca-not-text",
            Some("/instruction"),
        ),
        (r#"{"instruction": "q"}"#, "alpaca-no-answer", None),
        (
            r#"{"instruction": "q", "output": "<nooutput>"}"#,
            "alpaca-no-answer",
            None,
        ),
        (
            r#"{"instruction": "q", "output": {"a": 1}}"#,
            "alpaca-not-text",
            Some("/output"),
        ),
        (
            r#"{"instruction": "q", "instances": []}"#,
            "alpaca-no-answer",
            Some("/instances"),
        ),
        (
            r#"{"instruction": "q", "output": "a", "history": "x"}"#,
            "alpaca-bad-history",
            Some("/history"),
        ),
        (
            r#"{"instruction": "q", "output": "a", "history": [["x"]]}"#,
            "alpaca-bad-history",
            Some("/history/0"),
        ),
        (
            r#"{"instruction": "q", "output": "a", "images": ["missing.png"]}"#,
            "alpaca-missing-image",
            Some("/images/0"),
        ),
        (
            r#"{"instruction": "<image>", "output": "a"}"#,
            "alpaca-marker-count",
            None,
        ),
        (r#"{"instruction": }"#, "malformed-json", None),
    ] {
        let export = format!("[{bad},\n{{\"instruction\": \"q\", \"output\": \"a\"}}]");
        let outcome = run(&export, "{}");
        assert_eq!(outcome.counts(), (2, 1, 1), "{bad}");
        assert_eq!(outcome.codes(), [code], "{bad}");
        let at = outcome.remarks[0].at.as_ref().unwrap();
        assert_eq!(
            (at.record_index, at.line, at.field.as_deref()),
            (Some(0), Some(1), field),
            "{bad}"
        );
    }
}

#[test]
fn only_instructions_are_recognised() {
    assert_eq!(Alpaca::detect(FIXTURE, "a"), 95);
    assert_eq!(Alpaca::detect(SEEDS, "a"), 95);
    assert!(Alpaca::detect(&FIXTURE[..100], "a") >= 50);
    for other in [
        "",
        "[]",
        "[1]",
        "{}",
        r#"{"output": "a", "input": "b"}"#,
        "instruction,output\n1,2",
    ] {
        assert_eq!(
            Alpaca::detect(other.as_bytes(), "alpaca.json"),
            0,
            "{other}"
        );
    }
}

#[test]
fn no_damage_is_silent() {
    survives_damage::<Alpaca>(FIXTURE, "{}", &[]);
    survives_damage::<Alpaca>(SEEDS, "{}", &[]);
}
