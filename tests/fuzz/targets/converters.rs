//! Fuzzes `converters`; see tests/hostile/plugin_targets.rs.

#![no_main]

#[path = "../../hostile/plugin_targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    targets::converters(bytes);
});
