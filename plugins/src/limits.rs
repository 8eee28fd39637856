//! What a plugin may use. Every limit ends the plugin with an error of its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much of everything a plugin may use before it is stopped.
///
/// The defaults let a converter read gigabytes and stop a runaway within minutes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// What a plugin asks for, in the table `[limits]` of its manifest: an author who knows that 32 MiB suffice says
/// so, and what goes wrong ends sooner. What is left out is as its host has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// As [`Limits::fuel`].
    pub fuel: Option<u64>,
    /// As [`Limits::fuel_per_byte`].
    pub fuel_per_byte: Option<u64>,
    /// As [`Limits::deadline`], in seconds.
    pub deadline_seconds: Option<u64>,
    /// As [`Limits::memory_bytes`].
    pub memory_bytes: Option<u64>,
    /// As [`Limits::output_bytes`].
    pub output_bytes: Option<u64>,
    /// As [`Limits::samples`].
    pub samples: Option<u64>,
}

impl Limits {
    /// The limits of a plugin that asks for `wanted`: never more than these.
    pub fn granted(&self, wanted: &Wanted) -> Self {
        let least = |ours: u64, wanted: Option<u64>| wanted.map_or(ours, |wanted| wanted.min(ours));
        let seconds = wanted.deadline_seconds.map(Duration::from_secs);
        Self {
            fuel: least(self.fuel, wanted.fuel),
            fuel_per_byte: least(self.fuel_per_byte, wanted.fuel_per_byte),
            deadline: seconds.map_or(self.deadline, |wanted| wanted.min(self.deadline)),
            memory_bytes: least(self.memory_bytes, wanted.memory_bytes),
            output_bytes: least(self.output_bytes, wanted.output_bytes),
            samples: least(self.samples, wanted.samples),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gets_what_it_asks_for_and_never_more_than_its_host_allows() {
        let ours = Limits::default();
        let wanted = Wanted {
            memory_bytes: Some(32 << 20),
            fuel: Some(u64::MAX),
            deadline_seconds: Some(1),
            ..Wanted::default()
        };
        let granted = ours.granted(&wanted);
        assert_eq!(granted.memory_bytes, 32 << 20);
        assert_eq!(granted.fuel, ours.fuel);
        assert_eq!(granted.deadline, Duration::from_secs(1));
        assert_eq!(ours.granted(&Wanted::default()), ours);
    }
}
