//! Ctrl-C: status 130, what can be saved is, and nothing half-written stays.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::workplace::{Place, Said, question, records};

/// Starts `line`, waits until `ready`, presses Ctrl-C, and says how it ended.
fn interrupted(place: &Place, line: &str, ready: impl Fn() -> bool) -> Said {
    let child = place.graft(line).spawn().unwrap();
    let begun = Instant::now();
    while !ready() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{line} never began"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    press(&child);
    Said::from(line, child.wait_with_output().unwrap())
}

fn press(child: &Child) {
    let done = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(done.unwrap().success());
}

/// A data set of many questions.
fn many(place: &Place) {
    place.write(
        "many.json",
        records((0..2000).map(|i| question(&format!("q{i}"), None))),
    );
}

#[test]
fn training_saves_a_checkpoint_and_goes_on_from_it_as_if_nothing_had_happened() {
    let place = Place::new();
    let options = "train -m model.gguf --data text.json --rank 2 --save-every 0 --steps 400";
    let metrics = place.path("out.run/metrics.jsonl");
    let begun = || std::fs::metadata(&metrics).is_ok_and(|m| m.len() > 500);
    let said = interrupted(&place, &format!("{options} -o out.gguf"), begun);
    let said = said.interrupted(&[
        "interrupted; out.run/checkpoint-",
        "is saved",
        "--resume out.run",
    ]);
    assert!(said.out.is_empty(), "{said:#?}");
    assert!(!place.path("out.gguf").exists() && !place.has_partial());
    place.run("inspect out.run").done();
    place.run("train --resume out.run").done();
    assert_eq!(place.recorded("out.run"), (1..=400).collect::<Vec<u64>>());
    place.run(&format!("{options} -o whole.gguf")).done();
    assert_eq!(place.read("out.gguf"), place.read("whole.gguf"));
}

/// Power cuts: the process is killed again and again wherever it is, and somebody starts it again.
/// `options` is a run with `save_every` or best checkpoints long before its end.
fn killed_at_any_moment(place: &Place, options: &str) {
    let (mut kills, mut saved) = (0, 0);
    loop {
        assert!(kills < 200, "it never gets to its end");
        let line = match saved {
            0 => format!("{options} -o out.gguf"),
            _ => "train --resume out.run".to_owned(),
        };
        let mut child = place.graft(&line).spawn().unwrap();
        // From before the first checkpoint to after several, on a machine of any speed.
        let pause = Duration::from_millis(20 + kills * 7919 % 250 + kills * 5);
        let begun = Instant::now();
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if begun.elapsed() > pause => break None,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        if let Some(status) = ended {
            assert!(status.success(), "{status}");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let entries = std::fs::read_dir(place.path("out.run"));
        let numbers = entries.into_iter().flatten().filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_prefix("checkpoint-")?.parse::<u64>().ok()
        });
        let now = numbers.max().unwrap_or(0);
        assert!(
            now >= saved,
            "checkpoint {saved} is lost, {now} is the last"
        );
        saved = now;
    }
    assert!(!place.has_partial(), "{:?}", place.listing());
    assert!(kills >= 2, "it was killed {kills} times");
    place.run(&format!("{options} -o whole.gguf")).done();
    assert_eq!(place.read("out.gguf"), place.read("whole.gguf"));
}

#[test]
fn a_run_that_is_killed_at_any_moment_loses_nothing_that_was_saved() {
    let place = Place::new();
    let options = "train -m model.gguf --data text.json --rank 2 --save-every 7 --steps 300 \
        --moments disk";
    killed_at_any_moment(&place, options);
}

#[test]
fn a_run_with_images_and_evaluation_that_is_killed_at_any_moment_has_the_same_best() {
    let place = Place::new();
    let options = "train -m model.gguf --mmproj mmproj.gguf --data data.json --rank 2 --lr 3e-2 \
        --eval-data text.json --eval-every 3 --keep-best --early-stop 5 --save-every 4 --keep 1 \
        --steps 120 --moments disk --layer-inputs disk --image-features disk --train-projector";
    killed_at_any_moment(&place, options);
    for file in ["adapter.gguf", "mmproj.gguf"] {
        let of = |run: &str| place.read(&format!("{run}.run/{file}"));
        assert_eq!(of("out"), of("whole"), "{file}");
    }
    let names = |run: &str| {
        let mut names: Vec<_> = std::fs::read_dir(place.path(run))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    // The same checkpoints, features and all, and nothing else.
    assert_eq!(names("out.run"), names("whole.run"));
    assert_eq!(names("out.run/features"), names("whole.run/features"));
    assert_eq!(place.recorded("out.run"), place.recorded("whole.run"));
    let last = place.recorded("out.run").len();
    let state = |run: &str| {
        let text = place.read(&format!("{run}.run/checkpoint-{last}/state.json"));
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["standing"].clone()
    };
    assert_eq!(state("out"), state("whole"));
    // Which update was the best differs from processor to processor; that there is one does not.
    let best = state("out")["best"]["step"].as_u64();
    assert!(
        best.is_some_and(|step| step % 3 == 0 && step <= last as u64),
        "{}",
        state("out")
    );
}

#[test]
fn a_run_that_is_killed_while_its_result_is_copied_leaves_no_half_of_it() {
    let place = Place::new();
    let options = "train -m model.gguf --data text.json --rank 64 --steps 2";
    place.run(&format!("{options} -o out.gguf")).done();
    let result = place.read("out.gguf");
    let half = || {
        let entries = std::fs::read_dir(place.path("")).unwrap().flatten();
        let mut partial = entries.filter(|e| e.file_name().to_string_lossy().ends_with(".partial"));
        // An empty one is only tried for at the beginning.
        partial.any(|e| e.metadata().is_ok_and(|m| m.len() > 0))
    };
    let mut killed = 0;
    for _ in 0..40 {
        std::fs::remove_file(place.path("out.gguf")).unwrap();
        let mut child = place.graft("train --resume out.run").spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if half() {
                child.kill().unwrap();
                killed += 1;
                break;
            }
        }
        child.wait().unwrap();
        place.run("train --resume out.run").done();
        assert!(!place.has_partial(), "{:?}", place.listing());
        assert_eq!(place.read("out.gguf"), result);
        if killed == 3 {
            break;
        }
    }
    // What a copy or a cache leaves when it is killed too fast to be seen here.
    std::fs::create_dir(place.path("features")).unwrap();
    for name in [".graft-a.partial", "features/.graft-b.partial"] {
        place.write(name, "half");
    }
    place
        .run("train -m model.gguf --mmproj mmproj.gguf --data data.json --steps 1 --rank 2 -o b.gguf --feature-cache features")
        .done();
    assert!(!place.has_partial(), "{:?}", place.listing());
}

