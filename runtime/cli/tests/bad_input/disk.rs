//! A disk that is full half way through a file.

use crate::workplace::Place;

/// `graft LINE` that can write no file longer than `kib` KiB.
fn limited(kib: u32, line: &str) -> String {
    format!("trap '' XFSZ; ulimit -f {kib}; {{}} {line}")
}

#[test]
fn a_model_that_does_not_fit_leaves_nothing() {
    let place = Place::new();
    for line in [
        "quantize model.gguf out.gguf Q8_0 --allow-requantize",
        "adapter merge -m model.gguf --adapter a.gguf -o out.gguf",
        "logits -m model.gguf -p 'What is written here? And there?' -o out.gguf",
    ] {
        for kib in [0, 1, 16] {
            let said = place.leaves_nothing(|| place.shell(&limited(kib, line)));
            said.failed(&["cannot write out.gguf", "File too large"]);
        }
    }
}

#[test]
fn an_adapter_that_does_not_fit_leaves_nothing() {
    let place = Place::new();
    place
        .run("adapter export a.gguf -m model.gguf -o peft")
        .done();
    for line in [
        "adapter export a.gguf -m model.gguf -o out",
        "adapter import peft -m model.gguf -o out",
    ] {
        let said = place.leaves_nothing(|| place.shell(&limited(0, line)));
        said.failed(&["cannot write out", "File too large"]);
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_keeps_the_ones_before_and_training_goes_on_later() {
    let place = Place::new();
    let train =
        "train -m model.gguf --data text.json --steps 4 --save-every 2 --rank 2 -o out.gguf";
    // Room for the record and the adapter, not for the moments.
    let said = place.shell(&limited(200, train));
    said.failed(&["cannot write out.run/checkpoint-2", "File too large"]);
    assert!(!place.has_partial());
    assert!(!place.path("out.gguf").exists());
    // Nothing was saved, so the same command begins again.
    place.run(train).done();
    // A run that has a checkpoint keeps it when the next one does not fit.
    std::fs::remove_dir_all(place.path("out.run/checkpoint-4")).unwrap();
    std::fs::remove_file(place.path("out.gguf")).unwrap();
    let said = place.shell(&limited(200, "train --resume out.run"));
    said.failed(&["cannot write out.run/checkpoint-4", "File too large"]);
    assert!(place.path("out.run/checkpoint-2/state.json").exists());
    assert!(!place.has_partial());
    place.run("train --resume out.run").done();
    assert!(place.path("out.gguf").exists());
}

#[test]
fn a_plugin_or_demo_that_does_not_fit_leaves_no_folder() {
    let place = Place::new();
    let said = place.leaves_nothing(|| place.shell(&limited(0, "plugin new my-format")));
    said.failed(&["cannot write my-format", "File too large"]);
    let said = place.leaves_nothing(|| place.shell(&limited(16, "demo --keep my-demo")));
    said.failed(&["cannot write to my-demo", "File too large"]);
}
