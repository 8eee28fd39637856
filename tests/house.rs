//! The laws of the house, as tests: if a rule here breaks, change the code or the rule.

use std::fs;
use std::path::{Path, PathBuf};

/// Questions a newcomer asks, the file that answers, and a line that must be in it.
const MAP: &[(&str, &str, &str)] = &[
    (
        "Where is a Q4_K block decoded?",
        "runtime/kernels/src/blocks/q4_k.rs",
        "decode",
    ),
    (
        "Where is the same for AVX2?",
        "runtime/kernels/src/avx2/q4_k.rs",
        "Q4_K",
    ),
    (
        "Where are activations rounded for inference?",
        "runtime/kernels/src/rounded.rs",
        "pub fn round",
    ),
    (
        "Where are frozen layers multiplied in words of 14 bits?",
        "runtime/kernels/src/words.rs",
        "pub fn linear_forward_words",
    ),
    (
        "Where does a graphics device decode a Q4_K block?",
        "runtime/gpu/src/kernels/blocks/q4_k.wgsl",
        "fn integers8",
    ),
    (
        "Where are a graphics device's ways to multiply tried?",
        "runtime/gpu/src/trial.rs",
        "fn tried",
    ),
    (
        "Where is the byte budget of a graphics device?",
        "runtime/gpu/src/ledger.rs",
        "fn hold",
    ),
    (
        "Where do commands go to a graphics device?",
        "runtime/gpu/src/recorder.rs",
        "pub fn submit",
    ),
    (
        "Where is the LoRA backward pass?",
        "runtime/kernels/src/ops/lora.rs",
        "pub fn backward",
    ),
    (
        "Where is a layer, forward and backward?",
        "runtime/src/model/layer.rs",
        "pub fn backward",
    ),
    (
        "Where do sessions with different adapters share a pass?",
        "runtime/src/model/batch.rs",
        "pub fn forward_batch",
    ),
    (
        "Where is the vision tower?",
        "runtime/src/model/vision_tower.rs",
        "pub struct VisionTower",
    ),
    (
        "Where does a Hugging Face checkpoint become GGUF?",
        "runtime/src/convert_hf/mod.rs",
        "pub fn convert",
    ),
    (
        "Where do image features enter the sequence?",
        "runtime/src/model/llava.rs",
        "pub fn splice",
    ),
    (
        "Where does a graphics device run a layer, forward and backward?",
        "runtime/src/gpu/layer.rs",
        "pub fn backward",
    ),
    (
        "Where is it decided what goes to a graphics device?",
        "runtime/src/gpu/placement.rs",
        "pub fn choose",
    ),
    (
        "Where is a GGUF file read?",
        "runtime/src/gguf/reader.rs",
        "fn parse",
    ),
    (
        "Where are label masks made?",
        "runtime/src/tokenizer/prompt.rs",
        "labels",
    ),
    (
        "Where is the memory plan of a run made?",
        "runtime/src/train/plan.rs",
        "pub fn plan",
    ),
    (
        "Where do large buffers come from?",
        "runtime/src/memory/arena.rs",
        "pub fn buffer",
    ),
    (
        "Where is it said how long an update takes?",
        "runtime/src/train/pace.rs",
        "pub fn pace",
    ),
    (
        "Where is an update of training?",
        "runtime/src/train/trainer.rs",
        "pub fn step",
    ),
    (
        "Where does an update get its evaluation, record and checkpoint?",
        "runtime/src/train/run.rs",
        "pub fn advance",
    ),
    (
        "Where is a checkpoint saved?",
        "runtime/src/train/checkpoint.rs",
        "pub fn save",
    ),
    (
        "Where does a token meet the keys of its past?",
        "runtime/kernels/src/few_queries.rs",
        "fn query_scores",
    ),
    (
        "Where is a low-rank term added to a token?",
        "runtime/kernels/src/low_rank.rs",
        "pub fn low_rank_up",
    ),
    (
        "Where does an adapter leave memory?",
        "runtime/src/adapter/registry.rs",
        "fn evict",
    ),
    (
        "Where is an adapter attached to a session?",
        "runtime/src/session/mod.rs",
        "pub fn set_adapters",
    ),
    (
        "Where are an adapter's pairs of the vision half?",
        "runtime/src/adapter/companion.rs",
        "pub fn path_of",
    ),
    (
        "Where is a prompt run, and where is it stopped?",
        "runtime/src/session/feeding.rs",
        "pub fn feed_watched",
    ),
    (
        "Where do image features follow a session's adapters?",
        "runtime/src/session/image.rs",
        "pub fn rows",
    ),
    (
        "Where does an adapter's name change what it means?",
        "runtime/src/adapter/registry.rs",
        "pub fn publish",
    ),
    (
        "Where is an adapter merged into its base?",
        "runtime/src/adapter/merge.rs",
        "pub fn merge",
    ),
    (
        "Where do several adapters become one?",
        "runtime/src/adapter/algebra/combine.rs",
        "pub fn combine",
    ),
    (
        "Where do two models become an adapter?",
        "runtime/src/adapter/algebra/difference.rs",
        "pub fn difference",
    ),
    (
        "Where is it decided which type a tensor gets?",
        "runtime/src/quantize/mix.rs",
        "pub fn types",
    ),
    (
        "Where is a model asked and scored?",
        "runtime/src/evaluate/run.rs",
        "pub fn run",
    ),
    (
        "Where does a metric ask a model?",
        "runtime/src/evaluate/judge.rs",
        "pub fn generate",
    ),
    (
        "Where is a plugin loaded?",
        "plugins/src/host.rs",
        "pub fn load",
    ),
    (
        "Where is a C function implemented?",
        "abi/src/model.rs",
        "fn graft_model_open",
    ),
    (
        "Where does a panic become a status?",
        "abi/src/call.rs",
        "catch_unwind",
    ),
    (
        "Where is a released handle found out?",
        "abi/src/handle.rs",
        "pub fn get",
    ),
    (
        "Where is the library fed with bytes as a C program feeds it?",
        "tests/hostile/c_targets.rs",
        "pub const ALL",
    ),
    (
        "Where are the rules that a plugin must keep?",
        "plugins/src/check/mod.rs",
        "pub fn check",
    ),
];

