//! Builds the libraries for C and C++ programs, and installs them.
//!
//! ```text
//! graft-abi-build                                  target/c/{lib,include}
//! graft-abi-build --prefix /usr/local              installs there
//! graft-abi-build --prefix /usr --destdir pkg      installs under pkg/usr, for packages
//! graft-abi-build --minimal                        without plugins, for small devices
//! graft-abi-build --reference                      docs/c-reference.md
//! ```
//!
//! cargo makes a static library of everything; what a program gets is linked from that one by the system's own tools
//! ([`library`]), since cargo can neither give symbols versions nor hide those of a static library.

mod library;
mod package;
mod reference;
mod symbols;

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;

use package::Package;

/// Build libgraft.so and libgraft.a, and install them with graft.h, graft.hpp, graft.pc and the CMake package
#[derive(Parser)]
struct Arguments {
    /// Install under this folder instead of target/c
    #[arg(long, value_name = "FOLDER")]
    prefix: Option<PathBuf>,
    /// Write below this folder what will lie in --prefix
    #[arg(long, value_name = "FOLDER", requires = "prefix")]
    destdir: Option<PathBuf>,
    /// Libraries go to this folder of the prefix
    #[arg(long, value_name = "NAME", default_value = "lib")]
    libdir: String,
    /// Leave plugins out, and with them the WebAssembly engine
    #[arg(long)]
    minimal: bool,
    /// Keep debug information that says what types functions take
    #[arg(long)]
    debug: bool,
    /// Write docs/c-reference.md from the header, and nothing else
    #[arg(long)]
    reference: bool,
    /// Tests only: let every function fail when GRAFT_FAILPOINT names it
    #[arg(long, hide = true)]
    failpoints: bool,
}

/// What a build is made with.
pub struct Setting {
    /// The root of the repository.
    pub root: PathBuf,
    /// cargo's target folder.
    pub target: PathBuf,
    /// Leave plugins out.
    pub minimal: bool,
    /// Keep debug information.
    pub debug: bool,
    /// Build failpoints in.
    pub failpoints: bool,
}

fn main() -> ExitCode {
    match build(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("graft-abi-build: {message}");
            ExitCode::FAILURE
        }
    }
}

fn build(arguments: &Arguments) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let root = root
        .ok_or("the build crate is not in the workspace")?
        .to_owned();
    if arguments.reference {
        return reference::write(&root);
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let setting = Setting {
        minimal: arguments.minimal,
        debug: arguments.debug,
        failpoints: arguments.failpoints,
        root,
        target,
    };
    let prefix = match &arguments.prefix {
        Some(prefix) if !prefix.is_absolute() => {
            return Err(format!(
                "--prefix {} is not an absolute path",
                prefix.display()
            ));
        }
        Some(prefix) => prefix.clone(),
        None => setting.target.join("c"),
    };
    let package = Package {
        root: setting.root.clone(),
        libraries: library::build(&setting)?,
        folder: match &arguments.destdir {
            Some(destdir) => destdir.join(prefix.strip_prefix("/").unwrap_or(&prefix)),
            None => prefix.clone(),
        },
        prefix,
        libdir: arguments.libdir.clone(),
    };
    package.install()
}

/// Runs a tool that takes long, shows what it says to stderr as it comes, and returns that.
///
/// # Errors
/// If it does not start or fails.
pub fn run_aloud(command: &mut Command) -> Result<String, String> {
    let spawned = command.stderr(Stdio::piped()).spawn();
    let mut child =
        spawned.map_err(|e| format!("{} does not start: {e}", command.get_program().display()))?;
    let mut said = String::new();
    for line in child
        .stderr
        .take()
        .into_iter()
        .flat_map(|e| BufReader::new(e).lines())
    {
        let line = line.map_err(|e| format!("cannot hear {command:?}: {e}"))?;
        eprintln!("{line}");
        said += &line;
        said.push('\n');
    }
    let status = child
        .wait()
        .map_err(|e| format!("cannot wait for {command:?}: {e}"))?;
    match status.success() {
        true => Ok(said),
        false => Err(format!("{command:?} failed ({status})")),
    }
}

/// Runs a tool, and returns what it printed.
///
/// # Errors
/// If it does not start or fails; the message holds what it said.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|e| format!("{} does not start: {e}", command.get_program().display()))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(said(&output.stdout) + &said(&output.stderr)),
        false => Err(format!(
            "{command:?} failed:\n{}{}",
            said(&output.stdout),
            said(&output.stderr)
        )),
    }
}
