//! C and C++ programs of the tests, compiled against `include/` and linked with the static library.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is inside the repository")
        .to_owned()
}

/// The static library, built if it is not up to date.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = target();
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--release", "--locked", "-p", "graft-abi"])
            .current_dir(root())
            .env("CARGO_TARGET_DIR", &target);
        succeed(&mut build);
        target.join("release/libgraft_abi.a")
    })
}

/// The target folder that this test was built into.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let release = test.ancestors().nth(2).expect("target/<profile>/deps/test");
    release.parent().expect("target").to_owned()
}

/// Compiles `tests/abi/<source>`, strictly, and returns the program.
pub fn compile(source: &str) -> PathBuf {
    let folder = target().join("abi-programs");
    std::fs::create_dir_all(&folder).expect("a folder for programs");
    let program = folder.join(source.replace('.', "-"));
    let cpp = source.ends_with(".cc");
    let mut cc = Command::new(match cpp {
        true => "c++",
        false => "cc",
    });
    cc.arg(match cpp {
        true => "-std=c++17",
        false => "-std=c11",
    })
    .args(["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"])
    .args(["-DGRAFT_STATIC", "-D_POSIX_C_SOURCE=200809L"])
    .arg("-I")
    .arg(root().join("include"))
    .arg(root().join("tests/abi").join(source))
    .arg(library())
    .args(["-lpthread", "-ldl", "-lm", "-lgcc_s", "-o"])
    .arg(&program);
    succeed(&mut cc);
    program
}

/// Runs a program, which must end well, and returns what it printed.
pub fn run(program: &Path, arguments: &[&Path]) -> String {
    succeed(Command::new(program).args(arguments))
}

fn succeed(command: &mut Command) -> String {
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
