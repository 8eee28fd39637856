//! Inputs that fuzzing found, and those it began with: every reader takes them without a panic.

mod plugin_targets;
mod targets;

use std::path::Path;

#[test]
fn inputs_that_were_found_by_fuzzing_are_harmless() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let folder = |path: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let all = || targets::ALL.iter().chain(&plugin_targets::ALL);
    for (name, target) in all() {
        let inputs = folder(&corpora.join(name));
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in &inputs {
            let bytes = std::fs::read(input).unwrap();
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            let Ok(accepted) = outcome else {
                panic!("{name} panics on {}", input.display());
            };
            let seed = input.file_name().unwrap().to_string_lossy();
            if seed.starts_with("seed") {
                assert!(accepted.is_some(), "{name} refuses its own {seed}");
            }
        }
        println!("{name}: {} inputs", inputs.len());
    }
    let known: Vec<_> = all().map(|(name, _)| *name).collect();
    for path in folder(&corpora) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(known.contains(&name), "no target for the corpus {name}");
    }
}
