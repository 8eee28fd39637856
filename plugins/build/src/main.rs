//! Builds the plugins that ship with graft from source.
//!
//! `graft-plugins-build FOLDER` writes `FOLDER/<name>.wasm` for every guest under
//! `plugins/guests`, and `FOLDER/toolchain.txt`, which names what compiled them. With the folder
//! `plugins/shipped` it renews the files that the library embeds.
//!
//! Exit status 3 says that this machine has no wasm toolchain; see [`toolchain`] for what is
//! looked for.

mod component;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use toolchain::Toolchain;

const NO_TOOLCHAIN: u8 = 3;

fn main() -> ExitCode {
    let Some(out) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: graft-plugins-build FOLDER");
        return ExitCode::from(2);
    };
    let Some(toolchain) = Toolchain::find() else {
        eprintln!("{}", toolchain::ADVICE);
        return ExitCode::from(NO_TOOLCHAIN);
    };
    match build(&toolchain, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build(toolchain: &Toolchain, out: &Path) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let root = root.ok_or("the build crate is not in the workspace")?;
    let mut guests = folders(&root.join("plugins/guests"))?;
    guests.sort();
    let modules = toolchain.compile(root, &guests)?;
    fs::create_dir_all(out).map_err(|e| format!("cannot create {}: {e}", out.display()))?;
    for name in &guests {
        let module = modules.join(format!("{}.wasm", name.replace('-', "_")));
        let manifest = root
            .join("plugins/guests")
            .join(name)
            .join("graft-plugin.toml");
        let component = component::encode(&read(&module)?, &read(&manifest)?)
            .map_err(|e| format!("{name} does not become a component: {e}"))?;
        let path = out.join(format!("{name}.wasm"));
        write(&path, &component)?;
        println!("{} {} bytes", path.display(), component.len());
    }
    write(&out.join("toolchain.txt"), toolchain.version.as_bytes())
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
