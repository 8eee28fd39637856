//! Files that are no plugins, plugins of the other world and damaged caches: refused by name, or made
//! anew.

use std::path::Path;

use graft::evaluate::Evaluator;
use graft_plugins::{Cache, Grants, Host, Limits, PluginError, shipped};
use sha2::{Digest, Sha256};

use crate::hostile::tight;

fn refusal(bytes: &[u8]) -> String {
    let host = Host::new(tight(), None).unwrap();
    match host.load_bytes("x.wasm", bytes, &Grants::default()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it loads"),
    }
}

#[test]
fn files_that_are_no_plugins_are_refused_by_name() {
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let exporting = |import: &str, export: &str| {
        wat(&format!(
            r#"(component {import} (instance $none) (export "{export}" (instance $none)))"#
        ))
    };
    let ours = "graft:plugin/converter@0.1.0";
    let judge = r#"(import "graft:plugin/model@0.1.0" (instance))"#;
    for (bytes, sentence) in [
        (vec![], "not a WebAssembly component"),
        (b"GIF89a".to_vec(), "not a WebAssembly component"),
        (wat("(module)"), "core WebAssembly module"),
        (wat("(component)"), "no graft plugin"),
        (
            exporting("", "acme:other/converter@0.1.0"),
            "no graft plugin",
        ),
        (
            exporting("", "graft:plugin/converter@0.2.0"),
            "this version of graft runs graft:plugin@0.1.0",
        ),
        (
            exporting("", "graft:plugin/evaluator@9.9.9"),
            "graft:plugin/evaluator@9.9.9",
        ),
        (exporting("", ours), "does not fit its world"),
        (
            exporting(r#"(import "wasi:filesystem/types@0.2.0" (instance))"#, ours),
            "plugins get no WASI",
        ),
        (
            exporting(r#"(import "wasi:cli/environment@0.2.3" (instance))"#, ours),
            "wasi:cli/environment@0.2.3",
        ),
        (
            exporting(r#"(import "acme:net/http@1.0.0" (instance))"#, ours),
            "which the world converter-plugin does not offer",
        ),
        (
            exporting(judge, ours),
            "which the world converter-plugin does not offer",
        ),
        (
            exporting(judge, "graft:plugin/evaluator@0.1.0"),
            "was not granted",
        ),
        (
            exporting(r#"(import "graft:plugin/host@0.3.0" (instance))"#, ours),
            "graft:plugin/host@0.3.0",
        ),
        (
            wat(&format!(
                r#"(component (instance $n) (export "{ours}" (instance $n)) (@custom "graft:manifest" "id = 7"))"#
            )),
            "manifest",
        ),
        (
            wat(&format!(
                r#"(component (instance $n) (export "{ours}" (instance $n)) (@custom "graft:manifest" "\ff"))"#
            )),
            "manifest",
        ),
    ] {
        let said = refusal(&bytes);
        assert!(said.contains(sentence), "{said}\nlacks: {sentence}");
        assert!(!said.contains('\n'), "one sentence: {said}");
    }
}

#[test]
fn a_plugin_of_the_other_world_is_refused() {
    let host = Host::new(tight(), None).unwrap();
    let load = |name: &str| host.load(Path::new(name), &Grants::default()).unwrap();
    let Err(error) = load("ubiai").into_evaluator() else {
        panic!("a converter scores");
    };
    assert!(
        error.to_string().contains("of the world converter-plugin"),
        "{error}"
    );
    let Err(error) = load("exact-match").into_converter() else {
        panic!("an evaluator converts");
    };
    assert!(
        error.to_string().contains("but converter-plugin is needed"),
        "{error}"
    );
    let Err(error) = host.load(Path::new("no-such-plugin"), &Grants::default()) else {
        panic!("there is one");
    };
    let said = error.to_string();
    assert!(
        said.contains("ubiai") && said.contains("exact-match"),
        "{said}"
    );
}

#[test]
fn a_file_too_large_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.wasm");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let host = Host::new(Limits::default(), None).unwrap();
    let Err(error) = host.load(&path, &Grants::default()) else {
        panic!("it loads");
    };
    assert!(matches!(error, PluginError::TooLarge { .. }), "{error}");
    assert!(host.load(folder.path(), &Grants::default()).is_err());
}

#[test]
fn no_truncated_or_damaged_file_panics() {
    let whole = shipped::plugin("exact-match").unwrap();
    let host = Host::new(tight(), None).unwrap();
    let load = |bytes: &[u8]| host.load_bytes("cut", bytes, &Grants::default());
    for length in (0..64).chain((64..whole.len() - 300).step_by(1009)) {
        let error = load(&whole[..length])
            .err()
            .unwrap_or_else(|| panic!("{length} bytes load"));
        assert!(!error.to_string().is_empty());
    }
    let mut loaded = 0;
    for i in 0..60 {
        let mut bytes = whole.to_vec();
        let at = (i * 7919 + 13) % bytes.len();
        bytes[at] ^= 1 << (i % 8);
        if let Ok(plugin) = load(&bytes) {
            loaded += 1;
            // What it says now is its own affair; that it ends is ours.
            let _ = plugin
                .into_evaluator()
                .map(|evaluator| evaluator.describe().is_ok());
        }
    }
    assert!(loaded < 60);
}

#[test]
fn a_corrupted_cache_entry_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("cache");
    let host = Host::new(tight(), Some(Cache::at(&place))).unwrap();
    let works = || {
        let plugin = host
            .load(Path::new("exact-match"), &Grants::default())
            .unwrap();
        plugin.into_evaluator().unwrap().describe().unwrap();
    };
    works();
    let entries: Vec<_> = std::fs::read_dir(&place).unwrap().collect();
    assert_eq!(entries.len(), 1);
    let entry = entries[0].as_ref().unwrap().path();
    let good = std::fs::read(&entry).unwrap();
    works();
    assert_eq!(std::fs::read(&entry).unwrap(), good);
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    for bad in [
        flipped(0),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
        good[..good.len() / 2].to_vec(),
        good[..16].to_vec(),
        vec![],
    ] {
        std::fs::write(&entry, &bad).unwrap();
        works();
        let renewed = std::fs::read(&entry).unwrap();
        assert!(
            renewed != bad && renewed.len() == good.len(),
            "it is made anew"
        );
    }
    // A hash that fits bytes that are no machine code of this engine.
    let mut forged = Sha256::digest(b"not code").to_vec();
    forged.extend_from_slice(b"not code");
    std::fs::write(&entry, &forged).unwrap();
    works();
    assert_eq!(std::fs::read(&entry).unwrap().len(), good.len());
}

#[test]
#[cfg(unix)]
fn a_cache_that_others_can_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("cache");
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
    let host = Host::new(tight(), Some(Cache::at(&place))).unwrap();
    host.load(Path::new("exact-match"), &Grants::default())
        .unwrap();
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}
