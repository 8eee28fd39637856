//! C and C++ programs of the tests, compiled against `include/` and linked with the static library.
#![allow(dead_code)] // each test uses some of it

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is inside the repository")
        .to_owned()
}

/// The folder of a build by `graft-abi-build`, which is brought up to date first.
pub fn installed(variant: Option<&str>) -> PathBuf {
    // One at a time: cargo puts every variant at the same place.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = target().join(format!("c-{}", variant.unwrap_or("release")));
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["run", "--release", "--locked", "--quiet"])
        .args(["-p", "graft-abi-build", "--", "--prefix"])
        .arg(&folder)
        .args(variant.map(|name| format!("--{name}")))
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target());
    succeed(&mut build);
    folder
}

/// The libraries as programs get them.
pub fn release() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| installed(None))
}

/// The target folder that this test was built into.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let release = test.ancestors().nth(2).expect("target/<profile>/deps/test");
    release.parent().expect("target").to_owned()
}

/// Compiles `tests/abi/<source>`, strictly, and returns the program.
pub fn compile(source: &str) -> PathBuf {
    compile_all(&[source], &[])
}

/// The same of several files, with further arguments to the compiler; the first gives the program its name.
pub fn compile_all(sources: &[&str], further: &[&str]) -> PathBuf {
    let folder = target().join("abi-programs");
    std::fs::create_dir_all(&folder).expect("a folder for programs");
    let program = folder.join(sources[0].replace('.', "-"));
    let (compiler, standard) = match sources[0].ends_with(".cc") {
        true => ("c++", "-std=c++17"),
        false => ("cc", "-std=c11"),
    };
    let mut cc = Command::new(compiler);
    cc.arg(standard)
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"])
        .args(["-DGRAFT_STATIC", "-D_POSIX_C_SOURCE=200809L"])
        .args(further)
        .args(words("GRAFT_C_FLAGS"))
        .arg("-I")
        .arg(release().join("include"))
        .args(sources.iter().map(|s| root().join("tests/abi").join(s)))
        .arg(release().join("lib/libgraft.a"))
        .args(["-lpthread", "-ldl", "-lm", "-lgcc_s", "-o"])
        .arg(&program);
    succeed(&mut cc);
    program
}

/// Runs a program, which must end well, and returns what it printed.
pub fn run(program: &Path, arguments: &[&Path]) -> String {
    let mut words = words("GRAFT_C_RUNNER").into_iter();
    let mut run = match words.next() {
        Some(runner) => {
            let mut run = Command::new(runner);
            run.args(words).arg(program);
            run
        }
        None => Command::new(program),
    };
    succeed(run.args(arguments))
}

/// What `.ci/abi` wants programs compiled with, or run under: sanitizers, valgrind.
fn words(variable: &str) -> Vec<String> {
    let text = std::env::var(variable).unwrap_or_default();
    text.split_whitespace().map(Into::into).collect()
}

/// Runs a tool or program, which must end well, and returns what it printed.
pub fn succeed(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let _ = write!(said, "{}", String::from_utf8_lossy(&output.stderr));
        panic!("{command:?} ended with {}:\n{said}", output.status);
    }
    said
}
