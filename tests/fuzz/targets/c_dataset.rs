//! Fuzzes `c_dataset`; see tests/hostile/c_targets.rs.

#![no_main]

#[path = "../../hostile/c_functions.rs"]
mod c_functions;
#[path = "../../hostile/c_program.rs"]
mod c_program;
#[path = "../../hostile/c_struct.rs"]
mod c_struct;
#[path = "../../hostile/c_targets.rs"]
mod c_targets;
#[path = "../../hostile/plugin_targets.rs"]
mod plugin_targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    c_targets::dataset(bytes);
});
