//! Builds the plugins that ship with graft from source, and the examples in Rust and C.
//!
//! `graft-plugins-build FOLDER` writes `FOLDER/<name>.wasm` for every guest under
//! `plugins/guests`, and `FOLDER/toolchain.txt`, which names what compiled them. With the folder
//! `plugins/shipped` it renews the files that the library embeds.
//!
//! `graft-plugins-build --examples FOLDER` does so for `plugins/examples/rust` and `plugins/examples/c`;
//! `FOLDER/toolchain.txt` names the C compiler. With the folder `tests/golden/plugins/examples` it renews those
//! in C that are tested where there is no compiler.
//!
//! Exit status 3 says that this machine has no wasm toolchain; see [`toolchain`] and [`c_compiler`] for what
//! is looked for.

mod c_compiler;
mod component;
mod toolchain;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use c_compiler::CCompiler;
use toolchain::Toolchain;

const NO_TOOLCHAIN: u8 = 3;

/// Why nothing was built.
enum Failure {
    NoToolchain(&'static str),
    Other(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Other(message)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let built = match &arguments[..] {
        [out] if out != "--examples" => guests(Path::new(out)),
        [examples, out] if examples == "--examples" => self::examples(Path::new(out)),
        _ => {
            eprintln!("usage: graft-plugins-build [--examples] FOLDER");
            return ExitCode::from(2);
        }
    };
    match built {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::NoToolchain(advice)) => {
            eprintln!("{advice}");
            ExitCode::from(NO_TOOLCHAIN)
        }
        Err(Failure::Other(message)) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn guests(out: &Path) -> Result<(), Failure> {
    let toolchain = Toolchain::find().ok_or(Failure::NoToolchain(toolchain::ADVICE))?;
    let root = root()?;
    let mut guests = folders(&root.join("plugins/guests"))?;
    guests.sort();
    let modules = toolchain.compile(root, &guests)?;
    create(out)?;
    for name in &guests {
        let module = modules.join(format!("{}.wasm", name.replace('-', "_")));
        let manifest = root
            .join("plugins/guests")
            .join(name)
            .join("graft-plugin.toml");
        encode(name, &module, &read(&manifest)?, out)?;
    }
    Ok(write(
        &out.join("toolchain.txt"),
        toolchain.version.as_bytes(),
    )?)
}

fn examples(out: &Path) -> Result<(), Failure> {
    const KINDS: [&str; 2] = ["converter", "evaluator"];
    let root = root()?;
    create(out)?;
    let compiler = CCompiler::find(out).ok_or(Failure::NoToolchain(c_compiler::ADVICE))?;
    for kind in KINDS {
        let module = out.join("module.wasm");
        compiler.compile(
            root,
            &format!("plugins/examples/c/{kind}/plugin.c"),
            &module,
        )?;
        let name = format!("c-{kind}");
        encode(&name, &module, manifest(&name, kind).as_bytes(), out)?;
        fs::remove_file(&module).map_err(|e| format!("cannot remove {}: {e}", module.display()))?;
    }
    write(&out.join("toolchain.txt"), compiler.version.as_bytes())?;
    let toolchain = Toolchain::find().ok_or(Failure::NoToolchain(toolchain::ADVICE))?;
    let modules = toolchain.compile(root, &KINDS.map(|kind| format!("example-{kind}")))?;
    for kind in KINDS {
        let module = modules.join(format!("example_{kind}.wasm"));
        let name = format!("rust-{kind}");
        encode(&name, &module, manifest(&name, kind).as_bytes(), out)?;
    }
    Ok(())
}

/// The manifest of an example.
fn manifest(name: &str, kind: &str) -> String {
    format!(
        "id = \"{name}\"\nversion = \"0.1.0\"\nlicense = \"MIT OR Apache-2.0\"\n\
         world = \"{kind}-plugin\"\ntitle = \"Example\"\n"
    )
}

/// Writes the component of a module into the folder `out`.
fn encode(name: &str, module: &Path, manifest: &[u8], out: &Path) -> Result<(), String> {
    let component = component::encode(&read(module)?, manifest)
        .map_err(|e| format!("{name} does not become a component: {e}"))?;
    let path = out.join(format!("{name}.wasm"));
    write(&path, &component)?;
    println!("{} {} bytes", path.display(), component.len());
    Ok(())
}

fn root() -> Result<&'static Path, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.ok_or_else(|| "the build crate is not in the workspace".into())
}

fn create(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))
}

/// Names of the folders in `path`.
fn folders(path: &Path) -> Result<Vec<String>, String> {
    let fail = |e| format!("cannot list {}: {e}", path.display());
    let entries = fs::read_dir(path).map_err(fail)?;
    let entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(fail)?;
    let folders = entries.iter().filter(|entry| entry.path().is_dir());
    Ok(folders
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