/// Who may depend on whom: a crate's folder, its name, and the house crates it may use.
const LADDER: &[(&str, &str, &[&str])] = &[
    ("runtime/features", "graft-features", &[]),
    ("runtime/kernels", "graft-kernels", &[]),
    ("runtime/gpu", "graft-gpu", &["graft-kernels"]),
    ("runtime", "graft", &["graft-gpu", "graft-kernels"]),
    ("plugins", "graft-plugins", &["graft"]),
    (
        "runtime/cli",
        "graft-cli",
        &["graft", "graft-features", "graft-kernels", "graft-plugins"],
    ),
    (
        "abi",
        "graft-abi",
        &["graft", "graft-features", "graft-kernels", "graft-plugins"],
    ),
];

/// The modules of the runtime, lowest rung first; a module imports only from its
/// own rung or a lower one.
const RUNGS: &[&[&str]] = &[
    &["error", "threads", "cancel", "atomic_file", "random"],
    &["gguf", "memory", "tokenizer", "image"],
    &["model", "kv_cache", "quantize", "device", "gpu"],
    &["adapter", "sampler", "dataset", "convert_hf"],
    &["session", "train", "evaluate"],
];

/// Files and folders that may contain `unsafe`, each small enough to audit in one sitting.
const UNSAFE: &[&str] = &[
    "runtime/kernels/src/lib.rs",
    "runtime/kernels/src/avx2/",
    "runtime/kernels/src/avx512/",
    "runtime/kernels/src/neon/",
    // Calls into the gemm crate, and matrix views that split at columns.
    "runtime/kernels/src/product.rs",
    // Call bodies compiled for the instruction set that was detected.
    "runtime/kernels/src/few_queries.rs",
    "runtime/kernels/src/low_rank.rs",
    "runtime/kernels/src/panel.rs",
    "runtime/kernels/src/rounded.rs",
    "runtime/kernels/src/vector/mod.rs",
    "runtime/kernels/src/words.rs",
    // Kernels without checks of indices; a question to Vulkan; compiled kernels from a file; leave to use what
    // wgpu calls experimental.
    "runtime/gpu/src/shader.rs",
    "runtime/gpu/src/heaps.rs",
    "runtime/gpu/src/compiled.rs",
    "runtime/gpu/src/matrix_units.rs",
    "runtime/src/gguf/mapping.rs",
    "plugins/src/cache.rs",
    "plugins/sdk/",
    "plugins/guests/",
    // Calls into the library as a C program makes them.
    "benches/abi.rs",
    "benches/abi_cancel.rs",
    // The probe of the processor's peak, compiled per instruction set.
    "benches/limits.rs",
    // Mapping a file by hand, to compare.
    "benches/streaming.rs",
    // Calls into ggml, an optional feature.
    "tests/model/ggml.rs",
    "abi/src/",
    // Calls into the library as a C program makes them.
    "tests/abi/border.rs",
    "tests/hostile/c_functions.rs",
    "tests/hostile/c_program.rs",
    "abi/tests/threads.rs",
    // What cxx writes.
    "tests/abi/bridge/",
];

const LONGEST_FILE: usize = 600;
const NAMES_THAT_SAY_NOTHING: &[&str] = &[
    "utils", "util", "common", "helper", "helpers", "manager", "misc", "types", "base", "core",
    "impl",
];

