//! Inputs that fuzzing found, and those it began with: every reader takes them without a panic, through the Rust API and
//! through the C functions. And changes of them at random, for machines without a fuzzer.

mod c_functions;
mod c_program;
mod c_struct;
mod c_targets;
mod mutations;
mod plugin_targets;
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mutations::Mutations;

/// A way into the library; `None` if the bytes were refused.
type Target = fn(&[u8]) -> Option<()>;

/// Every target under the name of its corpus.
fn all() -> Vec<(&'static str, Target)> {
    [&targets::ALL[..], &plugin_targets::ALL, &c_targets::ALL].concat()
}

/// The C targets count the objects of the process, so that only one target may run at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn folder(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The inputs of a target with their paths.
fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = folder(&corpora().join(name)).into_iter();
    let inputs: Vec<_> = paths
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    assert!(!inputs.is_empty(), "{name} has no inputs");
    inputs
}

#[test]
fn inputs_that_were_found_by_fuzzing_are_harmless() {
    let _alone = alone();
    for (name, target) in all() {
        let inputs = inputs(name);
        for (path, bytes) in &inputs {
            let Ok(accepted) = catch_unwind(|| target(bytes)) else {
                panic!("{name} panics on {}", path.display());
            };
            let seed = path.file_name().unwrap().to_string_lossy();
            if seed.starts_with("seed") {
                assert!(accepted.is_some(), "{name} refuses its own {seed}");
            }
        }
        println!("{name}: {} inputs", inputs.len());
    }
    let known: Vec<_> = all().into_iter().map(|(name, _)| name).collect();
    for path in folder(&corpora()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(known.contains(&name), "no target for the corpus {name}");
    }
}

/// A few hundred of each target in every run; `GRAFT_MUTATIONS=100000`, and `GRAFT_MUTATE=c_model` for one target alone,
/// look longer.
#[test]
fn changes_at_random_are_harmless() {
    let _alone = alone();
    let only = std::env::var("GRAFT_MUTATE").ok();
    let count = std::env::var("GRAFT_MUTATIONS").map_or(200, |count| count.parse().unwrap());
    for (name, target) in all() {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let inputs: Vec<_> = inputs(name).into_iter().map(|(_, bytes)| bytes).collect();
        // What is at work lies here, should it end the process.
        let at_work = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutated-{name}"));
        let mut accepted = 0;
        let choices = match name.starts_with("c_") {
            true => c_program::CHOICES,
            false => 0,
        };
        for bytes in Mutations::new(&inputs, choices, name).take(count) {
            std::fs::write(&at_work, &bytes).unwrap();
            match catch_unwind(|| target(&bytes)) {
                Ok(done) => accepted += usize::from(done.is_some()),
                Err(_) => panic!("{name} panics on {}", at_work.display()),
            }
        }
        println!("{name}: {count} changes, {accepted} of them accepted");
    }
}