#[test]
fn a_checkpoint_of_another_run_or_a_damaged_one_is_refused() {
    let place = Place::new();
    place
        .run("train -m model.gguf --data text.json --rank 2 --steps 2 -o out.gguf")
        .done();
    place.run("train --resume missing").failed(&["missing"]);
    place.run("train --resume 0.png").failed(&["0.png"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    place
        .run("train --resume empty")
        .failed(&["empty", "no checkpoint"]);
    let state = place.read("out.run/checkpoint-2/state.safetensors");
    place.write(
        "out.run/checkpoint-2/state.safetensors",
        &state[..state.len() / 2],
    );
    place
        .run("train --resume out.run")
        .failed(&["out.run/checkpoint-2", "state.safetensors"]);
    place.write("out.run/checkpoint-2/state.safetensors", &state);
    let description = place.read("out.run/checkpoint-2/state.json");
    place.write("out.run/checkpoint-2/state.json", "{");
    place
        .run("train --resume out.run")
        .failed(&["out.run/checkpoint-2", "state.json", "line 1"]);
    place
        .run("inspect out.run")
        .failed(&["out.run/checkpoint-2", "state.json"]);
    place.write("out.run/checkpoint-2/state.json", description);
    let config = place.read("out.run/config.json");
    place.write("out.run/config.json", "{}");
    place
        .run("train --resume out.run")
        .failed(&["out.run/config.json"]);
    place.write("out.run/config.json", config);
    place.write("text.json", records([question("another", None)]));
    place
        .run("train --resume out.run")
        .failed(&["the training data changed"]);
}

#[test]
fn an_evaluation_leaves_no_file() {
    let place = Place::new();
    many(&place);
    let line = "eval -m model.gguf --data many.json --metric exact-match --predictions out.jsonl --report out.json";
    let said = place.leaves_nothing(|| interrupted(&place, line, || place.has_partial()));
    said.interrupted(&[]);
}

#[test]
fn writing_commands_leave_no_file() {
    let place = Place::new();
    place.write("long.txt", "word ".repeat(600));
    let tokens = vec!["5"; 2000].join(",");
    let record = serde_json::from_slice::<Vec<serde_json::Value>>(
        &std::fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/demo/digits/held-out/export.json"
        ))
        .unwrap(),
    )
    .unwrap()
    .swap_remove(0);
    std::fs::copy(
        place.path("0.png"),
        place.path(record["documentName"].as_str().unwrap()),
    )
    .unwrap();
    place.write("export.json", records(vec![record; 20_000]));
    for line in [
        format!("logits -m model.gguf --tokens {tokens} -o out.npy --threads 1"),
        "convert --plugin ubiai export.json -o out.json".into(),
        "quantize model.gguf out.gguf Q2_K --allow-requantize --threads 1".into(),
    ] {
        let said = place.leaves_nothing(|| interrupted(&place, &line, || place.has_partial()));
        said.interrupted(&[]);
    }
}

#[test]
fn an_answer_stops_and_what_was_said_stays() {
    let place = Place::new();
    let line = "run -m model.gguf --raw -p hi -n 2000 --ctx 100000 --threads 1";
    let mut child = place.graft(line).spawn().unwrap();
    let mut first = [0; 1];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    press(&child);
    let said = Said::from(line, child.wait_with_output().unwrap());
    assert!(said.out.ends_with('\n'), "{said:#?}");
    said.interrupted(&["interrupted"]);
}

#[test]
fn a_chat_that_waits_ends_and_measuring_stops() {
    let place = Place::new();
    let mut command = place.graft("chat -m model.gguf -n 2");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"hi\n").unwrap();
    let mut first = [0; 1];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    // The answer is two tokens: after this it waits for the next line.
    std::thread::sleep(Duration::from_millis(300));
    press(&child);
    let said = Said::from("chat", child.wait_with_output().unwrap());
    assert_eq!(said.status, Some(130), "{said:#?}");
    place.write("long.txt", "word ".repeat(40_000));
    let begun = Instant::now();
    for line in [
        "perplexity -m model.gguf -f long.txt",
        "bench -m model.gguf --rounds 900",
    ] {
        let after = Instant::now();
        let said = interrupted(&place, line, || {
            after.elapsed() > Duration::from_millis(400)
        });
        said.interrupted(&["interrupted"]);
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
}
