//! A Rust compiler for `wasm32-unknown-unknown`, wherever this machine has one.
//!
//! Looked for in this order:
//! 1. `GRAFT_WASM_RUSTC`, a path to a compiler;
//! 2. `/usr/bin/rustc`: Debian's `rustc-web` with `rust-web-src`, from which std is built;
//! 3. the compiler that runs cargo, with rustup's `wasm32-unknown-unknown` or `rust-src`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to install when nothing was found.
pub const ADVICE: &str = "no Rust compiler for wasm32-unknown-unknown was found; \
    install one of these:\n  \
    rustup target add wasm32-unknown-unknown\n  \
    apt-get install --no-install-recommends rustc-web rust-web-src   (Debian 12)\n\
    or name a compiler in GRAFT_WASM_RUSTC";

const TARGET: &str = "wasm32-unknown-unknown";

/// A compiler and how to use it.
pub struct Toolchain {
    rustc: PathBuf,
    /// Std is compiled from its sources, because the compiler has none for wasm.
    builds_std: bool,
    linker: PathBuf,
    /// Versions of compiler and linker: the same line makes the same bytes.
    pub version: String,
}

impl Toolchain {
    /// The first compiler that can do it.
    pub fn find() -> Option<Self> {
        let named = env::var_os("GRAFT_WASM_RUSTC").map(PathBuf::from);
        let system = Path::new("/usr/bin/rustc").to_owned();
        let own = PathBuf::from(env::var_os("RUSTC").unwrap_or("rustc".into()));
        let candidates = named.into_iter().chain([system, own]);
        candidates.into_iter().find_map(Self::with)
    }

    fn with(rustc: PathBuf) -> Option<Self> {
        let sysroot = PathBuf::from(said(&rustc, &["--print", "sysroot"])?);
        let library = sysroot.join("lib/rustlib");
        let has_std = library.join(TARGET).join("lib").is_dir();
        let has_source = library.join("src/rust/library/Cargo.lock").is_file();
        if !has_std && !has_source {
            return None;
        }
        let linker = linker(&sysroot)?;
        let compiler = said(&rustc, &["--version"])?;
        let linker_version = said(&linker, &["-flavor", "wasm", "--version"])?;
        let std = if has_std { "as shipped" } else { "from source" };
        Some(Self {
            rustc,
            builds_std: !has_std,
            linker,
            version: format!("{compiler}, std {std}, {linker_version}\n"),
        })
    }

    /// Compiles the guests of the workspace at `root`; gives the folder with their modules.
    pub fn compile(&self, root: &Path, guests: &[String]) -> Result<PathBuf, String> {
        let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = root.join(target.unwrap_or("target".into())).join("wasm");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo
            .current_dir(root)
            .args(["build", "--locked", "--lib", "--profile", "plugin"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&target)
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &self.linker)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(root).join("\u{1f}"))
            // Compiled piece by piece, the same source would not make the same bytes.
            .env("CARGO_INCREMENTAL", "0")
            // Neither is for another compiler than the one that runs this program.
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER");
        for guest in guests {
            cargo.args(["-p", &format!("graft-plugin-{guest}")]);
        }
        if self.builds_std {
            cargo.arg("-Zbuild-std=std,panic_abort");
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        match cargo.status() {
            Ok(status) if status.success() => Ok(target.join(TARGET).join("plugin")),
            Ok(status) => Err(format!("cargo failed: {status}")),
            Err(error) => Err(format!("cannot run cargo: {error}")),
        }
    }

    /// Flags that keep the paths of this machine out of the plugins, and let the compiler use vectors.
    fn flags(&self, root: &Path) -> Vec<String> {
        let home = env::home_dir().unwrap_or_default();
        let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let registry = cargo_home
            .unwrap_or(home.join(".cargo"))
            .join("registry/src");
        let remap = |path: &Path, to: &str| format!("--remap-path-prefix={}={to}", path.display());
        let mut flags = vec![remap(root, "/graft"), remap(&registry, "/registry")];
        // What the SDK does with sixteen bytes at a time anyway; so it need not be calls.
        flags.push("-Ctarget-feature=+simd128".into());
        if let Some(sysroot) = said(&self.rustc, &["--print", "sysroot"]) {
            flags.push(remap(
                &Path::new(&sysroot).join("lib/rustlib/src/rust"),
                "/rust",
            ));
        }
        flags
    }
}

/// `rust-lld` beside this compiler, or beside the one that runs cargo.
fn linker(sysroot: &Path) -> Option<PathBuf> {
    let own = said(Path::new("rustc"), &["--print", "sysroot"]).map(PathBuf::from);
    let sysroots = [Some(sysroot.to_owned()), own];
    let mut linkers = sysroots.into_iter().flatten().filter_map(|sysroot| {
        let hosts = sysroot.join("lib/rustlib").read_dir().ok()?;
        let mut paths = hosts.filter_map(|host| Some(host.ok()?.path().join("bin/rust-lld")));
        paths.find(|path| path.is_file())
    });
    linkers.next()
}

/// The first line that a program prints, if it succeeds.
fn said(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    output.status.success().then_some(line)
}
