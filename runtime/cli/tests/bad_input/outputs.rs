//! Outputs that cannot be written, exist already, or are read by nobody.

use crate::workplace::Place;

/// Every command that writes, with `OUT` where the name stands.
const WRITERS: [&str; 14] = [
    "logits -m model.gguf -p hi -o OUT",
    "convert --plugin ubiai export.json -o OUT",
    "train -m model.gguf --data text.json --steps 1 -o OUT",
    "eval -m model.gguf --data text.json --metric exact-match -n 1 --predictions OUT",
    "eval -m model.gguf --data text.json --metric exact-match -n 1 --report OUT",
    "adapter export a.gguf -m model.gguf -o OUT",
    "adapter import peft -m model.gguf -o OUT",
    "adapter merge -m model.gguf --adapter a.gguf -o OUT",
    "adapter combine a.gguf:0.5 peft:2 -m model.gguf -o OUT",
    "adapter difference -m model.gguf --tuned merged.gguf --rank 2 -o OUT",
    "adapter prune a.gguf --rank 2 -m model.gguf -o OUT",
    "adapter scale a.gguf --by 2 -m model.gguf -o OUT",
    "adapter rename a.gguf --name b -m model.gguf -o OUT",
    "quantize model.gguf OUT Q8_0 --allow-requantize",
];

/// A place with something to write for each of [`WRITERS`].
fn place() -> Place {
    let place = Place::new();
    let export = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/demo/digits/held-out/export.json"
    );
    let records: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(export).unwrap()).unwrap();
    let few: serde_json::Value = records[..2].iter().cloned().collect();
    for (i, record) in records[..2].iter().enumerate() {
        let name = record["documentName"].as_str().unwrap();
        std::fs::copy(place.path(&format!("{i}.png")), place.path(name)).unwrap();
    }
    place.write("export.json", few.to_string());
    place
        .run("adapter export a.gguf -m model.gguf -o peft")
        .done();
    place
        .run("adapter merge -m model.gguf --adapter a.gguf -o merged.gguf --type F16")
        .done();
    place
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let place = place();
    for writer in WRITERS {
        let said = place.leaves_nothing(|| place.run(&writer.replace("OUT", "no/where")));
        assert!(matches!(said.status, Some(1 | 2)), "{said:#?}");
        assert!(
            said.err.contains("no/where") || said.err.contains("no does not exist"),
            "{said:#?}"
        );
        assert_eq!(said.err.lines().count(), 1, "{said:#?}");
    }
}

