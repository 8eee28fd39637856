//! Guests written by hand in WebAssembly text: a world is wrapped around a core module, so that a
//! guest may say whatever no compiler would let it say.

use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The folder of the interface's text, from whichever crate this is a part of.
pub fn interface() -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let wit = above.find_map(|folder| {
        let wit = folder.join("plugins/wit/0.1.0");
        wit.is_dir().then_some(wit)
    });
    wit.expect("the workspace has an interface")
}

/// The component of a core module in the world `world`.
pub fn component(module: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(interface()).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(module).unwrap_or_else(|e| panic!("{e}\n{module}"));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().module(&module).unwrap();
    encoder.validate(true).encode().unwrap()
}

/// What a converter may import.
#[allow(dead_code)]
const IMPORTS: &str = r#"
  (import "graft:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "graft:plugin/host@0.1.0" "report" (func $report (param i32 i32)))
  (import "graft:plugin/host@0.1.0" "checkpoint" (func $checkpoint (param i64 i32 i64 i32)))
  (import "graft:plugin/input@0.1.0" "[method]source.read" (func $read (param i32 i32 i32)))
  (import "graft:plugin/input@0.1.0" "[resource-drop]source" (func $drop-source (param i32)))
  (import "graft:plugin/input@0.1.0" "open-asset" (func $open-asset (param i32 i32 i32)))
  (import "graft:plugin/input@0.1.0" "list-assets" (func $list-assets (param i32 i32 i32 i32 i32 i32 i32)))
  (import "graft:plugin/dataset@0.1.0" "[method]sink.emit" (func $emit (param i32 i32 i32 i32)))
  (import "graft:plugin/dataset@0.1.0" "[resource-drop]sink" (func $drop-sink (param i32)))
"#;

/// A converter whose `convert` does what `body` says.
///
/// At hand are `$source` and `$sink`, `$zeros`: 16 kB of zeros (128 of them are an empty sample),
/// `$answer`: where the result belongs, all zeros for "0 records, no error", and `$text`: 64 kB of
/// the letter x. `(call $leave)` gives the handles back; `body` leaves the address of its result.
#[allow(dead_code)] // not every test that includes this file
pub fn converter(body: &str) -> Vec<u8> {
    converter_with("2", "", body)
}

/// The same with `pages` of memory to begin with, and `more` at the module's level.
#[allow(dead_code)] // nor these
pub fn converter_with(pages: &str, more: &str, body: &str) -> Vec<u8> {
    let pages: u32 = pages.parse().unwrap();
    let module = format!(
        r#"(module {IMPORTS}
  (memory (export "memory") {memory})
  (global $text i32 (i32.const 65536))
  (global $zeros i32 (i32.const 16384))
  (global $answer i32 (i32.const 8192))
  (global $top (mut i32) (i32.const 131072))
  (data (i32.const 1024) "../../etc/passwd")
  (data (i32.const 1056) "\ff\fe\fd")
  (data (i32.const 1072) "{{\22type\22: \22object\22}}")
  ;; A log line of 64 kB is text; the data is written at the start of convert.
  (func $fill (memory.fill (global.get $text) (i32.const 120) (i32.const 65536)))
  (func (export "cabi_realloc") (param $old i32) (param $was i32) (param $align i32) (param $now i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get $now)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.const 64))))
    (local.get $at))
  (func $recurse (param i32) (result i32)
    (i32.add (i32.const 1) (call $recurse (i32.add (local.get 0) (i32.const 1)))))
  (func (export "graft:plugin/converter@0.1.0#describe") (result i32)
    (i32.store offset=0 (global.get $answer) (i32.const 0))
    (i32.store offset=4 (global.get $answer) (i32.const 0))
    (i32.store offset=8 (global.get $answer) (i32.const 1072))
    (i32.store offset=12 (global.get $answer) (i32.const 18))
    (global.get $answer))
  (func (export "graft:plugin/converter@0.1.0#detect") (param i32 i32 i32 i32) (result i32)
    (i32.const 200))
  {more}
  (func (export "graft:plugin/converter@0.1.0#convert")
    (param $source i32) (param $sink i32) (param i32 i32) (result i32)
    (local $i i32)
    (call $fill)
    {body}))"#,
        memory = pages.max(2),
        body = body.replace(
            "(call $leave)",
            "(call $drop-source (local.get $source)) (call $drop-sink (local.get $sink))"
        ),
    );
    component(&module, "converter-plugin")
}

/// An evaluator with one metric `m` whose `score` does what `body` says; its result is the address
/// `$answer`. `start` does what `start` says before it gives its run.
#[allow(dead_code)] // not every test that includes this file
pub fn evaluator(start: &str, body: &str) -> Vec<u8> {
    evaluator_with("", "evaluator-plugin", start, body)
}

/// The same in the world `judge-plugin`: `$generate` asks the model.
pub fn judge(body: &str) -> Vec<u8> {
    let import = r#"(import "graft:plugin/model@0.1.0" "generate"
      (func $generate (param i32 i32 i32 i32 i32 i64 i32)))"#;
    evaluator_with(import, "judge-plugin", "", body)
}

fn evaluator_with(imports: &str, world: &str, start: &str, body: &str) -> Vec<u8> {
    let module = format!(
        r#"(module {imports}
  (import "[export]graft:plugin/evaluator@0.1.0" "[resource-new]run" (func $new (param i32) (result i32)))
  (memory (export "memory") 2)
  (global $answer i32 (i32.const 8192))
  (global $top (mut i32) (i32.const 65536))
  (data (i32.const 1024) "m{{}}nope")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "graft:plugin/evaluator@0.1.0#describe") (result i32)
    ;; One metric at 4096: name "m", no unit, more is better.
    (i32.store (i32.const 4096) (i32.const 1024))
    (i32.store (i32.const 4100) (i32.const 1))
    (i32.store8 (i32.const 4112) (i32.const 1))
    (i32.store offset=0 (global.get $answer) (i32.const 4096))
    (i32.store offset=4 (global.get $answer) (i32.const 1))
    (i32.store offset=8 (global.get $answer) (i32.const 1025))
    (i32.store offset=12 (global.get $answer) (i32.const 2))
    (global.get $answer))
  (func (export "graft:plugin/evaluator@0.1.0#start") (param i32 i32 i64) (result i32)
    {start}
    (i32.store8 offset=0 (global.get $answer) (i32.const 0))
    (i32.store offset=8 (global.get $answer) (call $new (i32.const 7)))
    (global.get $answer))
  (func (export "graft:plugin/evaluator@0.1.0#[method]run.score") (param i32) (result i32)
    (i64.store offset=0 (global.get $answer) (i64.const 0))
    (i64.store offset=8 (global.get $answer) (i64.const 0))
    {body}
    (global.get $answer))
  (func (export "graft:plugin/evaluator@0.1.0#[method]run.finish") (param i32) (result i32)
    (i64.store offset=0 (global.get $answer) (i64.const 0))
    (i64.store offset=8 (global.get $answer) (i64.const 0))
    (global.get $answer)))"#
    );
    component(&module, world)
}
