//! Plugins that must be the one that was looked at, or signed by somebody. minisign itself made the keys and
//! the signature (`golden/plugins/signed/make.sh`).

use std::fs;
use std::path::{Path, PathBuf};

use graft_plugins::{Grants, Host, Limits, PluginError, Trust, signature_of};

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/plugins/signed");
    folder.join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(golden(name)).unwrap()
}

fn load(path: &Path, trust: &Trust) -> Result<(), PluginError> {
    let host = Host::new(Limits::default(), None).unwrap();
    host.load_trusted(path, &Grants::default(), trust).map(drop)
}

fn refusal(path: &Path, trust: &Trust) -> String {
    load(path, trust).expect_err("it is refused").to_string()
}

/// A folder with the plugin and its signature, to be changed.
fn copy() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    fs::copy(golden("plugin.wasm"), &path).unwrap();
    fs::copy(golden("plugin.wasm.minisig"), signature_of(&path)).unwrap();
    (folder, path)
}

#[test]
fn a_pinned_plugin_is_that_file_and_no_other() {
    let host = Host::new(Limits::default(), None).unwrap();
    let sha256 = host.info(&golden("plugin.wasm")).unwrap().sha256;
    let pinned = Trust::default().pin(&sha256.to_uppercase()).unwrap();
    load(&golden("plugin.wasm"), &pinned).unwrap();
    let other = refusal(Path::new("ubiai"), &pinned);
    assert!(
        other.contains(&sha256) && other.contains("ubiai"),
        "{other}"
    );
    let shipped = host.info(Path::new("ubiai")).unwrap().sha256;
    load(Path::new("ubiai"), &Trust::default().pin(&shipped).unwrap()).unwrap();
    for none in ["", "abc", &"g".repeat(64), &format!("{sha256}00")] {
        assert!(Trust::default().pin(none).is_err(), "{none}");
    }
}

#[test]
fn a_plugin_is_loaded_if_one_of_the_keys_signed_it() {
    let author = Trust::default().key(&text("author.pub")).unwrap();
    let line = text("author.pub").lines().nth(1).unwrap().to_owned();
    let either = Trust::default().key(&text("somebody.pub")).unwrap();
    let either = either.key(&line).unwrap();
    for trust in [author.clone(), either] {
        load(&golden("plugin.wasm"), &trust).unwrap();
    }
    load(Path::new("ubiai"), &author).expect("what ships here needs no signature");

    let somebody = Trust::default().key(&text("somebody.pub")).unwrap();
    let said = refusal(&golden("plugin.wasm"), &somebody);
    assert!(
        said.contains("plugin.wasm is not signed by a key"),
        "{said}"
    );
    for none in ["", "RW", &text("plugin.wasm.minisig"), "a\nb\nc"] {
        assert!(Trust::default().key(none).is_err(), "{none}");
    }
}

#[test]
fn no_byte_of_a_signed_plugin_or_its_signature_may_change() {
    let author = Trust::default().key(&text("author.pub")).unwrap();
    let (_folder, path) = copy();
    let (whole, signature) = (fs::read(&path).unwrap(), text("plugin.wasm.minisig"));
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        assert!(author.check("changed", &bytes, Some(&signature)).is_err());
    }
    for cut in 0..signature.trim_end().len() {
        assert!(
            author
                .check("cut", &whole, Some(&signature[..cut]))
                .is_err()
        );
    }
    for (at, byte) in signature.trim_end().bytes().enumerate() {
        // The first line is a comment that is not signed.
        let first_line = signature.find('\n').unwrap();
        let mut bytes = signature.clone().into_bytes();
        bytes[at] = if byte == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        let checked = author.check("changed", &whole, Some(&changed));
        assert!(checked.is_err() || at < first_line, "byte {at}");
    }
}

#[test]
fn a_signature_that_is_missing_or_absurd_is_refused() {
    let author = Trust::default().key(&text("author.pub")).unwrap();
    let (_folder, path) = copy();
    load(&path, &author).unwrap();
    let file = fs::File::create(signature_of(&path)).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(refusal(&path, &author).contains("which no signature has"));
    fs::write(signature_of(&path), [0xff, 0xfe]).unwrap();
    assert!(load(&path, &author).is_err());
    fs::remove_file(signature_of(&path)).unwrap();
    assert!(refusal(&path, &author).contains("it has none"));
    load(&path, &Trust::default()).expect("nobody asked for one");
}
