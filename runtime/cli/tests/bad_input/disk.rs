//! A disk that is full half way through a file.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::workplace::{Place, Running};

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

/// `graft LINE`, running, whose files may have `bytes` bytes until somebody allows more.
fn limited_to(place: &Place, bytes: u64, line: &str) -> Running {
    let mut command = place.command("bash");
    let graft = env!("CARGO_BIN_EXE_graft");
    let script = format!("trap '' XFSZ; exec prlimit --fsize={bytes}: '{graft}' {line}");
    command.args(["-c", &script]);
    Running::start(line, command)
}

fn allow_more(running: &Running) {
    let raised = Command::new("prlimit")
        .args(["--pid", &running.id(), "--fsize=unlimited:"])
        .status();
    assert!(raised.unwrap().success());
}

#[test]
fn a_checkpoint_that_does_not_fit_is_waited_for_and_the_one_before_is_kept() {
    let place = Place::new();
    let options = "train -m model.gguf --data text.json --steps 4 --save-every 2 --rank 2";
    let train = format!("{options} -o out.gguf");
    // Room for the record and the adapter, not for the moments.
    let mut running = limited_to(&place, 200 << 10, &train);
    let said = running.until("paused: ");
    assert!(
        said.contains("cannot write out.run/checkpoint-2: File too large")
            && said.contains("ulimit -f"),
        "{said}"
    );
    running.until("nothing is saved yet");
    assert!(!place.has_partial());
    running.press();
    running
        .end()
        .failed(&["no room", "nothing of 2 updates is saved"]);
    assert!(!place.has_partial() && !place.path("out.gguf").exists());
    // Nothing was saved, so the same command begins again.
    place.run(&train).done();
    // A run that has a checkpoint keeps it when the next one does not fit.
    std::fs::remove_dir_all(place.path("out.run/checkpoint-4")).unwrap();
    std::fs::remove_file(place.path("out.gguf")).unwrap();
    let resume = "train --resume out.run";
    let mut running = limited_to(&place, 200 << 10, resume);
    let said = running.until("paused: ");
    assert!(said.contains("cannot write out.run/checkpoint-4"), "{said}");
    running.until("`graft train --resume out.run` then goes on from out.run/checkpoint-2");
    running.press();
    let said = running.end();
    said.interrupted(&["out.run/checkpoint-2 is kept", "--resume out.run"]);
    assert!(!place.has_partial());
    // And goes on where it is when there is room.
    let mut running = limited_to(&place, 200 << 10, resume);
    running.until("paused: ");
    allow_more(&running);
    running.until("there is room again");
    running.end().done();
    assert!(!place.has_partial());
    place.run(&format!("{options} -o whole.gguf")).done();
    assert_eq!(place.read("out.gguf"), place.read("whole.gguf"));
    for file in ["adapter.gguf", "state.safetensors"] {
        let of = |run: &str| place.read(&format!("{run}.run/checkpoint-4/{file}"));
        assert_eq!(of("out"), of("whole"), "{file}");
    }
}

#[test]
fn a_line_that_was_cut_short_is_written_whole_before_the_next() {
    let place = Place::new();
    let options = "train -m model.gguf --data text.json --rank 2 --save-every 10 --steps 40";
    let stopped =
        "train -m model.gguf --data text.json --rank 2 --save-every 10 --steps 40 -o out.gguf";
    let mut running = limited_to(&place, 200 << 10, stopped);
    running.until("checkpoint-10");
    running.press();
    running.end().failed(&["nothing of 10 updates"]);
    // Events are cut, then the record: the new events of a run that goes on are shorter.
    let mut running = limited_to(
        &place,
        1500,
        &stopped.replace("--save-every 10", "--save-every 0"),
    );
    let said = running.until("paused: ");
    assert!(
        said.contains("out.run/tb") || said.contains("out.run/metrics.jsonl"),
        "{said}"
    );
    allow_more(&running);
    running.end().done();
    assert_eq!(place.recorded("out.run"), (1..=40).collect::<Vec<u64>>());
    assert_eq!(
        event_steps(&place, "out.run/tb"),
        (1..=40).collect::<Vec<u64>>()
    );
    place.run(&format!("{options} -o whole.gguf")).done();
    assert_eq!(place.read("out.gguf"), place.read("whole.gguf"));
    // A run that goes on has a long record and short events.
    for checkpoint in [
        "whole.run/checkpoint-40",
        "whole.run/adapter.gguf",
        "whole.gguf",
    ] {
        let path = place.path(checkpoint);
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
    }
    let line = String::from_utf8(place.read("whole.run/metrics.jsonl")).unwrap();
    let kept: usize = line.split_inclusive('\n').take(30).map(str::len).sum();
    let mut running = limited_to(&place, kept as u64 + 50, "train --resume whole.run");
    let said = running.until("paused: ");
    assert!(said.contains("whole.run/metrics.jsonl"), "{said}");
    let record = place.read("whole.run/metrics.jsonl");
    assert_eq!(record.len(), kept, "half a line is taken back");
    allow_more(&running);
    running.end().done();
    assert_eq!(place.recorded("whole.run"), (1..=40).collect::<Vec<u64>>());
    assert_eq!(place.read("out.gguf"), place.read("whole.gguf"));
}

