//! The example programs, built as their readers would and run on the demo's model.

mod demo;
mod program;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use program::{root, succeed};

/// Builds `abi/examples/<source>` with the shared library, once.
fn build(source: &str) -> PathBuf {
    static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let library = program::release();
    let program = library.join(source.replace('.', "-"));
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.insert(program.clone()) {
        return program;
    }
    let (compiler, standard) = match source.ends_with(".cc") {
        true => ("c++", "-std=c++17"),
        false => ("cc", "-std=c11"),
    };
    let mut cc = Command::new(compiler);
    cc.args([
        standard,
        "-D_POSIX_C_SOURCE=200809L",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-I",
    ])
    .arg(library.join("include"))
    .arg(root().join("abi/examples").join(source))
    .arg("-L")
    .arg(library.join("lib"))
    .arg("-lgraft")
    .arg(format!("-Wl,-rpath,{}", library.join("lib").display()))
    .arg("-o")
    .arg(&program);
    succeed(&mut cc);
    program
}

fn say(program: &Path, arguments: &[&Path], said: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(said.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", program.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Questions and answers without images.
fn text_data(folder: &Path) -> PathBuf {
    let sample = |i: usize| {
        format!(
            r#"{{"id":"{i}","conversations":[{{"from":"human","value":"How much is {i}?"}},{{"from":"gpt","value":"{i}"}}]}}"#
        )
    };
    let samples: Vec<String> = (0..12).map(sample).collect();
    let path = folder.join("data.json");
    std::fs::write(&path, format!("[{}]", samples.join(","))).unwrap();
    path
}

#[test]
fn every_example_is_short() {
    for entry in std::fs::read_dir(root().join("abi/examples")).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 150, "{}: {lines} lines", path.display());
    }
}

#[test]
fn the_examples_that_answer_run() {
    let (model, mmproj) = (demo::file("model.gguf"), demo::file("mmproj.gguf"));
    let chat = say(&build("chat.c"), &[&model], "hello\nand again\n\n");
    assert!(
        chat.starts_with("> ") && chat.matches("> ").count() == 3,
        "{chat}"
    );

    let images = std::fs::read_dir(demo::file("digits/held-out/images")).unwrap();
    let image = images.map(|entry| entry.unwrap().path()).min().unwrap();
    let question = Path::new("Which digit is this?");
    let answer = say(
        &build("question.cc"),
        &[&model, &mmproj, &image, question],
        "",
    );
    assert!(!answer.trim().is_empty());

    let memory = say(&build("from_memory.c"), &[&model], "");
    assert!(
        memory.ends_with("graft needs the bytes no more\n"),
        "{memory}"
    );

    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3 for the example in Python");
        return;
    }
    let library = program::release().join("lib/libgraft.so.0");
    let python = root().join("abi/examples/graft_ctypes.py");
    let said = say(Path::new("python3"), &[&python, &library, &model], "");
    let text = memory.lines().next().unwrap();
    assert_eq!(
        said.trim_end(),
        text.trim_end(),
        "ctypes and C continue the same"
    );
}

#[test]
fn the_examples_say_what_is_wrong() {
    let wrong = Path::new("no/such/model.gguf");
    for (source, further) in [
        ("chat.c", 0),
        ("from_memory.c", 0),
        ("event_loop.c", 1),
        ("hot_swap.c", 3),
        ("question.cc", 3),
        ("train.cc", 2),
    ] {
        let arguments = std::iter::repeat_n(wrong, further + 1);
        let output = Command::new(build(source))
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{source}: {said}");
        assert!(
            said.contains("no/such/model.gguf") && said.trim().lines().count() == 1,
            "{said}"
        );
        let usage = Command::new(build(source)).output().unwrap();
        assert_eq!(usage.status.code(), Some(2), "{source}");
    }
}

#[test]
fn the_examples_that_train_run_and_their_adapters_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (demo::file("model.gguf"), text_data(folder.path()));
    let adapters = ["first.gguf", "second.gguf"].map(|name| folder.path().join(name));
    let watched = build("event_loop.c");
    for adapter in &adapters {
        let said = say(&watched, &[&model, &data, adapter], "");
        assert!(
            said.contains("step 20 of 20") && said.contains("came to GRAFT_"),
            "{said}"
        );
    }
    let paused = say(&watched, &[&model, &data], "quit\n");
    assert!(paused.contains("the job came to"), "{paused}");

    let [first, second] = &adapters;
    let prompt = Path::new("How much is 3?");
    let swapped = say(&build("hot_swap.c"), &[&model, first, second, prompt], "");
    let lines: Vec<_> = swapped.lines().collect();
    assert_eq!(lines.len(), 4, "{swapped}");
    assert_eq!(lines[0], lines[2]);

    let run = folder.path().join("run");
    let trained = say(&build("train.cc"), &[&model, &data, &run, prompt], "");
    assert!(
        trained.contains("updates,") && trained.contains("12/12"),
        "{trained}"
    );
    // Once more, from the run folder: there is nothing left to do.
    let again = say(&build("train.cc"), &[&model, &data, &run], "");
    assert!(again.contains("updates,"), "{again}");
}
