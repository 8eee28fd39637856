//! Lists the demo's files, so that the program carries them: `(name, bytes)`, sorted by name.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=demo");
    let root =
        PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("demo");
    let mut files = Vec::new();
    for entry in ["model.gguf", "mmproj.gguf", "digits"] {
        collect(&root.join(entry), &mut files);
    }
    files.sort();
    let mut list = String::from("&[\n");
    for path in &files {
        let name = path.strip_prefix(&root).expect("it was found there");
        let name = name.to_string_lossy().replace('\\', "/");
        // The compiler says where they are, so that a copied target folder does not name the place it came from.
        let place = format!("/demo/{name}");
        list += &format!(
            "    ({name:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {place:?}))),\n"
        );
    }
    list += "]\n";
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it")).join("demo_files.rs");
    fs::write(&out, list).expect("cargo's own folder can be written");
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("the demo's folders can be read");
        for entry in entries {
            collect(
                &entry.expect("the demo's folders can be read").path(),
                files,
            );
        }
    } else {
        files.push(path.to_owned());
    }
}
