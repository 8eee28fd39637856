//! Programs of earlier days with the library of today.

mod adapters_of_demo;
mod header;
mod program;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use regex::Regex;

/// The header of a release.
fn old_header() -> PathBuf {
    program::root().join("tests/abi/released/graft-0.1.h")
}

#[test]
fn a_program_of_the_first_release_runs_with_the_library_of_today() {
    let folder = tempfile::tempdir().expect("a folder for what it makes");
    let library = program::release().join("lib");
    let released = program::root().join("tests/abi/released");
    let client = folder.path().join("client");
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror"])
        .arg(released.join("client.c"))
        .arg("-L")
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .args(["-lgraft", "-o"])
        .arg(&client);
    program::succeed(&mut cc);
    let model = program::root().join("runtime/cli/demo/model.gguf");
    let [adapter, _other, _seeing] = adapters_of_demo::write(folder.path());
    program::run(&client, &[&model, &adapter, folder.path()]);
}

#[test]
fn structs_have_only_grown_and_no_function_is_gone() {
    let old = std::fs::read_to_string(old_header()).expect("the header of the release");
    let now = header::functions();
    for (name, was) in header::functions_of(&old) {
        let is = now.get(&name).unwrap_or_else(|| panic!("{name} is gone"));
        assert_eq!(format!("{was:?}"), format!("{is:?}"), "{name}");
    }
    let bodies = Regex::new(r"(?s)typedef struct (graft_\w+) \{(.*?)\n\}").expect("a pattern");
    let layouts = graft_abi::layouts();
    let mut text = format!("#include \"{}\"\n", old_header().display());
    let mut fields = 0;
    for found in bodies.captures_iter(&header::without_comments(&old)) {
        let name = &found[1];
        let layout = layouts.iter().find(|(known, ..)| *known == name);
        let (_, size, known) = layout.unwrap_or_else(|| panic!("{name} is gone"));
        let _ = writeln!(
            text,
            "_Static_assert(sizeof({name}) <= {size}, \"{name}\");"
        );
        for declared in found[2].lines().filter_map(field) {
            let place = known.iter().find(|(field, ..)| *field == declared);
            let (_, offset, size) = place.unwrap_or_else(|| panic!("{name}.{declared} is gone"));
            let _ = writeln!(
                text,
                "_Static_assert(offsetof({name}, {declared}) == {offset} && \
                 sizeof((({name} *)0)->{declared}) == {size}, \"{name}.{declared}\");"
            );
            fields += 1;
        }
    }
    assert!(fields > 200, "{fields} fields were compared");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("grown.c");
    std::fs::write(&file, text).expect("room for a file");
    let mut cc = Command::new("cc");
    program::succeed(
        cc.args(["-std=c11", "-Wall", "-Werror", "-fsyntax-only"])
            .arg(&file),
    );
}

/// The name that a line of a struct declares: `char name[32];`.
fn field(line: &str) -> Option<String> {
    let pattern = Regex::new(r"(\w+)(?:\[\w+\])?;\s*$").expect("a pattern");
    pattern
        .captures(line.trim_end())
        .map(|found| found[1].to_owned())
}
