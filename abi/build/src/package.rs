//! What is installed: libraries, headers, and what tells other build systems of them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::library::{Libraries, SONAME};

/// Where everything goes.
pub struct Package {
    /// The root of the repository.
    pub root: PathBuf,
    /// What was built.
    pub libraries: Libraries,
    /// Where files are written.
    pub folder: PathBuf,
    /// Where they will lie, for those that say so.
    pub prefix: PathBuf,
    /// The libraries' folder in it.
    pub libdir: String,
}

impl Package {
    /// Writes all of it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn install(&self) -> Result<(), String> {
        let lib = self.folder.join(&self.libdir);
        let include = self.folder.join("include");
        let version = env!("CARGO_PKG_VERSION");
        let file = format!("libgraft.so.{version}");
        place(&self.libraries.shared, &lib.join(&file))?;
        link(&file, &lib.join(SONAME))?;
        link(SONAME, &lib.join("libgraft.so"))?;
        place(&self.libraries.fixed, &lib.join("libgraft.a"))?;
        for header in ["graft.h", "graft.hpp"] {
            let from = self.root.join("include").join(header);
            place(&from, &include.join(header))?;
        }
        let cmake = lib.join("cmake/graft");
        self.fill("graft.pc.in", &lib.join("pkgconfig/graft.pc"))?;
        self.fill("graftConfig.cmake.in", &cmake.join("graftConfig.cmake"))?;
        let versions = cmake.join("graftConfigVersion.cmake");
        self.fill("graftConfigVersion.cmake.in", &versions)?;
        for path in [lib.join(&file), lib.join("libgraft.a")] {
            let bytes = fs::metadata(&path).map_or(0, |m| m.len());
            println!("{} {:.1} MB", path.display(), bytes as f64 / 1e6);
        }
        println!("{}", include.join("graft.h").display());
        Ok(())
    }

    /// Writes a template with its places filled.
    fn fill(&self, template: &str, to: &Path) -> Result<(), String> {
        let path = self.root.join("abi/package").join(template);
        let text = fs::read_to_string(&path)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let text = text
            .replace("@PREFIX@", &self.prefix.display().to_string())
            .replace("@LIBDIR@", &self.libdir)
            .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
            .replace("@SYSTEM@", &self.libraries.system.join(" "))
            .replace("@SYSTEM_LIST@", &self.libraries.system.join(";"));
        folder_of(to)?;
        fs::write(to, text).map_err(|e| format!("cannot write {}: {e}", to.display()))
    }
}

fn folder_of(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))
}

fn place(from: &Path, to: &Path) -> Result<(), String> {
    folder_of(to)?;
    // A program that runs has the old file open.
    let _ = fs::remove_file(to);
    let fail = |e| format!("cannot copy {} to {}: {e}", from.display(), to.display());
    fs::copy(from, to).map(drop).map_err(fail)
}

#[cfg(unix)]
fn link(to: &str, at: &Path) -> Result<(), String> {
    let _ = fs::remove_file(at);
    std::os::unix::fs::symlink(to, at).map_err(|e| format!("cannot link {}: {e}", at.display()))
}

#[cfg(not(unix))]
fn link(_: &str, at: &Path) -> Result<(), String> {
    Err(format!(
        "{}: shared libraries are built on Unix only",
        at.display()
    ))
}
