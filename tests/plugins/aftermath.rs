//! What hostile plugins leave behind: nothing. Alone in its process, because its memory is looked at.

#[allow(dead_code)] // other tests look at more of them
mod desk;
#[allow(dead_code)]
mod guest;

use std::path::Path;
use std::time::Duration;

use desk::{Desk, Memory};
use graft::dataset::{ConvertError, Converter};
use graft_plugins::{Exceeded, Grants, Host, Limits, PluginError, WasmConverter};
use guest::converter;

/// Limits that are reached within milliseconds.
fn tight() -> Limits {
    Limits {
        fuel: 20_000_000,
        fuel_per_byte: 0,
        deadline: Duration::from_secs(60),
        memory_bytes: 8 << 20,
        call_bytes: 1 << 20,
        handles: 16,
        output_bytes: 1 << 20,
        log_bytes: 1 << 20,
        diagnostics: 500,
        ..Limits::default()
    }
}

/// What a villain does, and how it must end: honest, by a limit, or by a fault of its own.
type Role = (&'static str, fn(&PluginError) -> bool);

const ROLES: [Role; 9] = [
    ("(loop $l (br $l)) (unreachable)", |error| {
        matches!(limit(error), Some(Exceeded::Fuel(_)))
    }),
    (
        "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) (unreachable)",
        |error| matches!(limit(error), Some(Exceeded::Memory { .. })),
    ),
    ("(drop (call $recurse (i32.const 0))) (unreachable)", |error| {
        matches!(limit(error), Some(Exceeded::Stack(_)))
    }),
    (
        "(loop $l (call $log (i32.const 4) (global.get $text) (i32.const 65536)) (br $l)) (unreachable)",
        |error| matches!(limit(error), Some(Exceeded::LogBytes(_))),
    ),
    (
        "(loop $l (call $report (global.get $zeros) (i32.const 0)) (br $l)) (unreachable)",
        |error| matches!(limit(error), Some(Exceeded::Diagnostics(_))),
    ),
    (
        "(loop $l (call $open-asset (global.get $text) (i32.const 1) (i32.const 0)) (br $l)) (unreachable)",
        |error| matches!(limit(error), Some(Exceeded::Handles(_))),
    ),
    (
        "(i32.store (global.get $zeros) (global.get $text)) (i32.store offset=4 (global.get $zeros) (i32.const 65536))
         (loop $l (call $emit (local.get $sink) (global.get $zeros) (i32.const 1) (i32.const 0)) (br $l)) (unreachable)",
        |error| matches!(limit(error), Some(Exceeded::OutputBytes(_))),
    ),
    (
        "(call $emit (local.get $sink) (global.get $zeros) (i32.const 3) (i32.const 0)) (unreachable)",
        |error| matches!(error, PluginError::Trap { .. }),
    ),
    (
        "(i32.store (global.get $zeros) (i32.const 1056)) (i32.store offset=4 (global.get $zeros) (i32.const 3))
         (call $emit (local.get $sink) (global.get $zeros) (i32.const 1) (i32.const 0)) (unreachable)",
        |error| matches!(error, PluginError::BadValue { .. }),
    ),
];

fn limit(error: &PluginError) -> Option<Exceeded> {
    match error {
        PluginError::Limit { limit, .. } => Some(*limit),
        _ => None,
    }
}

fn load(host: &Host, body: &str) -> WasmConverter {
    let plugin = host.load_bytes("villain", &converter(body), &Grants::default());
    plugin.unwrap().into_converter().unwrap()
}

/// Runs a converter in a folder with a file called x.
fn run(villain: &WasmConverter, folder: &Path) -> Result<u64, PluginError> {
    let desk = Desk::new(folder);
    let mut samples = Vec::new();
    match villain.convert(&mut Memory::new("[]"), &mut samples, "{}", &desk) {
        Ok(summary) => Ok(summary.samples),
        Err(ConvertError::Plugin(error)) => Err(*error.downcast().unwrap()),
        Err(error) => panic!("{error:?}"),
    }
}

const HONEST: &str = "(call $leave) (global.get $answer)";

#[test]
fn hostile_plugins_leave_no_memory_behind_and_disturb_no_other() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), "x").unwrap();
    let host = Host::new(tight(), None).unwrap();
    let honest = load(&host, HONEST);
    let villains = ROLES.map(|(body, ends_so)| (load(&host, body), body, ends_so));
    let round = |number: usize| {
        for (villain, body, ends_so) in &villains {
            let error = run(villain, folder.path()).unwrap_err();
            assert!(ends_so(&error), "{body}: {error}");
        }
        assert_eq!(run(&honest, folder.path()).unwrap(), 0);
        // Compiled anew now and then.
        let (body, ends_so) = ROLES[number % ROLES.len()];
        assert!(ends_so(
            &run(&load(&host, body), folder.path()).unwrap_err()
        ));
    };
    // The allocator and the engine keep what they need; then nothing more is kept.
    (0..20).for_each(round);
    let before = resident();
    (0..100).for_each(round);
    let kept = resident().saturating_sub(before);
    assert!(kept < 16 << 20, "100 rounds kept {kept} bytes");

    // A hundred at once, the honest among them.
    std::thread::scope(|scope| {
        for i in 0..100 {
            let (villains, honest, folder) = (&villains, &honest, folder.path());
            scope.spawn(move || match villains.get(i % (ROLES.len() + 1)) {
                Some((villain, body, ends_so)) => {
                    let error = run(villain, folder).unwrap_err();
                    assert!(ends_so(&error), "{body}: {error}");
                }
                None => assert_eq!(run(honest, folder).unwrap(), 0),
            });
        }
    });
    round(0);
    let kept = resident().saturating_sub(before);
    // Stacks and heaps of threads that were; each had 8 MiB of memory and its code.
    assert!(kept < 200 << 20, "a hundred at once kept {kept} bytes");
}

/// Bytes of this process in memory; 0 where the system does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
