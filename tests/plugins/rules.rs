//! The suite of rules on plugins that break them: each is found, and said to the author.

use std::path::PathBuf;

use graft::dataset::{Role, Sample, Turn};
use graft_plugins::check::{Export, Report, Verdict, With, check};
use graft_plugins::{Grants, Host};

use super::guest::{converter, evaluator};
use super::hostile::tight;

fn report(plugin: &[u8]) -> Report {
    let host = Host::new(tight(), None).unwrap();
    let plugin = host
        .load_bytes("x.wasm", plugin, &Grants::default())
        .unwrap();
    let with = With {
        export: Some(Export {
            name: "export.json".into(),
            bytes: b"[1, 2, 3]".to_vec(),
            assets: PathBuf::from("no-such-folder"),
        }),
        samples: vec![Sample {
            id: "1".into(),
            turns: vec![Turn::text(Role::Assistant, "yes")],
            ..Sample::default()
        }],
        ..With::default()
    };
    check(&plugin, &with)
}

/// What the suite says about a rule: what the plugin did, or nothing if it keeps it.
fn said(report: &Report, rule: &str) -> String {
    let row = report.rows.iter().find(|row| row.rule == rule);
    let row = row.unwrap_or_else(|| panic!("there is no rule {rule:?}: {report:#?}"));
    match &row.verdict {
        Verdict::Broken { what, advice } => {
            assert!(!advice.is_empty(), "{rule}");
            what.clone()
        }
        _ => String::new(),
    }
}

#[track_caller]
fn broken(report: &Report, rule: &str, sentence: &str) {
    let said = said(report, rule);
    assert!(
        said.contains(sentence),
        "{rule}: {said:?} lacks {sentence:?}"
    );
}

#[test]
fn a_converter_that_does_nothing_is_told_so() {
    let report = report(&converter("(call $leave) (global.get $answer)"));
    broken(&report, "describes itself", "it names no format");
    broken(
        &report,
        "schema of its options",
        "allows any further option",
    );
    broken(&report, "refuses wrong options", "no-such-option");
    broken(&report, "detects files", "200 of 100 sure");
    broken(&report, "converts", "no sample in export.json");
    broken(&report, "tells of its progress", "never calls checkpoint");
    broken(&report, "stops when it is told to", "cannot be stopped");
    broken(
        &report,
        "an export that cannot be read on",
        "returns 0 samples",
    );
    for kept in ["empty input", "hostile input", "an export cut anywhere"] {
        assert_eq!(said(&report, kept), "", "{kept}");
    }
}

#[test]
fn a_converter_that_crashes_is_told_on_what() {
    let report = report(&converter("unreachable"));
    broken(&report, "empty input", "an empty export");
    broken(&report, "input of another format", "list.json");
    broken(&report, "hostile input", "65,536 random bytes");
    broken(&report, "an export cut anywhere", "cut at byte 0");
    broken(&report, "a damaged export", "damaged export number 0");
}

#[test]
fn a_converter_that_makes_samples_of_nothing_is_told_so() {
    // One empty sample, whatever the export; a sink that refuses is not heard.
    let report = report(&converter(
        "(call $emit (local.get $sink) (global.get $zeros) (i32.const 1) (i32.const 4096))
         (i64.store offset=16 (global.get $answer) (i64.const 1))
         (call $leave) (global.get $answer)",
    ));
    broken(&report, "empty input", "samples of nothing");
    broken(&report, "converts", "has 0 turns");
}

#[test]
fn a_converter_that_goes_on_when_it_is_told_to_stop_is_told_so() {
    let report = report(&converter(
        "(call $checkpoint (i64.const 9) (i32.const 1) (i64.const 5) (i32.const 4096))
         (call $checkpoint (i64.const 2) (i32.const 0) (i64.const 0) (i32.const 4096))
         (call $leave) (global.get $answer)",
    ));
    broken(&report, "tells of its progress", "it was at 9 of 5");
    broken(
        &report,
        "stops when it is told to",
        "told to stop at checkpoint 1",
    );
}

#[test]
fn a_converter_that_depends_on_how_bytes_arrive_is_told_so() {
    // Records are the bytes of the first read.
    let report = report(&converter(
        "(call $read (local.get $source) (i32.const 4096) (i32.const 4096))
         (i64.store offset=8 (global.get $answer) (i64.load32_u offset=12 (i32.const 4096)))
         (call $leave) (i32.store8 (global.get $answer) (i32.const 0)) (global.get $answer)",
    ));
    broken(
        &report,
        "the same samples again",
        "7 bytes at a time and from a pipe",
    );
}

#[test]
fn a_converter_that_skips_in_silence_is_told_so() {
    let report = report(&converter(
        "(i64.store offset=24 (global.get $answer) (i64.const 3)) (call $leave) (global.get $answer)",
    ));
    broken(&report, "empty input", "skipped 3 records and says nothing");
}

#[test]
fn an_evaluator_with_undeclared_or_endless_scores_is_told_so() {
    // A score at 4200 that answers list; its name, value and weight are what the zeros there say.
    let scores = |more: &str| {
        evaluator(
            "",
            &format!(
                "(i32.store (i32.const 4200) (i32.const 1024)) {more}
                 (i32.store offset=8 (global.get $answer) (i32.const 4200))
                 (i32.store offset=12 (global.get $answer) (i32.const 1))"
            ),
        )
    };
    let undeclared = report(&scores(""));
    broken(&undeclared, "schema of its options", "not of the type");
    broken(&undeclared, "refuses wrong options", "no-such-option");
    broken(&undeclared, "scores answers", "which it does not declare");
    let named = "(i32.store (i32.const 4204) (i32.const 1))";
    let endless = report(&scores(&format!(
        "{named} (f64.store (i32.const 4208) (f64.const nan))"
    )));
    broken(&endless, "scores answers", "it scores NaN");
    let light = report(&scores(&format!(
        "{named} (f64.store (i32.const 4216) (f64.const -1))"
    )));
    broken(&light, "odd answers", "with the weight -1");
    assert_eq!(said(&report(&scores(named)), "scores answers"), "");
}

#[test]
fn an_evaluator_that_crashes_is_told_on_what() {
    let crashes = report(&evaluator("", "unreachable"));
    broken(&crashes, "scores answers", "of the answer \"yes\"");
    broken(&crashes, "odd answers", "of nothing as the answer");
    broken(
        &crashes,
        "a sample without an answer",
        "to a sample without one",
    );
    let never = report(&evaluator("unreachable", ""));
    broken(&never, "finishes", "`start` failed");
    broken(&never, "the same scores again", "with the seed 0");
}

#[test]
fn an_evaluator_without_room_for_a_long_answer_is_told_so() {
    let report = report(&evaluator("", ""));
    assert_eq!(said(&report, "the same scores again"), "");
    broken(&report, "odd answers", "of a long word as the answer");
}
