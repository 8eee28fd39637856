//! The two ways in which plugins are compiled.
//!
//! Where a memory stays where it is, a loop need not ask for its address again and again: plugins run a
//! twentieth faster. For that its largest size is reserved in the address space, not in memory. Where address space is
//! scarce, or a plugin may have more than is reserved, its memory moves when it grows.

use std::sync::OnceLock;

use wasmtime::{Config, Engine};

use crate::error::PluginError;
use crate::guest::HOST_STACK_BYTES;

/// Bytes of address space for a memory that does not move: the limit that plugins have by default.
const RESERVED: u64 = 256 << 20;

/// The engines of a host; each is started when it is first needed.
pub struct Engines {
    stack_bytes: usize,
    has_space: bool,
    /// For memories that stay.
    fixed: OnceLock<Engine>,
    /// For memories that move.
    movable: OnceLock<Engine>,
}

impl Engines {
    /// Engines for plugins with a stack of `stack_bytes`.
    pub fn new(stack_bytes: usize) -> Self {
        Self {
            stack_bytes,
            has_space: has_space(),
            fixed: OnceLock::new(),
            movable: OnceLock::new(),
        }
    }

    /// The engine for a plugin that may have `memory_bytes` of memory.
    pub fn of(&self, memory_bytes: u64) -> Result<&Engine, PluginError> {
        let (engine, reserved) = match self.has_space && memory_bytes <= RESERVED {
            true => (&self.fixed, Some(RESERVED)),
            false => (&self.movable, None),
        };
        if let Some(engine) = engine.get() {
            return Ok(engine);
        }
        let started = Engine::new(&self.config(reserved));
        let started = started.map_err(|error| PluginError::Compile {
            plugin: "(none)".into(),
            reason: format!("the WebAssembly engine does not start: {error:#}"),
        })?;
        Ok(engine.get_or_init(|| started))
    }

    fn config(&self, reserved: Option<u64>) -> Config {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .consume_fuel(true)
            .max_wasm_stack(self.stack_bytes)
            .async_stack_size(self.stack_bytes + HOST_STACK_BYTES)
            // The same input gives the same output on every machine.
            .wasm_relaxed_simd(false)
            .cranelift_nan_canonicalization(true)
            // We live inside somebody's process: no signal handlers, no gigabytes of address space.
            .signals_based_traps(false)
            .memory_may_move(reserved.is_none())
            .memory_reservation(reserved.unwrap_or(0))
            .memory_guard_size(0)
            .memory_reservation_for_growth(0);
        config
    }
}

/// Whether a hundred plugins find address space without a second thought.
fn has_space() -> bool {
    cfg!(target_pointer_width = "64") && !is_limited()
}

/// Whether somebody limited the address space of this process.
#[cfg(unix)]
fn is_limited() -> bool {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::As).current.is_some()
}

#[cfg(not(unix))]
fn is_limited() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_may_have_more_than_is_reserved_gets_memory_that_moves() {
        let engines = Engines::new(512 << 10);
        let usual = engines.of(RESERVED).unwrap();
        let larger = engines.of(RESERVED + 1).unwrap();
        assert!(Engine::same(usual, engines.of(1).unwrap()));
        assert_eq!(Engine::same(usual, larger), !has_space());
        assert!(Engine::same(larger, engines.of(u64::MAX).unwrap()));
        let scarce = Engines {
            has_space: false,
            ..Engines::new(512 << 10)
        };
        let (small, large) = (scarce.of(1).unwrap(), scarce.of(u64::MAX).unwrap());
        assert!(Engine::same(small, large));
    }
}
