//! The examples of `plugins/examples`: those in C as they lie in the repository, and those in C and Rust as they
//! were just built if `GRAFT_REBUILT_PLUGINS` names the folder of built plugins. All of a kind do the same.

use std::fs;
use std::path::{Path, PathBuf};

use graft::dataset::{Diagnostic, Role, Sample};
use graft_plugins::check::{Export, With, check};
use graft_plugins::{Grants, Host, Limits, Plugin};

use super::desk::{Desk, Memory};
use super::keeps;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/plugins/examples")
}

fn questions() -> Vec<u8> {
    fs::read(folder().join("questions.tsv")).unwrap()
}

/// Every example of `kind`, by the file it is in.
fn examples(kind: &str) -> Vec<(String, Plugin)> {
    let host = Host::new(Limits::default(), None).unwrap();
    let rebuilt = std::env::var_os("GRAFT_REBUILT_PLUGINS").map(PathBuf::from);
    let mut files = vec![folder().join(format!("c-{kind}.wasm"))];
    for language in ["c", "rust"] {
        let file = format!("examples/{language}-{kind}.wasm");
        files.extend(rebuilt.as_ref().map(|folder| folder.join(file)));
    }
    let load = |file: PathBuf| {
        let bytes = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let plugin = host.load_bytes("example", &bytes, &Grants::default());
        let name = file.display().to_string();
        let plugin = plugin.unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, plugin)
    };
    files.into_iter().map(load).collect()
}

#[test]
fn examples_keep_the_rules() {
    let with = With {
        export: Some(Export {
            name: "questions.tsv".into(),
            bytes: questions(),
            assets: folder(),
        }),
        ..With::default()
    };
    for kind in ["converter", "evaluator"] {
        for (name, plugin) in examples(kind) {
            keeps(&name, &check(&plugin, &with));
        }
    }
}

#[test]
fn examples_of_a_converter_make_the_same_samples() {
    use graft::dataset::Converter;
    for (name, plugin) in examples("converter") {
        let converter = plugin.into_converter().unwrap();
        let (desk, mut samples) = (Desk::new(&folder()), Vec::new());
        let mut source = Memory::named("questions.tsv", questions());
        let summary = converter.convert(&mut source, &mut samples, "{}", &desk);
        let summary = summary.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((summary.records, summary.skipped), (7, 3), "{name}");
        let said = |sample: &Sample| {
            let texts = sample.turns.iter().map(|turn| {
                let who = if turn.role == Role::User {
                    "user"
                } else {
                    "assistant"
                };
                format!("{who}: {}", turn.plain_text())
            });
            let origin = sample.origin.as_ref().unwrap();
            let place = (origin.line.unwrap(), origin.byte_offset.unwrap());
            (
                sample.id.clone(),
                texts.collect::<Vec<_>>().join(", "),
                place,
            )
        };
        let expected = [
            ("1", "user: What is the total?, assistant: 42.00", (1, 0)),
            ("3", "user: And the date?, assistant: 1 May", (3, 37)),
            ("5", "user: Grüße?, assistant: ja\tund nein", (5, 70)),
            (
                "7",
                "user: The last one?, assistant: without a line end",
                (7, 92),
            ),
        ];
        let expected = expected.map(|(id, said, place)| (id.to_owned(), said.to_owned(), place));
        assert_eq!(
            samples.iter().map(said).collect::<Vec<_>>(),
            expected,
            "{name}"
        );
        let remarks = desk.remarks.into_inner();
        let in_short = |remark: &Diagnostic| {
            let at = remark.at.as_ref().unwrap();
            (
                remark.code.clone(),
                at.line.unwrap(),
                at.record_index.unwrap(),
            )
        };
        let expected = [("no-tab", 2, 1), ("not-utf8", 4, 3), ("no-tab", 6, 5)];
        let expected = expected.map(|(code, line, record)| (code.to_owned(), line, record));
        assert_eq!(
            remarks.iter().map(in_short).collect::<Vec<_>>(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_long_export_goes_through_the_examples_in_batches() {
    use graft::dataset::Converter;
    // Lines of all lengths, one longer than a batch, so that samples go alone, in part-filled and in full batches.
    let answer = |i: usize| "x".repeat(if i == 500 { 300_000 } else { i % 700 });
    let lines: Vec<_> = (0..1000)
        .map(|i| format!("question {i}\t{}\n", answer(i)))
        .collect();
    for (name, plugin) in examples("converter") {
        let converter = plugin.into_converter().unwrap();
        let (desk, mut samples) = (Desk::new(&folder()), Vec::new());
        let mut source = Memory::named("long.tsv", lines.concat());
        converter
            .convert(&mut source, &mut samples, "{}", &desk)
            .unwrap();
        assert_eq!(samples.len(), lines.len(), "{name}");
        for (i, sample) in samples.iter().enumerate() {
            assert_eq!(
                sample.turns[0].plain_text(),
                format!("question {i}"),
                "{name}"
            );
            assert_eq!(sample.turns[1].plain_text(), answer(i), "{name} {i}");
        }
        let long = format!("question\t{}\n", "x".repeat(3 << 20));
        let mut source = Memory::named("long.tsv", long);
        let error = converter
            .convert(&mut source, &mut Vec::new(), "{}", &desk)
            .unwrap_err();
        assert!(
            error.to_string().contains("line-too-long"),
            "{name}: {error}"
        );
    }
}

#[test]
fn examples_of_an_evaluator_give_the_same_scores() {
    use graft::evaluate::{Evaluator, Prediction, Remarks};
    for (name, plugin) in examples("evaluator") {
        let evaluator = plugin.into_evaluator().unwrap();
        let mut run = evaluator
            .start("{}", 1, std::sync::Arc::new(Remarks::default()))
            .unwrap();
        let sample = Sample {
            id: "1".into(),
            turns: vec![
                graft::dataset::Turn::text(Role::User, "2 + 2?"),
                graft::dataset::Turn::text(Role::Assistant, " 4\n"),
            ],
            ..Sample::default()
        };
        // Often enough that a run which keeps what it was given would want too much memory.
        let long = "4".repeat(1 << 20);
        for _ in 0..200 {
            for (answer, value) in [
                (long.as_str(), 1.0),
                ("4, of course", 1.0),
                ("It is 4", 0.0),
                ("", 0.0),
            ] {
                let predicted = Prediction {
                    text: answer.into(),
                    ..Prediction::default()
                };
                let scores = run
                    .score(&sample, &predicted)
                    .unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(scores.len(), 1, "{name}");
                assert_eq!(
                    (scores[0].value, scores[0].weight),
                    (value, 1.0),
                    "{name} {:.9}",
                    answer
                );
            }
        }
        let error = run
            .score(&Sample::default(), &Prediction::default())
            .unwrap_err();
        assert!(
            error.to_string().contains("no-reference"),
            "{name}: {error}"
        );
        assert_eq!(run.finish().unwrap(), [], "{name}");
    }
}
