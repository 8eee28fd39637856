//! Plugins that mean harm: each is stopped with one clear sentence, and the host goes on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graft::cancel::Cancel;
use graft::dataset::{ConvertError, Converter, Sample};
use graft::evaluate::{Prediction, Remarks, Scorer};
use graft_plugins::{Exceeded, Grants, Host, Limits, PluginError, WasmConverter};

use crate::desk::{self, Desk, Memory};
use crate::guest::{converter, converter_with, evaluator};

/// Limits that a test reaches soon.
pub fn tight() -> Limits {
    Limits {
        fuel: 200_000_000,
        fuel_per_byte: 0,
        deadline: Duration::from_secs(20),
        memory_bytes: 8 << 20,
        call_bytes: 1 << 20,
        handles: 16,
        assets: 50,
        output_bytes: 1 << 20,
        samples: 1000,
        log_bytes: 1 << 20,
        diagnostics: 500,
        ..Limits::default()
    }
}

fn load(bytes: &[u8], limits: Limits) -> WasmConverter {
    let host = Host::new(limits, None).unwrap();
    let plugin = host.load_bytes("villain", bytes, &Grants::default());
    plugin.unwrap().into_converter().unwrap()
}

/// Runs a converter with this body; then another of the same engine, which must be unharmed.
fn run(body: &str, limits: Limits) -> (Result<(), ConvertError>, Vec<Sample>, Desk) {
    run_bytes(&converter(body), limits)
}

fn run_bytes(bytes: &[u8], limits: Limits) -> (Result<(), ConvertError>, Vec<Sample>, Desk) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), "x").unwrap();
    let desk = Desk::new(folder.path());
    let host = Host::new(limits, None).unwrap();
    let plugin = host.load_bytes("villain", bytes, &Grants::default());
    let villain = plugin.unwrap().into_converter().unwrap();
    let (result, samples) = desk::convert(&villain, "[]", "{}", &desk);
    let honest = host.load_bytes("honest", &converter(HONEST), &Grants::default());
    let honest = honest.unwrap().into_converter().unwrap();
    let (after, _) = desk::convert(&honest, "[]", "{}", &Desk::new(folder.path()));
    assert_eq!(after.unwrap().samples, 0, "the host is unharmed");
    (result.map(|_| ()), samples, desk)
}

pub const HONEST: &str = "(call $leave) (global.get $answer)";

/// The error of the sandbox.
fn plugin_error(result: Result<(), ConvertError>) -> PluginError {
    match result {
        Err(ConvertError::Plugin(error)) => *error.downcast().expect("an error of the sandbox"),
        other => panic!("{other:?}"),
    }
}

fn exceeded(body: &str, limits: Limits) -> Exceeded {
    match plugin_error(run(body, limits).0) {
        PluginError::Limit { limit, .. } => limit,
        other => panic!("{other}"),
    }
}

pub const LOOP: &str = "(loop $l (br $l)) (unreachable)";

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    assert_eq!(exceeded(LOOP, tight()), Exceeded::Fuel(200_000_000));
    // A longer input gives more of it.
    let limits = Limits {
        fuel_per_byte: 1000,
        ..tight()
    };
    assert_eq!(exceeded(LOOP, limits), Exceeded::Fuel(200_002_000));
}

#[test]
fn an_endless_loop_with_fuel_runs_out_of_time() {
    let deadline = Duration::from_millis(300);
    let limits = Limits {
        fuel: u64::MAX,
        deadline,
        ..tight()
    };
    let begun = Instant::now();
    assert_eq!(exceeded(LOOP, limits), Exceeded::Deadline(deadline));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_endless_loop_ends_when_the_user_wants_it() {
    let limits = Limits {
        fuel: u64::MAX,
        ..tight()
    };
    let villain = load(&converter(LOOP), limits);
    let desk = Desk::new(Path::new("."));
    let cancel = desk.cancel.clone();
    let raiser = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        cancel.raise();
    });
    let begun = Instant::now();
    let (result, _) = desk::convert(&villain, "[]", "{}", &desk);
    assert!(matches!(result, Err(ConvertError::Cancelled)), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    raiser.join().unwrap();
}