#[test]
fn the_map_is_true() {
    for (question, path, line) in MAP {
        let text = fs::read_to_string(root().join(path))
            .unwrap_or_else(|e| panic!("{question} {path}: {e}"));
        assert!(text.contains(line), "{question} {path} lacks `{line}`");
    }
}

#[test]
fn dependencies_point_down() {
    for (path, name, allowed) in LADDER {
        let manifest = fs::read_to_string(root().join(path).join("Cargo.toml")).unwrap();
        let used = manifest
            .split("[dev-dependencies]")
            .next()
            .unwrap()
            .split("[dependencies]")
            .nth(1)
            .unwrap_or("");
        for line in used.lines() {
            let dependency = line.split(['=', ' ', '.']).next().unwrap().trim();
            let ours = LADDER.iter().any(|(_, house, _)| *house == dependency);
            assert!(
                !ours || allowed.contains(&dependency),
                "{name} may not depend on {dependency}"
            );
        }
    }
}

/// The crates below a choice of packages, each with its version and the features it is compiled with.
#[cfg(target_os = "linux")]
fn crates_with_features(choice: &[&str]) -> std::collections::BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = std::process::Command::new(cargo)
        .args([
            "tree", "--locked", "--prefix", "none", "--format", "{p} {f}",
        ])
        .args(choice)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8(said.stdout).unwrap();
    said.lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect()
}

/// Only here: other systems have other crates with other features, and nobody has looked which of them differ.
#[cfg(target_os = "linux")]
#[test]
fn what_ships_is_compiled_as_what_is_tested() {
    let tested = crates_with_features(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(tested.iter().any(|line| line.starts_with("wasmtime v")));
    for program in ["graft-cli", "graft-abi"] {
        let shipped = crates_with_features(&["--package", program, "--edges", "normal,build"]);
        let differ: Vec<_> = shipped.difference(&tested).collect();
        assert!(
            differ.is_empty(),
            "{program} has crates with other features than the tests have, and what is above them is compiled twice; \
             runtime/features/Cargo.toml can ask for what lacks: {differ:#?}"
        );
    }
}

#[test]
fn modules_of_the_runtime_import_only_downwards() {
    let rung = |module: &str| RUNGS.iter().position(|r| r.contains(&module));
    for file in rust_files("runtime/src") {
        let inside = file.strip_prefix(root().join("runtime/src")).unwrap();
        let own = inside.components().next().unwrap().as_os_str();
        let own = own.to_str().unwrap().trim_end_matches(".rs");
        if own == "lib" || own == "manual" {
            continue;
        }
        let own_rung = rung(own).unwrap_or_else(|| panic!("module {own} is on no rung"));
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|l| !l.trim_start().starts_with("//")) {
            for part in line.split("crate::").skip(1) {
                let module: String = part
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if let Some(imported) = rung(&module)
                    && own != "error"
                {
                    assert!(
                        imported <= own_rung,
                        "{}: {own} may not use {module}, which stands above it",
                        file.display()
                    );
                }
            }
        }
    }
}

#[test]
fn every_operator_has_its_derivative_and_the_proof() {
    for file in rust_files("runtime/kernels/src/ops") {
        if matches!(file.file_stem().unwrap().to_str(), Some("mod" | "real")) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for needed in [
            "pub fn forward",
            "pub fn backward",
            "fn backward_is_the_derivative_of_forward",
        ] {
            assert!(text.contains(needed), "{} lacks `{needed}`", file.display());
        }
    }
}

#[test]
fn files_are_short_and_named_for_what_they_hold() {
    for file in rust_files("") {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        assert!(
            !NAMES_THAT_SAY_NOTHING.contains(&stem),
            "{}: name the thing",
            file.display()
        );
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{}: {lines} lines", file.display());
        assert!(
            text.starts_with("//!"),
            "{}: say what this file is",
            file.display()
        );
    }
}

#[test]
fn unsafe_code_lives_in_its_rooms() {
    for file in rust_files("") {
        let path = file.strip_prefix(root()).unwrap();
        let path = path.to_str().unwrap().to_owned();
        if UNSAFE.iter().any(|room| path.starts_with(room)) || path == "tests/house.rs" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            !text.contains("unsafe {") && !text.contains("allow(unsafe_code)"),
            "{path} is not a room for unsafe code"
        );
    }
}

#[test]
fn nothing_is_left_to_do_silently() {
    for file in rust_files("") {
        if file.ends_with("tests/house.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for marker in ["todo!(", "unimplemented!(", "#[ignore", "FIXME"] {
            assert!(
                !text.contains(marker),
                "{} contains {marker}",
                file.display()
            );
        }
    }
}

/// Every Rust file of ours under a folder; build outputs are not ours.
fn rust_files(under: &str) -> Vec<PathBuf> {
    let (mut dirs, mut files) = (vec![root().join(under)], vec![]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap_or(".");
            if path.is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests folder is in the workspace")
}
