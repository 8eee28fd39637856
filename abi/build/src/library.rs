//! From cargo's static library to the two that programs link with.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::symbols::{self, Symbol};
use crate::{Setting, run, run_aloud};

/// The number in the shared library's name; `GRAFT_ABI` of `graft.h`.
pub const SONAME: &str = "libgraft.so.0";

/// What was built.
pub struct Libraries {
    /// `libgraft.so.0`, stripped unless debug information was asked for.
    pub shared: PathBuf,
    /// `libgraft.a`.
    pub fixed: PathBuf,
    /// What else a program links that links `libgraft.a`.
    pub system: Vec<String>,
}

/// Builds both.
///
/// # Errors
/// If cargo or a tool fails; the message holds what it said.
pub fn build(setting: &Setting) -> Result<Libraries, String> {
    let symbols = symbols::read(&setting.root)?;
    let folder = setting.target.join("c-parts").join(variant(setting));
    let fail = |e| format!("cannot create {}: {e}", folder.display());
    fs::create_dir_all(&folder).map_err(fail)?;
    let (compiled, system) = compile(setting)?;
    let libraries = Libraries {
        shared: folder.join(SONAME),
        fixed: folder.join("libgraft.a"),
        system,
    };
    // Linking takes some seconds, and tests come here often.
    let (stamp, origin) = (folder.join("made-from"), origin(&compiled, &symbols)?);
    let there = libraries.shared.exists() && libraries.fixed.exists();
    if there && fs::read_to_string(&stamp).is_ok_and(|was| was == origin) {
        return Ok(libraries);
    }
    let _ = fs::remove_file(&stamp);
    // Another variant, built meanwhile, would take the same place.
    let everything = folder.join("libgraft_abi.a");
    fs::copy(&compiled, &everything)
        .map_err(|e| format!("cannot write {}: {e}", everything.display()))?;
    link_shared(setting, &folder, &everything, &libraries, &symbols)?;
    link_static(&folder, &everything, &libraries.fixed, &symbols)?;
    write(&stamp, &origin)?;
    Ok(libraries)
}

/// What libraries are made from, in a text to compare: cargo's library and this program, by time and size, the linker's
/// name, and the symbols.
fn origin(compiled: &Path, symbols: &[Symbol]) -> Result<String, String> {
    let program = env::current_exe().map_err(|e| format!("this program has no path: {e}"))?;
    let written = |path: &Path| {
        let about = fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len())));
        about.map_err(|e| format!("cannot look at {}: {e}", path.display()))
    };
    Ok(format!(
        "{:?}\n{:?}\n{:?}\n{}",
        written(compiled)?,
        written(&program)?,
        compiler(),
        symbols::version_script(symbols)
    ))
}

/// The C compiler, which links the shared library.
fn compiler() -> OsString {
    env::var_os("CC").unwrap_or_else(|| "cc".into())
}

/// Builds of other features or with debug information do not overwrite one another.
fn variant(setting: &Setting) -> &'static str {
    match (setting.minimal, setting.failpoints, setting.debug) {
        (false, false, false) => "release",
        (true, _, _) => "minimal",
        (_, true, _) => "failpoints",
        (_, _, true) => "debug",
    }
}

/// Has cargo make one static library of everything, and asks which libraries of the system it needs.
fn compile(setting: &Setting) -> Result<(PathBuf, Vec<String>), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["rustc", "--release", "--locked", "-p", "graft-abi", "--lib"])
        .current_dir(&setting.root)
        .env("CARGO_TARGET_DIR", &setting.target);
    if setting.minimal {
        build.arg("--no-default-features");
    }
    if setting.failpoints {
        build.args(["--features", "failpoints"]);
    }
    if setting.debug {
        // Only what types functions take is asked for, so only our own crate keeps it.
        build.args(["--config", "profile.release.package.graft-abi.debug=2"]);
    }
    build.args([
        "--crate-type",
        "staticlib",
        "--",
        "--print",
        "native-static-libs",
    ]);
    let said = run_aloud(&mut build)?;
    let needs = said
        .lines()
        .find_map(|line| line.split_once("native-static-libs: "))
        .ok_or("cargo did not say which libraries of the system are needed")?;
    let mut system: Vec<String> = needs.1.split_whitespace().map(Into::into).collect();
    // Each once: the order does not matter for shared libraries.
    let mut seen = Vec::new();
    system.retain(|name| !seen.contains(name) && (seen.push(name.clone()), true).1);
    Ok((setting.target.join("release/libgraft_abi.a"), system))
}

fn link_shared(
    setting: &Setting,
    folder: &Path,
    everything: &Path,
    libraries: &Libraries,
    symbols: &[Symbol],
) -> Result<(), String> {
    let script = folder.join("graft.map");
    write(&script, &symbols::version_script(symbols))?;
    let mut cc = Command::new(compiler());
    cc.arg("-shared")
        .arg("-Wl,--whole-archive")
        .arg(everything)
        .arg("-Wl,--no-whole-archive")
        .arg(format!("-Wl,-soname,{SONAME}"))
        .arg(format!("-Wl,--version-script={}", script.display()))
        // Threads have values that end with them, so the library cannot be unloaded.
        .args([
            "-Wl,--gc-sections",
            "-Wl,-z,nodelete",
            "-Wl,-z,relro,-z,now",
        ])
        .args(&libraries.system)
        .arg("-o")
        .arg(&libraries.shared);
    if !setting.debug {
        cc.arg("-Wl,--strip-all");
    }
    run(&mut cc).map(drop)
}

/// One object of everything, in which only the interface is visible.
fn link_static(
    folder: &Path,
    everything: &Path,
    fixed: &Path,
    symbols: &[Symbol],
) -> Result<(), String> {
    let (object, names) = (folder.join("graft.o"), folder.join("symbols"));
    let lines: String = symbols.iter().map(|s| format!("{}\n", s.name)).collect();
    write(&names, &lines)?;
    let mut ld = Command::new("ld");
    ld.args(["-r", "--gc-sections", "--whole-archive"])
        .arg(everything)
        .args(symbols.iter().map(|s| format!("--undefined={}", s.name)))
        .arg("-o")
        .arg(&object);
    run(&mut ld)?;
    let mut objcopy = Command::new("objcopy");
    objcopy
        .arg(format!("--keep-global-symbols={}", names.display()))
        .args(["--strip-debug", "-R", ".llvmbc", "-R", ".llvmcmd"])
        .arg(&object);
    run(&mut objcopy)?;
    let _ = fs::remove_file(fixed);
    run(Command::new("ar").arg("rcs").arg(fixed).arg(&object))?;
    let _ = fs::remove_file(&object);
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
