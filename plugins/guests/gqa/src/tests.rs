//! Whole runs over a few questions.

use graft_plugin::{Error, Evaluator, Part, Prediction, Role, Run, Sample, Turn, Value};

use super::Gqa;

fn sample(id: &str, hoped: &str, extra: &[(&str, &str)]) -> Sample {
    let content = vec![Part::Text(hoped.into())];
    let role = Role::Assistant;
    let json = |(name, text): &(&str, &str)| ((*name).into(), Value::Json((*text).into()));
    Sample {
        id: id.into(),
        images: vec![],
        turns: vec![Turn { role, content }],
        origin: None,
        extra: extra.iter().map(json).collect(),
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

fn totals(run: &mut Gqa) -> Vec<(String, f64)> {
    let totals = run.finish().unwrap().into_iter();
    totals.map(|s| (s.metric, s.value)).collect()
}

#[test]
fn questions_are_told_apart_by_type_steps_and_words() {
    let mut run = Gqa::start("{}", 0).unwrap();
    let types = r#"{"structural": "query", "semantic": "rel", "detailed": "relS"}"#;
    let program = r#"[{"operation": "select", "argument": "cup (1)"},
        {"operation": "relate", "argument": "cup,on,s (2)"}, {"operation": "query", "argument": "name"}]"#;
    let asked = [
        ("types", types),
        ("semantic", program),
        ("question", r#""What is it on?""#),
    ];
    let scores = run
        .score(&sample("1", "table", &asked), &said("Table."))
        .unwrap();
    let names: Vec<_> = scores.iter().map(|s| s.metric.as_str()).collect();
    assert_eq!(names, ["accuracy", "open"]);
    run.score(&sample("2", "yes", &[]), &said("no")).unwrap();
    let hoped = [
        ("accuracy", 0.5),
        ("accuracy[steps=2]", 1.0),
        ("accuracy[types.semantic=rel]", 1.0),
        ("accuracy[types.structural=query]", 1.0),
        ("accuracy[words=4]", 1.0),
    ];
    let hoped: Vec<_> = hoped.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    assert_eq!(totals(&mut run), hoped);
}

#[test]
fn entailed_questions_count_where_the_first_was_right() {
    let mut run = Gqa::start(r#"{"consistency": true}"#, 0).unwrap();
    let entails = |ids| [("entailed", ids)];
    let unbalanced = [("isBalanced", "false")];
    let one = sample("1", "a", &entails(r#"["1", "2", "3", "unasked"]"#));
    run.score(&one, &said("a")).unwrap();
    let wrong = sample("4", "a", &entails(r#"["2"]"#));
    run.score(&wrong, &said("b")).unwrap();
    let alone = sample("5", "a", &entails(r#"["unasked"]"#));
    run.score(&alone, &said("a")).unwrap();
    assert!(
        run.score(&sample("2", "a", &unbalanced), &said("a"))
            .unwrap()
            .is_empty()
    );
    assert!(
        run.score(&sample("3", "a", &unbalanced), &said("b"))
            .unwrap()
            .is_empty()
    );
    let totals = totals(&mut run);
    assert_eq!(totals[0], ("accuracy".into(), 2.0 / 3.0));
    assert_eq!(totals[1], ("consistency".into(), 0.5));
}

#[test]
fn validity_plausibility_and_distribution_need_their_fields() {
    let mut run = Gqa::start("{}", 0).unwrap();
    let groups = ("groups", r#"{"global": "color", "local": null}"#);
    let asked = [
        groups,
        ("valid", r#"["red", "blue"]"#),
        ("plausible", r#"["red"]"#),
    ];
    for answer in ["red", "blue", "dog"] {
        run.score(&sample("s", "red", &asked), &said(answer))
            .unwrap();
    }
    let common = (
        "types",
        r#"{"structural": "compare", "detailed": "twoCommon"}"#,
    );
    let asked = [common, ("valid", r#"["x"]"#)];
    run.score(&sample("s", "color", &asked), &said("shape"))
        .unwrap();
    let totals = totals(&mut run);
    let value = |name: &str| totals.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!(value("validity"), 0.75);
    assert_eq!(value("plausibility"), 1.0 / 3.0);
    // Three were hoped to be red and one was: (1 - 3)^2 / 3, a hundredth of it.
    assert!((value("distribution") - 4.0 / 300.0).abs() < 1e-12);
}

#[test]
fn annotations_of_another_shape_are_named() {
    let mut run = Gqa::start("{}", 0).unwrap();
    for bad in [
        ("types", "{"),
        ("types", r#"{"structural": {}}"#),
        ("semantic", r#"[{"operation": 1}]"#),
        ("semantic", "["),
        ("entailed", "[[]]"),
        ("valid", "[null]"),
    ] {
        let error = run.score(&sample("s", "a", &[bad]), &said("a"));
        assert!(matches!(error, Err(Error::InvalidInput(_))), "{bad:?}");
    }
    assert!(run.finish().unwrap().is_empty());
    assert!(Gqa::start(r#"{"consistency": "maybe"}"#, 0).is_err());
}
