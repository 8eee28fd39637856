//! Graphics devices at the command line, and everything that can be wrong with one: each fault is an error with one
//! clear sentence, or the processor does the work.
//!
//! Faults come from a layer between the Vulkan loader and the driver (`faulty_driver.c`), so that all of graft is
//! what people run.

#[allow(dead_code)] // what goes wrong is looked at in bad_input
#[path = "../bad_input/workplace.rs"]
mod workplace;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use workplace::{Place, Said};

/// Whether there is a device to test with; where there is none, says so, or fails if `GPU_REQUIRED` is 1.
fn device() -> bool {
    let required = std::env::var("GPU_REQUIRED").is_ok_and(|v| v == "1");
    let there = !graft::gpu::adapters().is_empty();
    assert!(there || !required, "no graphics device here");
    if !there {
        eprintln!("no graphics device here: NOT CHECKED (GPU_REQUIRED=1 makes this a failure)");
    }
    there
}

/// The folder of the layer, compiled once.
fn layer() -> &'static Path {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    LAYER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faulty-driver");
        std::fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libfaulty_driver.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu/faulty_driver.c");
        let compiled = Command::new("cc")
            .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O1", "-shared"])
            .args(["-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .status();
        assert!(compiled.unwrap().success());
        let manifest = serde_json::json!({
            "file_format_version": "1.1.2",
            "layer": {
                "name": "VK_LAYER_GRAFT_faulty_driver",
                "type": "GLOBAL",
                "library_path": library,
                "api_version": "1.3.0",
                "implementation_version": "1",
                "description": "A driver that fails",
            },
        });
        let manifest = manifest.to_string();
        std::fs::write(folder.join("faulty_driver.json"), manifest).unwrap();
        folder
    })
}

/// Runs `graft LINE` on a driver that fails, once the file `after` is there if one is named.
fn with_fault(place: &Place, line: &str, fault: &str, after: Option<&str>) -> Said {
    let mut command = place.graft(line);
    command
        .env("VK_LAYER_PATH", layer())
        .env("VK_INSTANCE_LAYERS", "VK_LAYER_GRAFT_faulty_driver")
        .env("DRIVER_FAULT", fault);
    if let Some(after) = after {
        command.env("DRIVER_FAULT_AFTER", after);
    }
    let said = Said::from(line, command.output().unwrap());
    println!("{fault}: {}", said.err);
    said
}

/// Runs `graft LINE` where there is no driver.
fn without_driver(place: &Place, line: &str) -> Said {
    let mut command = place.graft(line);
    for variable in ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"] {
        command.env(variable, "/nowhere/driver.json");
    }
    Said::from(line, command.output().unwrap())
}

const RUN: &str = "run -m model.gguf -p hi -n 12 --temp 0";
const TRAIN: &str = "train -m model.gguf --data text.json --rank 2 --lr 1e-2";
const ON_DEVICE: &str = "--device gpu:0 --gpu-memory 32MiB";

#[test]
fn a_run_whose_driver_loses_the_device_goes_on_to_the_same_result() {
    if !device() {
        return;
    }
    let place = Place::new();
    place
        .run(&format!("{TRAIN} --steps 6 {ON_DEVICE} -o whole.gguf"))
        .done();
    // In the update after a checkpoint, or after some that no checkpoint has; noticed by giving it more to do, or by
    // waiting.
    for (fault, every, after) in [
        ("submit:9", 2, "o.run/checkpoint-2"),
        ("wait:9", 2, "o.run/checkpoint-2"),
        ("submit:50", 6, "o.run/metrics.jsonl"),
        ("wait:50", 6, "o.run/metrics.jsonl"),
    ] {
        let line = format!("{TRAIN} --steps 6 {ON_DEVICE} --save-every {every} -o o.gguf");
        let said = with_fault(&place, &line, fault, Some(after));
        let said = said.failed(&[
            "was lost",
            "`graft train --resume o.run` goes on from o.run/",
        ]);
        assert!(!place.path("o.gguf").exists() && !place.has_partial());
        let done = place.recorded("o.run").len();
        assert!((1..6).contains(&done), "{fault}: {done} updates");
        assert!(
            said.err.contains(&format!("o.run/checkpoint-{done}")),
            "{said:#?}"
        );
        // A driver that works again.
        place
            .run(&format!("train --resume o.run {ON_DEVICE}"))
            .done();
        assert!(place.read("o.gguf") == place.read("whole.gguf"), "{fault}");
        assert_eq!(place.recorded("o.run"), [1, 2, 3, 4, 5, 6]);
        std::fs::remove_dir_all(place.path("o.run")).unwrap();
        std::fs::remove_file(place.path("o.gguf")).unwrap();
    }
}

#[test]
fn a_run_that_lost_its_device_goes_on_on_the_processor() {
    if !device() {
        return;
    }
    let place = Place::new();
    let line = format!("{TRAIN} --steps 6 {ON_DEVICE} --save-every 2 -o o.gguf");
    let said = with_fault(&place, &line, "submit:9", Some("o.run/checkpoint-4"));
    said.failed(&["was lost", "o.run/checkpoint-4"]);
    let said = place.run("train --resume o.run").done();
    assert!(said.out.contains("o.gguf"), "{said:#?}");
    // Lost before anything was saved.
    std::fs::remove_dir_all(place.path("o.run")).unwrap();
    std::fs::remove_file(place.path("o.gguf")).unwrap();
    let said = with_fault(&place, &line, "submit:3", Some("o.run/config.json"));
    said.failed(&[
        "was lost",
        "nothing was saved yet, the same command begins again",
    ]);
    place.run(&format!("{TRAIN} --steps 6 -o o.gguf")).done();
}

