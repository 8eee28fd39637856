//! Plugins that fail in the middle of their work: `graft convert` says why in a sentence, and nothing of
//! what they had emitted stays under its final name or any other.

#[allow(dead_code)] // judges write nothing
#[path = "../../../tests/plugins/guest.rs"]
mod guest;
#[allow(dead_code)] // what goes wrong is looked at in bad_input
#[path = "bad_input/workplace.rs"]
mod workplace;

use guest::converter;
use workplace::Place;

/// Samples on their way out: more than a writer keeps in memory.
const EMITS: &str = "(loop $l
    (call $emit (local.get $sink) (global.get $zeros) (i32.const 100) (i32.const 0))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $l (i32.lt_u (local.get $i) (i32.const 200))))";

#[test]
fn what_a_plugin_emitted_before_it_failed_is_not_kept() {
    let place = Place::new();
    place.write("export.json", "[]");
    for (name, then, sentence) in [
        ("crash", "(unreachable)", "crashed"),
        (
            "grow",
            "(loop $m (drop (memory.grow (i32.const 64))) (br $m)) (unreachable)",
            "(memory_bytes)",
        ),
        (
            "recurse",
            "(drop (call $recurse (i32.const 0))) (unreachable)",
            "(stack_bytes)",
        ),
        (
            "flood",
            "(loop $m (call $log (i32.const 0) (global.get $text) (i32.const 65536)) (br $m)) (unreachable)",
            "(log_bytes)",
        ),
        (
            "garble",
            "(i32.store (global.get $zeros) (i32.const 1056)) (i32.store offset=4 (global.get $zeros) (i32.const 3))
             (call $emit (local.get $sink) (global.get $zeros) (i32.const 1) (i32.const 0)) (unreachable)",
            "broke the rules of its interface",
        ),
        (
            "lie",
            "(call $leave) (global.get $answer)",
            "says it emitted 0 samples, but emitted 20000",
        ),
        (
            "fail",
            "(i32.store8 (global.get $answer) (i32.const 1)) (i32.store8 offset=8 (global.get $answer) (i32.const 8))
             (i32.store offset=16 (global.get $answer) (global.get $text)) (i32.store offset=20 (global.get $answer) (i32.const 9))
             (call $leave) (global.get $answer)",
            "xxxxxxxxx",
        ),
    ] {
        place.write(&format!("{name}.wasm"), converter(&format!("{EMITS} {then}")));
        let line = format!("convert --plugin {name}.wasm export.json -o out.json");
        let said = place.leaves_nothing(|| place.run(&line));
        said.failed(&[sentence]);
        // What was there before stays.
        place.write("out.json", "old");
        place.leaves_nothing(|| place.run(&line)).failed(&[sentence]);
        assert_eq!(place.read("out.json"), b"old", "{name}");
        std::fs::remove_file(place.path("out.json")).unwrap();
    }
    // The same emissions, and an honest count at the end.
    let honest = format!(
        "{EMITS} (i64.store offset=16 (global.get $answer) (i64.const 20000)) (call $leave) (global.get $answer)"
    );
    place.write("honest.wasm", converter(&honest));
    let said = place.run("convert --plugin honest.wasm export.json -o out.json");
    assert!(said.done().out.contains("20000 samples"));
    assert!(!place.has_partial());
}