/// The steps of `train/loss` in the event files of a folder, as a reader finds them: the latest file
/// drops what earlier ones say of its first step and later ones.
fn event_steps(place: &Place, folder: &str) -> Vec<u64> {
    let mut files: Vec<_> = std::fs::read_dir(place.path(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut steps = Vec::new();
    for path in files {
        let file = std::fs::read(path).unwrap();
        let mut at = 0;
        while at < file.len() {
            let length = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
            let event = &file[at + 12..at + 12 + length];
            at += 16 + length;
            // After the time: field 2, the step, small here.
            let step = match event[9] {
                0x10 => u64::from(event[10]),
                _ => continue,
            };
            match event[11] {
                0x3a => steps.retain(|&s| s < step),
                _ if event.windows(10).any(|w| w == b"train/loss") => steps.push(step),
                _ => {}
            }
        }
        assert_eq!(at, file.len(), "the last record is cut short");
    }
    steps
}

/// A small disk of its own, where the user may have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "graft-test"])
            .arg(&path)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|s| s.success()).then_some(Self(path))
    }

    /// Fills it but for `bytes` bytes.
    fn leave(&self, bytes: u64) {
        let ballast = self.0.join("ballast");
        let _ = std::fs::remove_file(&ballast);
        let mut file = std::fs::File::create(&ballast).unwrap();
        let mut len = 0;
        while let Ok(written) = file.write(&[0; 4096]) {
            len += written as u64;
        }
        file.set_len(len.saturating_sub(bytes)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_run_on_a_full_disk_waits_and_goes_on_with_the_same_bytes() {
    let place = Place::new();
    let options = "train -m model.gguf --data text.json --rank 2 --steps 60 --save-every 25";
    let line = format!("{options} --run-dir small/run -o small/out.gguf");
    let Some(disk) = SmallDisk::mount(place.path("small")) else {
        eprintln!("no small disk can be mounted here: limits on files are tested instead");
        return;
    };
    disk.leave(12 << 10);
    let mut command = place.graft(&line);
    command.stdin(Stdio::null());
    let mut running = Running::start(&line, command);
    // A page each for the configuration, the record and the events; then one of these needs its second,
    // then the other, then there is a checkpoint.
    let mut lacked = Vec::new();
    for more in [4, 4, 700] {
        let said = running.until("paused: ");
        assert!(
            said.contains("the disk is full: cannot write small/run")
                && said.contains("No space left on device")
                && said.contains("free some space"),
            "{said}"
        );
        let names = [
            "small/run/metrics.jsonl",
            "small/run/tb",
            "small/run/checkpoint-25",
        ];
        lacked.push(
            names
                .into_iter()
                .position(|name| said.contains(name))
                .unwrap(),
        );
        let ballast = disk.0.join("ballast");
        let len = std::fs::metadata(&ballast).unwrap().len();
        let file = std::fs::File::options().write(true).open(&ballast).unwrap();
        file.set_len(len - (more << 10)).unwrap();
        running.until("there is room again");
    }
    lacked.sort();
    assert_eq!(lacked, [0, 1, 2]);
    running.until("paused: ");
    std::fs::remove_file(disk.0.join("ballast")).unwrap();
    running.end().done();
    assert!(!place.has_partial());
    assert_eq!(place.recorded("small/run"), (1..=60).collect::<Vec<u64>>());
    assert_eq!(
        event_steps(&place, "small/run/tb"),
        (1..=60).collect::<Vec<u64>>()
    );
    place.run(&format!("{options} -o whole.gguf")).done();
    assert_eq!(place.read("small/out.gguf"), place.read("whole.gguf"));
    assert_eq!(
        place.read("small/run/checkpoint-60/state.safetensors"),
        place.read("whole.run/checkpoint-60/state.safetensors")
    );

    // A result that fits its run folder and not its own place.
    std::fs::remove_file(disk.0.join("out.gguf")).unwrap();
    disk.leave(8 << 10);
    let line = format!("{options} -o small/out.gguf --run-dir other.run");
    let mut running = Running::start(&line, place.graft(&line));
    let said = running.until("paused: ");
    assert!(
        said.contains("the disk is full: cannot write small/out.gguf"),
        "{said}"
    );
    running.until("the result is in other.run/adapter.gguf");
    running.press();
    let said = running.end();
    said.interrupted(&[
        "small/out.gguf is not written",
        "the result is in other.run/adapter.gguf",
    ]);
    let line = "train --resume other.run";
    let mut running = Running::start(line, place.graft(line));
    running.until("paused: ");
    std::fs::remove_file(disk.0.join("ballast")).unwrap();
    running.end().done();
    assert_eq!(place.read("small/out.gguf"), place.read("whole.gguf"));
    assert!(!place.has_partial());
}

#[test]
fn a_plugin_or_demo_that_does_not_fit_leaves_no_folder() {
    let place = Place::new();
    let said = place.leaves_nothing(|| place.shell(&limited(0, "plugin new my-format")));
    said.failed(&["cannot write my-format", "File too large"]);
    let said = place.leaves_nothing(|| place.shell(&limited(16, "demo --keep my-demo")));
    said.failed(&["cannot write to my-demo", "File too large"]);
}