#[test]
fn an_answer_ends_with_an_error_when_the_device_is_lost() {
    if !device() {
        return;
    }
    let place = Place::new();
    for fault in ["submit:1", "submit:40", "wait:1", "wait:20"] {
        let said = with_fault(&place, &format!("{RUN} {ON_DEVICE}"), fault, None);
        said.failed(&["was lost", "open it again"]);
    }
}

#[test]
fn a_device_without_memory_and_a_kernel_that_is_refused_are_said_to_be_that() {
    if !device() {
        return;
    }
    let place = Place::new();
    let line = format!("{RUN} {ON_DEVICE}");
    let said = with_fault(&place, &line, "memory:8", None);
    said.failed(&["memory left", "lower the budget or close other programs"]);
    with_fault(&place, &line, "memory:0", None).failed(&["could not be opened"]);
    for fault in ["kernel:1", "kernel:4"] {
        let said = with_fault(&place, &line, fault, None);
        said.failed(&["kernel ", "refused it", "update the driver"]);
    }
    // Nothing is wrong with the layer itself.
    let said = with_fault(&place, &line, "submit:1000000000", None).done();
    assert_eq!(said.out, place.run(&line).done().out);
}

#[test]
fn small_buffers_and_bindings_change_nothing_but_where_things_lie() {
    if !device() {
        return;
    }
    let place = Place::new();
    let line = format!("{RUN} --ctx 256 {ON_DEVICE}");
    let answer = place.run(&line).done();
    let train = format!("{TRAIN} --steps 2 {ON_DEVICE} --json -o");
    let loss = |said: Said| -> f64 {
        let document: serde_json::Value = serde_json::from_str(&said.done().out).unwrap();
        document["loss"].as_f64().unwrap()
    };
    let whole = loss(place.run(&format!("{train} whole.gguf")));
    for (i, fault) in ["binding:128", "buffer:1200"].into_iter().enumerate() {
        let said = with_fault(&place, &line, fault, None).done();
        assert_eq!(said.out, answer.out, "{fault}");
        // Sums over pieces come in another order.
        let in_pieces = loss(with_fault(
            &place,
            &format!("{train} {i}.gguf"),
            fault,
            None,
        ));
        assert!(
            (in_pieces - whole).abs() < 1e-4,
            "{fault}: {in_pieces} and {whole}"
        );
    }
}

#[test]
fn without_a_driver_auto_takes_the_processor_and_says_so_once() {
    let place = Place::new();
    let asked = without_driver(&place, &format!("{RUN} --device gpu"));
    asked.failed(&["no graphics device was found", "install a driver"]);
    let asked = without_driver(&place, &format!("{RUN} --device gpu:0"));
    asked.failed(&["no graphics device was found"]);
    let on_processor = place.run(RUN).done();
    for (line, what) in [
        (RUN.to_owned(), "an answer"),
        (format!("{TRAIN} --steps 6 -o o.gguf"), "a run"),
    ] {
        let said = without_driver(&place, &format!("{line} --device auto")).done();
        let told = said.err.matches("the processor runs the model").count();
        assert_eq!(told, 1, "{what}: {said:#?}");
        assert!(
            said.err.contains("no graphics device was found"),
            "{said:#?}"
        );
        if line == RUN {
            assert_eq!(said.out, on_processor.out);
        }
    }
    let said = without_driver(&place, "devices").done();
    assert!(
        said.out.contains("no graphics device was found"),
        "{said:#?}"
    );
}

#[test]
fn a_device_in_software_is_used_only_if_it_is_named() {
    let software =
        |card: &graft::gpu::AdapterReport| card.kind == graft::gpu::AdapterKind::Software;
    if !device() || !graft::gpu::adapters().iter().all(software) {
        return;
    }
    let place = Place::new();
    let refused = place.run(&format!("{RUN} --device gpu"));
    refused.failed(&[
        "the only graphics devices are software",
        "ask for one by name",
    ]);
    let said = place.run(&format!("{RUN} --device auto")).done();
    assert!(
        said.err
            .contains("the processor runs the model: the only graphics devices are software"),
        "{said:#?}"
    );
    place.run(&format!("{RUN} {ON_DEVICE}")).done();
}

#[test]
fn a_list_of_devices_says_what_trying_their_products_found() {
    if !device() {
        return;
    }
    let place = Place::new();
    let cache = place.path("cache");
    let devices = |line: &str| {
        let output = place.graft(line).env("XDG_CACHE_HOME", &cache).output();
        Said::from(line, output.unwrap()).done().out
    };
    let products = |document: &str| {
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        document["devices"][1]["product_seconds"].clone()
    };
    assert!(products(&devices("devices --json")).is_null());
    assert!(devices("devices").contains("tried"));
    let tried = products(&devices("devices --try --json"));
    for product in ["forward", "backward", "thin"] {
        assert!(tried[product]["f32"].as_f64().unwrap() > 0.0, "{tried}");
    }
    // Kept, to the nanosecond.
    assert_eq!(products(&devices("devices --json")), tried);
    let said = devices("devices");
    let line = said.lines().find(|line| line.contains("thin"));
    let times = line.unwrap().split("thin").nth(1).unwrap();
    assert!(times.contains("f32 ") && times.contains("s"), "{said}");
    // A driver that does not open it.
    let refused = with_fault(&place, "devices --try", "memory:0", None).done();
    assert!(refused.out.contains("could not be opened"), "{refused:#?}");
}