#[test]
fn memory_ends_at_its_limit() {
    let grow = "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) (unreachable)";
    let Exceeded::Memory { wanted, limit } = exceeded(grow, tight()) else {
        panic!("no memory limit");
    };
    assert!(limit == 8 << 20 && wanted > limit && wanted <= limit + (1 << 20));
    // Also what it wants from the start, and tables.
    let large = converter_with("200", "", HONEST);
    let error = plugin_error(run_bytes(&large, tight()).0).to_string();
    assert!(error.contains("memory_bytes"), "{error}");
    let tables = converter_with("2", "(table 1000000 funcref)", HONEST);
    let error = plugin_error(run_bytes(&tables, tight()).0).to_string();
    assert!(error.contains("table"), "{error}");
}

#[test]
fn deep_recursion_ends_at_the_end_of_its_stack() {
    let body = "(drop (call $recurse (i32.const 0))) (unreachable)";
    assert!(matches!(exceeded(body, tight()), Exceeded::Stack(_)));
}

#[test]
fn a_stack_is_as_deep_as_it_is_said_to_be() {
    // A recursion that ends, 4000 calls deep, with frames of its own.
    let deep = "(func $deep (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
            (else (i32.add (local.get 0) (call $deep (i32.sub (local.get 0) (i32.const 1)))))))";
    let plugin = converter_with(
        "2",
        deep,
        "(drop (call $deep (i32.const 4000))) (call $leave) (global.get $answer)",
    );
    for (stack_bytes, fits) in [(32 << 10, false), (512 << 10, true), (8 << 20, true)] {
        let limits = Limits {
            stack_bytes,
            ..tight()
        };
        match run_bytes(&plugin, limits).0 {
            Ok(()) => assert!(fits, "{stack_bytes}"),
            failed => {
                let error = plugin_error(failed).to_string();
                assert!(
                    !fits && error.contains("32768 bytes (stack_bytes)"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn json_that_is_larger_read_than_written_is_refused() {
    // An attribute at 40000 whose JSON is 64 kB of `[`, 100 times in a sample: a value is two bytes
    // there and dozens here.
    let body = "(memory.fill (global.get $text) (i32.const 44) (i32.const 65536))
        (loop $l
          (i32.store8 offset=8 (i32.add (i32.const 40000) (i32.mul (local.get $i) (i32.const 24))) (i32.const 5))
          (i32.store offset=16 (i32.add (i32.const 40000) (i32.mul (local.get $i) (i32.const 24))) (global.get $text))
          (i32.store offset=20 (i32.add (i32.const 40000) (i32.mul (local.get $i) (i32.const 24))) (i32.const 65536))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $i) (i32.const 10))))
        (i32.store offset=120 (global.get $zeros) (i32.const 40000))
        (i32.store offset=124 (global.get $zeros) (i32.const 10))
        (call $emit (local.get $sink) (global.get $zeros) (i32.const 1) (i32.const 0)) (unreachable)";
    assert_eq!(exceeded(body, tight()), Exceeded::CallBytes(1 << 20));
}

#[test]
fn looking_at_files_for_ever_takes_the_time_of_the_plugin() {
    let forever = |what: &str| format!("(loop $l {what} (br $l)) (unreachable)");
    let deadline = Duration::from_millis(300);
    let limits = Limits {
        fuel: u64::MAX,
        assets: u64::MAX,
        deadline,
        ..tight()
    };
    for call in [
        "(call $open-asset (global.get $text) (i32.const 2) (i32.const 0))",
        "(global.set $top (i32.const 131072)) (call $list-assets (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 0))",
    ] {
        let begun = Instant::now();
        let reached = exceeded(&forever(call), limits.clone());
        assert_eq!(reached, Exceeded::Deadline(deadline), "{call}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn every_limit_names_the_setting_that_raises_it() {
    let limits = format!("{:?}", Limits::default());
    for exceeded in [
        Exceeded::Fuel(1),
        Exceeded::Deadline(Duration::from_secs(1)),
        Exceeded::Memory {
            wanted: 2,
            limit: 1,
        },
        Exceeded::Stack(1),
        Exceeded::CallBytes(1),
        Exceeded::Handles(1),
        Exceeded::Assets(1),
        Exceeded::OutputBytes(1),
        Exceeded::Samples(1),
        Exceeded::LogBytes(1),
        Exceeded::Diagnostics(1),
    ] {
        let said = exceeded.to_string();
        let (_, setting) = said.split_once('(').unwrap();
        let (settings, _) = setting.split_once(')').unwrap();
        for setting in settings.split(", ") {
            assert!(limits.contains(&format!("{setting}: ")), "{said}");
        }
    }
}

#[test]
fn a_crash_is_told_with_its_reason() {
    for (body, reason) in [
        ("(unreachable)", "unreachable"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "divide by zero"),
        ("(i32.load (i32.const 0x7ffffff0))", "out of bounds"),
    ] {
        let PluginError::Trap {
            plugin,
            reason: told,
        } = plugin_error(run(body, tight()).0)
        else {
            panic!("{body} is no trap");
        };
        assert_eq!(plugin, "villain");
        assert!(told.contains(reason), "{told}");
    }
    // Before it is asked for anything.
    let at_start = converter_with("2", "(func $begin (unreachable)) (start $begin)", HONEST);
    assert!(matches!(
        plugin_error(run_bytes(&at_start, tight()).0),
        PluginError::Trap { .. }
    ));
    let loops = converter_with(
        "2",
        "(func $begin (loop $l (br $l))) (start $begin)",
        HONEST,
    );
    let error = plugin_error(run_bytes(&loops, tight()).0);
    assert!(
        matches!(
            error,
            PluginError::Limit {
                limit: Exceeded::Fuel(_),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn lengths_and_values_that_are_none_are_refused() {
    let emit = |at: &str, count: &str| {
        format!(
            "(call $emit (local.get $sink) {at} {count} (i32.const 0)) (call $leave) (global.get $answer)"
        )
    };
    let (zeros, one) = ("(global.get $zeros)", "(i32.const 1)");
    let id = |at: u32, len: u32| {
        format!(
            "(i32.store (global.get $zeros) (i32.const {at})) (i32.store offset=4 (global.get $zeros) (i32.const {len})) {}",
            emit(zeros, one)
        )
    };
    for (what, body, reason) in [
        (
            "a result beyond memory",
            "(call $leave) (i32.const 0x7ffffff0)".to_owned(),
            "out of bounds",
        ),
        (
            "a result out of step",
            "(call $leave) (i32.const 8193)".to_owned(),
            "aligned",
        ),
        (
            "a result of no kind",
            "(i32.store8 (global.get $answer) (i32.const 9)) (call $leave) (global.get $answer)"
                .to_owned(),
            "discriminant",
        ),
        (
            "a list beyond memory",
            emit(zeros, "(i32.const 0x100000)"),
            "out of bounds",
        ),
        (
            "a list as long as can be",
            emit(zeros, "(i32.const -1)"),
            "",
        ),
        ("a text beyond memory", id(64, 0x7fff_ffff), ""),
        ("a text that is no text", id(1056, 3), "utf-8"),
        (
            "a role of no kind",
            format!(
                "(i32.store offset=16 (global.get $zeros) (i32.const 20000)) (i32.store offset=20 (global.get $zeros) (i32.const 1)) (i32.store8 (i32.const 20000) (i32.const 99)) {}",
                emit(zeros, one)
            ),
            "discriminant",
        ),
        (
            "an image that is not there",
            format!(
                "(i32.store offset=16 (global.get $zeros) (i32.const 20000)) (i32.store offset=20 (global.get $zeros) (i32.const 1)) (i32.store offset=4 (i32.const 20000) (i32.const 20032)) (i32.store offset=8 (i32.const 20000) (i32.const 1)) (i32.store8 (i32.const 20032) (i32.const 1)) (i32.store offset=4 (i32.const 20032) (i32.const 5)) {}",
                emit(zeros, one)
            ),
            "shows image 5 but has 0",
        ),
        (
            "a handle it was not given",
            format!("(call $emit (i32.const 77) {zeros} {one} (i32.const 0)) (unreachable)"),
            "handle",
        ),
        (
            "a source for a sink",
            format!("(call $emit (local.get $source) {zeros} {one} (i32.const 0)) (unreachable)"),
            "",
        ),
        (
            "a handle given back twice",
            "(call $leave) (call $leave) (global.get $answer)".to_owned(),
            "handle",
        ),
        (
            "a handle that it keeps",
            "(global.get $answer)".to_owned(),
            "borrow",
        ),
    ] {
        let (result, samples, _) = run(&body, tight());
        let error = plugin_error(result);
        let bad = matches!(
            error,
            PluginError::BadValue { .. }
                | PluginError::Trap { .. }
                | PluginError::Limit {
                    limit: Exceeded::CallBytes(_),
                    ..
                }
        );
        let text = error.to_string();
        assert!(
            bad && text.to_lowercase().contains(reason),
            "{what}: {error:?}"
        );
        assert!(
            !text.contains('\n') && text.contains("villain"),
            "{what}: {text}"
        );
        assert!(samples.is_empty(), "{what}");
    }
}

#[test]
fn too_many_and_too_large_samples_end_it() {
    let forever = |what: &str| format!("(loop $l {what} (br $l)) (unreachable)");
    let emit = "(call $emit (local.get $sink) (global.get $zeros) (i32.const 32) (i32.const 0))";
    let many = Limits {
        output_bytes: 1 << 30,
        ..tight()
    };
    let (result, samples, _) = run(&forever(emit), many.clone());
    let error = plugin_error(result).to_string();
    assert!(error.contains("more than 1000 samples"), "{error}");
    assert!(samples.len() <= 1000);
    // One of 64 kB after the other.
    let large = format!(
        "(i32.store (global.get $zeros) (global.get $text)) (i32.store offset=4 (global.get $zeros) (i32.const 65536)) {}",
        forever("(call $emit (local.get $sink) (global.get $zeros) (i32.const 1) (i32.const 0))")
    );
    assert_eq!(exceeded(&large, tight()), Exceeded::OutputBytes(1 << 20));
    // Samples of nothing but empty turns count, too: 1000 turns at $zeros.
    let empty = format!(
        "(i32.store offset=16 (i32.const 40000) (global.get $zeros)) (i32.store offset=20 (i32.const 40000) (i32.const 1000)) {}",
        forever("(call $emit (local.get $sink) (i32.const 40000) (i32.const 1) (i32.const 0))")
    );
    assert_eq!(exceeded(&empty, tight()), Exceeded::OutputBytes(1 << 20));
    // More than a call may carry: 100 samples that share one text of 64 kB.
    let shared = format!(
        "(loop $l
           (i32.store (i32.add (global.get $zeros) (i32.mul (local.get $i) (i32.const 128))) (global.get $text))
           (i32.store offset=4 (i32.add (global.get $zeros) (i32.mul (local.get $i) (i32.const 128))) (i32.const 65536))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $i) (i32.const 100))))
         {}",
        "(call $emit (local.get $sink) (global.get $zeros) (i32.const 100) (i32.const 0)) (unreachable)"
    );
    let roomy = Limits {
        output_bytes: 1 << 30,
        ..tight()
    };
    assert_eq!(exceeded(&shared, roomy), Exceeded::CallBytes(1 << 20));
}

#[test]
fn floods_of_words_and_handles_end() {
    let forever = |what: &str| format!("(loop $l {what} (br $l)) (unreachable)");
    let log = "(call $log (i32.const 4) (global.get $text) (i32.const 65536))";
    let (result, _, desk) = run(&forever(log), tight());
    let error = plugin_error(result).to_string();
    assert!(error.contains("log_bytes"), "{error}");
    let longest = desk.log.borrow().iter().map(|(_, line)| line.len()).max();
    assert!(longest.unwrap() < 3000, "a line is as long as people read");

    let report = "(call $report (global.get $zeros) (i32.const 0))";
    let (result, _, desk) = run(&forever(report), tight());
    assert!(plugin_error(result).to_string().contains("500 remarks"));
    // A hundred of a kind, and how many more there were.
    assert_eq!(desk.remarks.borrow().len(), 101);

    let open = "(call $open-asset (global.get $text) (i32.const 1) (i32.const 0))";
    assert_eq!(exceeded(&forever(open), tight()), Exceeded::Handles(16));
    let missing = "(call $open-asset (global.get $text) (i32.const 2) (i32.const 0))";
    assert_eq!(exceeded(&forever(missing), tight()), Exceeded::Assets(50));
}

#[test]
fn nothing_outside_of_the_export_is_opened() {
    // The error case of the result, `denied`, is number 6; its text is not looked at.
    let body = "(call $open-asset (i32.const 1024) (i32.const 16) (i32.const 0))
        (if (i32.ne (i32.load8_u (i32.const 0)) (i32.const 1)) (then (unreachable)))
        (if (i32.ne (i32.load8_u (i32.const 8)) (i32.const 6)) (then (unreachable)))
        (call $leave) (global.get $answer)";
    run(body, tight()).0.unwrap();
}

#[test]
fn a_plugin_that_lies_about_its_work_is_caught() {
    let claims = "(i64.store offset=16 (global.get $answer) (i64.const 3)) (call $leave) (global.get $answer)";
    let error = plugin_error(run(claims, tight()).0).to_string();
    assert_eq!(
        error,
        "the plugin villain says it emitted 3 samples, but emitted 0"
    );
    // It says it was cancelled; nobody did.
    let stopped =
        "(i32.store8 (global.get $answer) (i32.const 1)) (call $leave) (global.get $answer)";
    let error = run(stopped, tight()).0.unwrap_err().to_string();
    assert!(error.contains("although nobody asked"), "{error}");
    let villain = load(&converter(HONEST), tight());
    assert_eq!(villain.detect(b"", "x").unwrap(), 100, "it said 200");
}

#[test]
fn what_it_says_cannot_steer_a_terminal() {
    // Internal error with the text ESC [ 2 J.
    let body = r#"(i32.store8 (global.get $answer) (i32.const 1))
        (i32.store8 offset=8 (global.get $answer) (i32.const 8))
        (i32.store offset=16 (global.get $answer) (i32.const 2000))
        (i32.store offset=20 (global.get $answer) (i32.const 4))
        (i32.store (i32.const 2000) (i32.const 0x4a325b1b))
        (call $leave) (global.get $answer)"#;
    let error = run(body, tight()).0.unwrap_err().to_string();
    assert!(
        error.contains("[2J") && !error.contains('\u{1b}'),
        "{error:?}"
    );
}

#[test]
fn an_evaluator_is_held_to_the_same_rules() {
    let start = |bytes: &[u8]| {
        let host = Host::new(tight(), None).unwrap();
        let plugin = host.load_bytes("judge", bytes, &Grants::default()).unwrap();
        let judge = plugin.into_evaluator().unwrap();
        Scorer::start(&judge, "{}", 0, Arc::new(Remarks::new(Cancel::new())))
    };
    let score = |body: &str| {
        let mut scorer = start(&evaluator("", body)).unwrap();
        let one = |scorer: &mut Scorer| scorer.score(&Sample::default(), &Prediction::default());
        let first = one(&mut scorer);
        (
            first.map_err(|e| e.to_string()),
            one(&mut scorer).map_err(|e| e.to_string()),
        )
    };
    let (first, second) = score("");
    assert!(first.unwrap().is_empty() && second.unwrap().is_empty());
    let (first, second) = score("(unreachable)");
    assert!(first.unwrap_err().contains("crashed"));
    assert!(second.unwrap_err().contains("was stopped before"));
    let (first, _) = score("(loop $l (br $l))");
    assert!(first.unwrap_err().contains("fuel"));
    // A score of no number, and one of a metric it does not have.
    let told = |name: u32, len: u32, value: &str| {
        format!(
            "(i32.store (i32.const 5000) (i32.const {name})) (i32.store (i32.const 5004) (i32.const {len}))
             (f64.store (i32.const 5008) (f64.const {value})) (f64.store (i32.const 5016) (f64.const 1))
             (i32.store offset=8 (global.get $answer) (i32.const 5000)) (i32.store offset=12 (global.get $answer) (i32.const 1))"
        )
    };
    assert_eq!(score(&told(1024, 1, "0.5")).0.unwrap()[0].value, 0.5);
    assert!(
        score(&told(1024, 1, "nan"))
            .0
            .unwrap_err()
            .contains("m is NaN")
    );
    assert!(
        score(&told(1027, 4, "1"))
            .0
            .unwrap_err()
            .contains("nope is not among")
    );
    let Err(error) = start(&evaluator("(unreachable)", "")) else {
        panic!("it starts");
    };
    assert!(error.to_string().contains("crashed"), "{error}");
}

#[test]
fn many_conversions_at_once_do_not_disturb_each_other() {
    let host = Host::new(tight(), None).unwrap();
    let good = host.load_bytes("good", &converter(HONEST), &Grants::default());
    let good = Arc::new(good.unwrap().into_converter().unwrap());
    let bad = host.load_bytes("bad", &converter(LOOP), &Grants::default());
    let bad = Arc::new(bad.unwrap().into_converter().unwrap());
    std::thread::scope(|scope| {
        for i in 0..8 {
            let (good, bad) = (Arc::clone(&good), Arc::clone(&bad));
            scope.spawn(move || {
                let convert = |converter: &WasmConverter| {
                    let desk = Desk::new(Path::new("."));
                    let mut source = Memory::new("[]");
                    converter.convert(&mut source, &mut Vec::new(), "{}", &desk)
                };
                for _ in 0..5 {
                    assert_eq!(
                        convert(if i % 2 == 0 { &good } else { &bad }).is_ok(),
                        i % 2 == 0
                    );
                }
            });
        }
    });
}
