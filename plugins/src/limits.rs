//! What a plugin may use. Every limit ends the plugin with an error of its own.

use std::time::Duration;

/// How much of everything a plugin may use before it is stopped.
///
/// The defaults let a converter read gigabytes and stop a runaway within minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the plugin's file.
    pub plugin_bytes: u64,
    /// Instructions per call, roughly; the same work always costs the same fuel.
    pub fuel: u64,
    /// Further fuel for each byte of the input.
    pub fuel_per_byte: u64,
    /// Time the plugin itself may take per call, and its looking at companion files; waiting for input, for
    /// room or for a model does not count.
    pub deadline: Duration,
    /// Bytes of linear memory.
    pub memory_bytes: u64,
    /// Bytes of its stack.
    pub stack_bytes: usize,
    /// Bytes that one call between plugin and host may carry.
    pub call_bytes: usize,
    /// Open sources at a time.
    pub handles: usize,
    /// Companion files opened in all.
    pub assets: u64,
    /// Bytes of all samples.
    pub output_bytes: u64,
    /// Samples.
    pub samples: u64,
    /// Questions that an evaluator may ask a model it was granted, in a run.
    pub requests: u64,
    /// Tokens of all those questions and of the replies to them.
    pub tokens: u64,
    /// Bytes of all log lines.
    pub log_bytes: u64,
    /// Remarks in all.
    pub diagnostics: u64,
    /// Remarks of the same code that reach the caller; the rest is counted.
    pub diagnostics_per_code: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            plugin_bytes: 64 << 20,
            fuel: 20_000_000_000,
            fuel_per_byte: 20_000,
            deadline: Duration::from_secs(30 * 60),
            memory_bytes: 256 << 20,
            stack_bytes: 512 << 10,
            call_bytes: 32 << 20,
            handles: 64,
            assets: 1_000_000,
            output_bytes: 64 << 30,
            samples: 100_000_000,
            requests: 1_000_000,
            tokens: 1_000_000_000,
            log_bytes: 1 << 20,
            diagnostics: 1_000_000,
            diagnostics_per_code: 100,
        }
    }
}
