//! The converter on tables in memory.

use graft_plugin::testing::{Outcome, convert, survives_damage};
use graft_plugin::{Converter, Error, ImageRef};

use super::Csv;

const FIXTURE: &[u8] = include_bytes!("../../../../tests/golden/plugins/csv/export.csv");

fn run(export: &str, options: &str) -> Outcome {
    convert::<Csv>(export.as_bytes(), options, &[])
}

#[test]
fn columns_are_found_by_their_usual_names() {
    for (export, expected) in [
        ("question,answer\nq,a\n", vec!["q", "a"]),
        ("\u{feff}Prompt;Response\r\nq;a\r\n", vec!["q", "a"]),
        ("id\tinput\toutput\n1\tq\ta", vec!["q", "a"]),
        ("sep=;\nquestion;answer\nq;a", vec!["q", "a"]),
        (
            "File Name,Question,Answer\na.png,q,a",
            vec!["[image]", "q", "a"],
        ),
        ("text,label\nq,a", vec!["q", "a"]),
        ("system,question,answer\ns,q,a", vec!["s", "q", "a"]),
        (
            "question,answer\n\"q, \"\"r\"\"\ns\",a",
            vec!["q, \"r\"\ns", "a"],
        ),
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
    assert_eq!(run("id,question,answer\n7,q,a", "{}").samples[0].id, "7");
}

#[test]
fn options_say_which_column_is_which() {
    let table = "a,b,c,d\n1,2,x.png,4\n";
    let options = r#"{"question_column": "b", "answer_column": "d", "image_column": "c", "id_column": "a", "image_root": "in"}"#;
    let outcome = run(table, options);
    assert_eq!(outcome.texts(0), ["[image]", "2", "4"]);
    assert_eq!(outcome.samples[0].id, "1");
    assert!(matches!(&outcome.samples[0].images[0], ImageRef::Asset(name) if name == "in/x.png"));
    let options = r#"{"question": "{a} plus {b}? {{}}", "answer_column": "d", "answers": {"4": "four"}, "system": "s"}"#;
    assert_eq!(run(table, options).texts(0), ["s", "1 plus 2? {}", "four"]);
    let options = r#"{"question": "What is it?", "answer_column": "d", "image_column": "c"}"#;
    assert_eq!(
        run(table, options).texts(0),
        ["[image]", "What is it?", "4"]
    );
    let options = r#"{"header": false, "question_column": "2", "answer_column": "4"}"#;
    assert_eq!(run(table, options).texts(1), ["2", "4"]);
    assert_eq!(
        run("q|a", r#"{"header": false, "separator": "|"}"#).texts(0),
        ["q", "a"]
    );
    for bad in [
        r#"{"question": "{a"}"#,
        r#"{"separator": "x"}"#,
        r#"{"header": false, "answer_column": "d"}"#,
        r#"{"header": false, "question": "{a}"}"#,
        r#"{"header": false, "answer_column": "0"}"#,
        r#"{"answers": ["x"]}"#,
    ] {
        let fault = run(table, bad).summary.unwrap_err();
        assert!(
            matches!(fault, Error::InvalidOptions(_)),
            "{bad}: {fault:?}"
        );
    }
    for (table, options) in [
        ("", "{}"),
        ("a,b\n", "{}"),
        ("question,b\n1,2\n", "{}"),
        ("question,answer\n", r#"{"answer_column": "x"}"#),
        ("question,answer\n", r#"{"question": "{x}"}"#),
        ("question,\"answer\n", "{}"),
    ] {
        let fault = run(table, options).summary.unwrap_err();
        assert!(
            matches!(fault, Error::InvalidInput(_)),
            "{table}: {fault:?}"
        );
    }
}

#[test]
fn a_row_that_is_of_no_use_is_named_and_the_next_is_read() {
    for (bad, code, field, column) in [
        ("1", "csv-field-count", None, 1),
        ("1,2,3,4", "csv-field-count", None, 1),
        ("q,\"a\"x,", "csv-bad-row", None, 6),
        (",a,", "csv-empty-turn", Some("question"), 1),
        ("q,,", "csv-empty-turn", Some("answer"), 3),
        ("q,a,missing.png", "csv-missing-image", Some("image"), 5),
        ("q,a,/x.png", "csv-image-name", Some("image"), 5),
    ] {
        let outcome = run(&format!("question,answer,image\nq,a,\n{bad}\nq,a,\n"), "{}");
        assert_eq!(outcome.counts(), (3, 2, 1), "{bad}");
        assert_eq!(outcome.codes(), [code], "{bad}");
        let at = outcome.remarks[0].at.as_ref().unwrap();
        assert_eq!((at.record_index, at.line), (Some(1), Some(3)), "{bad}");
        assert_eq!(
            (at.field.as_deref(), at.column),
            (field, Some(column)),
            "{bad}"
        );
    }
    let open = run("question,answer\nq,\"a\nr,b\n", "{}");
    assert_eq!(
        (open.counts(), open.codes()),
        ((2, 1, 1), vec!["csv-bad-row"])
    );
    let bytes = convert::<Csv>(b"question,answer\nq,\xff\nr,b\n", "{}", &[]);
    assert_eq!(bytes.counts(), (2, 1, 1));
    assert_eq!(bytes.remarks[0].at.as_ref().unwrap().column, Some(3));
    let units = convert::<Csv>(b"\xff\xfeq\0", "{}", &[]);
    assert_eq!(units.fault(), Some("csv-encoding"));
}

#[test]
fn only_tables_are_recognised() {
    assert_eq!(Csv::detect(FIXTURE, "data.csv"), 90);
    assert_eq!(Csv::detect(FIXTURE, "data"), 40);
    assert_eq!(Csv::detect(b"a,b\n1,2", "data.csv"), 70);
    for other in ["", "one", "{\"a\": 1, \"b\": 2}", "[1, 2]", "\0,\0"] {
        assert_eq!(Csv::detect(other.as_bytes(), "data.csv"), 0, "{other}");
    }
}

#[test]
fn no_damage_is_silent() {
    survives_damage::<Csv>(FIXTURE, "{}", &[]);
    let options = r#"{"header": false, "question": "{3}: {2}", "answer_column": "4"}"#;
    survives_damage::<Csv>(FIXTURE, options, &[]);
}