#[test]
fn a_file_is_no_folder_and_a_folder_no_file() {
    let place = place();
    std::fs::create_dir(place.path("folder")).unwrap();
    place.write("folder/mine", "kept");
    for writer in WRITERS {
        let said = place.leaves_nothing(|| place.run(&writer.replace("OUT", "0.png/out")));
        said.failed(&["0.png/out"]);
        let said = place.leaves_nothing(|| place.run(&writer.replace("OUT", "folder")));
        assert!(matches!(said.status, Some(1 | 2)), "{said:#?}");
        assert!(said.err.contains("folder"), "{said:#?}");
        assert_eq!(said.err.lines().count(), 1, "{said:#?}");
    }
    assert_eq!(place.read("folder/mine"), b"kept");
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left() {
    let place = place();
    for writer in WRITERS.iter().filter(|w| !w.starts_with("adapter export")) {
        let line = writer
            .replace("OUT", "/dev/full")
            .replace("train", "train --run-dir run");
        let said = match writer.starts_with("train") {
            true => place.run(&line),
            false => place.leaves_nothing(|| place.run(&line)),
        };
        said.failed(&["cannot write /dev/full", "No space left on device"]);
    }
    place
        .run("train -m model.gguf --data text.json --steps 1 -o /dev/full")
        .misused(&["/dev/full is a device", "--run-dir"]);
    assert!(!place.has_partial());
}

#[test]
fn stdout_on_a_full_disk_is_a_failure() {
    let place = place();
    for line in [
        "run -m model.gguf -p hi -n 2",
        "tokenize -m model.gguf -p hi",
        "inspect model.gguf",
        "devices",
        "devices --json",
        "plan -m model.gguf --data text.json",
        "eval -m model.gguf --data text.json --metric exact-match -n 1",
        "adapter info a.gguf",
        "plugin info ubiai",
        "run --json -m model.gguf -p hi -n 2",
    ] {
        place
            .shell(&format!("{{}} {line} > /dev/full"))
            .failed(&["cannot write the result", "No space left on device"]);
    }
    let said = place.shell("echo hi | {} chat -m model.gguf -n 2 > /dev/full");
    assert_eq!(said.status, Some(1), "{said:#?}");
    assert!(said.err.contains("No space left on device"), "{said:#?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = place();
    for line in [
        "run -m model.gguf --raw -p hi -n 200",
        "tokenize -m model.gguf --pieces -f data.json",
        "inspect model.gguf --tensors --no-hash",
        "inspect model.gguf --json",
        "devices",
        "plan -m model.gguf --data text.json",
        "eval -m model.gguf --data text.json --metric exact-match -n 1",
        "adapter info a.gguf",
        "plugin info ubiai",
        "plugin check ubiai",
        "--help",
        "run --help",
    ] {
        // The reader is gone before the first word is written.
        let said = place.shell(&format!(
            "{{ sleep 0.05; {{}} {line}; echo \"status $?\" >&2; }} | true"
        ));
        assert!(said.err.contains("status 0"), "{said:#?}");
        assert!(!said.err.contains("graft: "), "{said:#?}");
    }
    place.shell("{} devices 2>&1 >/dev/null | true").done();
    place
        .shell("{} run -m missing.gguf -p hi 2> /dev/full; test $? = 1")
        .done();
    place
        .shell(
            "{} train -m model.gguf --data text.json --steps 2 -o o.gguf 2> /dev/full > /dev/null",
        )
        .done();
}

#[test]
fn an_output_that_exists_is_replaced_when_the_work_is_done_and_kept_when_it_fails() {
    let place = place();
    for writer in WRITERS.iter().filter(|w| !w.starts_with("adapter export")) {
        place.write("old", "old");
        let broken = writer
            .replace("model.gguf", "0.png")
            .replace("export.json", "0.png");
        let said = place.run(&broken.replace("OUT", "old"));
        assert_eq!(said.status, Some(1), "{said:#?}");
        assert_eq!(place.read("old"), b"old", "{said:#?}");
        place.run(&writer.replace("OUT", "old")).done();
        assert_ne!(place.read("old"), b"old", "{writer}");
        let _ = std::fs::remove_dir_all(place.path("old.run"));
    }
    place
        .run("adapter export a.gguf -m model.gguf -o peft")
        .failed(&["peft"]);
    for line in ["plugin new peft", "demo --keep peft"] {
        let said = place.leaves_nothing(|| place.run(line));
        assert!(matches!(said.status, Some(1 | 2)), "{said:#?}");
        assert!(said.err.contains("peft exists"), "{said:#?}");
    }
    // A model may even take its own place.
    place
        .run("quantize model.gguf model.gguf Q8_0 --allow-requantize")
        .done();
    place.run("run -m model.gguf -p hi -n 1").done();
}

#[test]
fn a_run_folder_is_used_again_only_if_nothing_in_it_can_go_on() {
    let place = place();
    let train = "train -m model.gguf --data text.json --steps 1 -o out.gguf";
    place.run(train).done();
    let said = place.leaves_nothing(|| place.run(train));
    said.failed(&["out.run already holds a run", "--resume"]);
    // A run that was killed before it saved anything.
    std::fs::remove_file(place.path("out.run/adapter.gguf")).unwrap();
    std::fs::remove_dir_all(place.path("out.run/checkpoint-1")).unwrap();
    place
        .run("train --resume out.run")
        .failed(&["out.run", "no checkpoint"]);
    place.run(train).done();
    let metrics = String::from_utf8(place.read("out.run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 1, "{metrics}");
}
