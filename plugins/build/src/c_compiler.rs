//! A C compiler for `wasm32-wasi` with its C library, wherever this machine has one.
//!
//! Looked for in this order:
//! 1. `GRAFT_WASM_CC`, a program;
//! 2. `clang-19`, which Debian has with everything it needs; then `clang`;
//! 3. zig, from the Python package `ziglang`.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// What to install when nothing was found.
pub const ADVICE: &str = "no C compiler for wasm32-wasi was found; install one of these:\n  \
    apt-get install --no-install-recommends clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc\n  \
    pip install ziglang\n\
    or name a compiler in GRAFT_WASM_CC";

/// What the READMEs of new plugins say.
const FLAGS: [&str; 5] = [
    "--target=wasm32-wasi",
    "-mexec-model=reactor",
    "-O2",
    "-Wall",
    "-Wl,--strip-debug",
];

/// A compiler and how to call it.
pub struct CCompiler {
    program: Vec<String>,
    /// The first line of what it says about its version.
    pub version: String,
}

impl CCompiler {
    /// The first compiler that can do it; it tries that in the folder `scratch`.
    pub fn find(scratch: &Path) -> Option<Self> {
        let named = env::var("GRAFT_WASM_CC").ok();
        let known = ["clang-19", "clang", "python3 -m ziglang cc"].map(str::to_owned);
        let mut programs = named.into_iter().chain(known);
        programs.find_map(|program| {
            let program: Vec<_> = program.split(' ').map(str::to_owned).collect();
            Self::with(program, scratch)
        })
    }

    fn with(program: Vec<String>, scratch: &Path) -> Option<Self> {
        let said = command(&program).arg("--version").output().ok()?;
        let said = String::from_utf8(said.stdout).ok()?;
        let version = format!("{}\n", said.lines().next()?.trim());
        let (source, module) = (scratch.join("probe.c"), scratch.join("probe.wasm"));
        std::fs::write(
            &source,
            "#include <stdlib.h>\nint probe(void) { return abs(1); }\n",
        )
        .ok()?;
        let status = command(&program)
            .args(FLAGS)
            .arg(&source)
            .arg("-o")
            .arg(&module)
            .stderr(Stdio::null())
            .status();
        // They are ours; what cannot be removed does no harm.
        let _ = (std::fs::remove_file(&source), std::fs::remove_file(&module));
        status.ok()?.success().then_some(Self { program, version })
    }

    /// Compiles `source`, a file of the workspace at `root`, to `module`. A warning is an error.
    pub fn compile(&self, root: &Path, source: &str, module: &Path) -> Result<(), String> {
        let here = env::current_dir().map_err(|e| format!("this folder is gone: {e}"))?;
        let status = command(&self.program)
            .current_dir(root)
            .args(FLAGS)
            .args(["-Wextra", "-Werror", "-Iplugins/c", source, "-o"])
            .arg(here.join(module))
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!(
                "{} failed on {source}: {status}",
                self.program.join(" ")
            )),
            Err(error) => Err(format!("cannot run {}: {error}", self.program.join(" "))),
        }
    }
}

fn command(program: &[String]) -> Command {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]);
    command
}
