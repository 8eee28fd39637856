//! A converter that does what its input says: a script of calls to its host.
//!
//! The script lies at the beginning of the memory, so that the calls can point into it. An instruction
//! is 32 bytes: what to do in the first (modulo [`INSTRUCTIONS`]), seven numbers of four bytes from the
//! fourth on.

use super::guest::component;

/// Kinds of instructions.
#[allow(dead_code)] // the fuzzers need no such number
pub const INSTRUCTIONS: u8 = 18;

/// Where the host writes what a call gives, unless the last number of the instruction says.
#[allow(dead_code)]
pub const ANSWER: u32 = 120_000;

/// The plugin.
pub fn plugin() -> Vec<u8> {
    component(MODULE, "converter-plugin")
}

const MODULE: &str = r#"(module
  (import "graft:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "graft:plugin/host@0.1.0" "report" (func $report (param i32 i32)))
  (import "graft:plugin/host@0.1.0" "checkpoint" (func $checkpoint (param i64 i32 i64 i32)))
  (import "graft:plugin/input@0.1.0" "[method]source.name" (func $name (param i32 i32)))
  (import "graft:plugin/input@0.1.0" "[method]source.size" (func $size (param i32 i32)))
  (import "graft:plugin/input@0.1.0" "[method]source.read" (func $read (param i32 i32 i32)))
  (import "graft:plugin/input@0.1.0" "[method]source.read-at"
    (func $read-at (param i32 i64 i32 i32)))
  (import "graft:plugin/input@0.1.0" "open-asset" (func $open-asset (param i32 i32 i32)))
  (import "graft:plugin/input@0.1.0" "probe-image" (func $probe-image (param i32 i32 i32)))
  (import "graft:plugin/input@0.1.0" "list-assets"
    (func $list-assets (param i32 i32 i32 i32 i32 i32 i32)))
  (import "graft:plugin/input@0.1.0" "[resource-drop]source" (func $drop-source (param i32)))
  (import "graft:plugin/dataset@0.1.0" "[method]sink.emit" (func $emit (param i32 i32 i32 i32)))
  (import "graft:plugin/dataset@0.1.0" "[resource-drop]sink" (func $drop-sink (param i32)))
  (memory (export "memory") 4)
  (global $top (mut i32) (i32.const 131072))
  (global $lie (mut i32) (i32.const 0))
  (func (export "cabi_realloc") (param $old i32) (param $was i32) (param $align i32) (param $now i32)
    (result i32)
    (local $at i32)
    (if (global.get $lie)
      (then
        (local.set $at (global.get $lie))
        (global.set $lie (i32.const 0))
        (return (local.get $at))))
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get $now)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.const 16))))
    (local.get $at))
  (func (export "graft:plugin/converter@0.1.0#describe") (result i32)
    (i32.store (i32.const 110008) (i32.const 0))
    (i32.const 110000))
  (func (export "graft:plugin/converter@0.1.0#detect") (param i32 i32 i32 i32) (result i32)
    (i32.const 1))
  (func (export "graft:plugin/converter@0.1.0#convert")
    (param $source i32) (param $sink i32) (param i32 i32) (result i32)
    (local $pc i32) (local $end i32) (local $steps i32) (local $out i32)
    (local $a i32) (local $b i32) (local $c i32) (local $d i32) (local $e i32) (local $f i32)
    (call $read (local.get $source) (i32.const 60000) (i32.const 120000))
    (local.set $end (i32.load (i32.const 120012)))
    (memory.copy (i32.const 0) (i32.load (i32.const 120008)) (local.get $end))
    (block $done
      (loop $next
        (br_if $done (i32.gt_u (i32.add (local.get $pc) (i32.const 32)) (local.get $end)))
        (br_if $done (i32.gt_u (local.get $steps) (i32.const 200)))
        (local.set $steps (i32.add (local.get $steps) (i32.const 1)))
        (local.set $a (i32.load offset=4 (local.get $pc)))
        (local.set $b (i32.load offset=8 (local.get $pc)))
        (local.set $c (i32.load offset=12 (local.get $pc)))
        (local.set $d (i32.load offset=16 (local.get $pc)))
        (local.set $e (i32.load offset=20 (local.get $pc)))
        (local.set $f (i32.load offset=24 (local.get $pc)))
        (local.set $out (i32.load offset=28 (local.get $pc)))
        (if (i32.eqz (local.get $out)) (then (local.set $out (i32.const 120000))))
        (block $went
          (block $17 (block $16 (block $15 (block $14 (block $13 (block $12 (block $11 (block $10 (block $9
          (block $8 (block $7 (block $6 (block $5 (block $4 (block $3 (block $2 (block $1 (block $0
            (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11 $12 $13 $14 $15 $16 $17
              (i32.rem_u (i32.load8_u (local.get $pc)) (i32.const 18))))
          (call $log (local.get $a) (local.get $b) (local.get $c)) (br $went))
          (call $report (local.get $a) (local.get $out)) (br $went))
          (call $checkpoint (i64.extend_i32_s (local.get $a)) (local.get $b)
            (i64.extend_i32_s (local.get $c)) (local.get $out)) (br $went))
          (call $name (local.get $a) (local.get $out)) (br $went))
          (call $size (local.get $a) (local.get $out)) (br $went))
          (call $read (local.get $a) (local.get $b) (local.get $out)) (br $went))
          (call $read-at (local.get $a) (i64.extend_i32_s (local.get $b)) (local.get $c)
            (local.get $out)) (br $went))
          (call $open-asset (local.get $a) (local.get $b) (local.get $out)) (br $went))
          (call $probe-image (local.get $a) (local.get $b) (local.get $out)) (br $went))
          (call $list-assets (local.get $a) (local.get $b) (local.get $c) (local.get $d)
            (local.get $e) (local.get $f) (local.get $out)) (br $went))
          (call $emit (local.get $a) (local.get $b) (local.get $c) (local.get $out)) (br $went))
          (call $drop-source (local.get $a)) (br $went))
          (call $drop-sink (local.get $a)) (br $went))
          ;; Memory: a number, a number from elsewhere, many bytes.
          (i32.store (local.get $a) (local.get $b)) (br $went))
          (i32.store (local.get $a) (i32.load (local.get $b))) (br $went))
          (memory.copy (local.get $a) (local.get $b) (local.get $c)) (br $went))
          ;; The next piece of memory that the host asks for.
          (global.set $lie (local.get $a)) (br $went))
          ;; Go on at another instruction.
          (local.set $pc (i32.mul (i32.rem_u (local.get $a) (i32.const 64)) (i32.const 32)))
          (br $next))
        (local.set $pc (i32.add (local.get $pc) (i32.const 32)))
        (br $next)))
    (call $drop-source (local.get $source))
    (call $drop-sink (local.get $sink))
    (i32.const 100000)))"#;
