//! Plugins, and exports that they cannot convert.

use crate::workplace::Place;

/// An export that the shipped converter reads, beside its images.
const EXPORT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/demo/digits/held-out/export.json"
);

#[test]
fn a_file_that_is_no_plugin_is_named() {
    let place = Place::new();
    place.write("empty.wasm", "");
    place.write("cut.wasm", b"\0asm\x0d\0\x01\0\x07");
    place.write("module.wasm", b"\0asm\x01\0\0\0");
    place.write("export.json", std::fs::read(EXPORT).unwrap());
    for file in [
        "missing.wasm",
        "empty.wasm",
        "cut.wasm",
        "module.wasm",
        "0.png",
        ".",
    ] {
        for command in [
            "convert --plugin FILE export.json -o out.json",
            "eval -m model.gguf --data text.json --metric FILE --report out.json",
            "plugin check FILE",
            "plugin info FILE",
        ] {
            let line = command.replace("FILE", file);
            place.leaves_nothing(|| place.run(&line)).failed(&[file]);
        }
    }
    place.run("inspect cut.wasm").failed(&["cut.wasm"]);
}

#[test]
fn a_plugin_of_the_other_purpose_is_refused() {
    let place = Place::new();
    place.write("export.json", std::fs::read(EXPORT).unwrap());
    let said =
        place.leaves_nothing(|| place.run("convert --plugin exact-match export.json -o out.json"));
    said.failed(&["exact-match"]);
    let said =
        place.leaves_nothing(|| place.run("eval -m model.gguf --data text.json --metric ubiai"));
    said.failed(&["ubiai"]);
}

#[test]
fn an_export_that_cannot_be_converted_is_named_and_nothing_is_written() {
    let place = Place::new();
    place.write("empty.json", "");
    place.write("none.json", "[]");
    place.write("other.json", "{\"a\": 1}");
    place.write("bad.json", "[\n {\"document\": ]");
    let whole = std::fs::read(EXPORT).unwrap();
    place.write("cut.json", &whole[..whole.len() / 2]);
    for file in [
        "missing.json",
        "empty.json",
        "none.json",
        "other.json",
        "bad.json",
        "cut.json",
        "0.png",
        ".",
    ] {
        let line = format!("convert --plugin ubiai {file} -o out.json");
        let said = place.leaves_nothing(|| place.run(&line));
        said.failed(&[file]);
    }
    let line = "convert --plugin ubiai bad.json -o out.json";
    place.run(line).failed(&["bad.json:2:15"]);
    place.write("export.json", &whole);
    let said = place.leaves_nothing(|| {
        place.run("convert --plugin ubiai export.json -o out.json --assets missing")
    });
    said.failed(&["--assets"]);
    for option in ["nope=1", "wrong"] {
        let line = format!("convert --plugin ubiai export.json -o out.json --option {option}");
        let said = place.leaves_nothing(|| place.run(&line));
        assert!(matches!(said.status, Some(1 | 2)), "{said:#?}");
        assert!(
            said.err.contains(option.trim_end_matches("=1")),
            "{said:#?}"
        );
    }
}

#[test]
fn a_module_that_does_not_become_a_plugin_is_named() {
    let place = Place::new();
    place.write("graft-plugin.toml", "id = \"x\"\n");
    place.write("module.wasm", b"\0asm\x01\0\0\0");
    for module in ["missing.wasm", "0.png"] {
        let line = format!("plugin pack {module} -o out.wasm");
        place.leaves_nothing(|| place.run(&line)).failed(&[module]);
    }
    place.write("out.wasm", "old");
    place
        .run("plugin pack module.wasm -o out.wasm")
        .failed(&["out.wasm"]);
    assert_eq!(place.read("out.wasm"), b"old");
    let line = "plugin pack module.wasm -o out.wasm --manifest missing.toml";
    place.run(line).failed(&["missing.toml"]);
}

#[test]
fn a_plugin_that_breaks_a_rule_is_told_which_and_what_to_do() {
    let place = Place::new();
    place.write("other.json", "{\"a\": 1}");
    let said = place.run("plugin check ubiai --with other.json");
    assert!(said.out.contains("converts"), "{said:#?}");
    assert!(said.out.contains("BROKEN"), "{said:#?}");
    let advice = "the export given with --with should be one that it reads";
    assert!(said.out.contains(advice), "{said:#?}");
    said.failed(&["ubiai breaks", "rules"]);
    let said = place.run("plugin check ubiai --with missing.json");
    said.failed(&["missing.json"]);
    let said = place.run("plugin check exact-match --with other.json");
    said.failed(&["other.json"]);
    let said = place.run("plugin check ubiai --assets .");
    said.misused(&["--with"]);
}

/// A component in C that packs without a compiler here.
const IN_C: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/golden/plugins/examples/c-converter.wasm"
);

#[test]
fn a_manifest_may_ask_for_less_and_never_gets_more() {
    let place = Place::new();
    place.write("part.wasm", std::fs::read(IN_C).unwrap());
    let manifest = "id = \"x\"\nversion = \"1\"\n[limits]\n";
    for (limits, shown) in [
        (
            "memory_bytes = 1048576\n",
            "memory_bytes 1.0 MiB, 1.0 MiB asked for",
        ),
        (
            "memory_bytes = 1073741824\n",
            "memory_bytes 256.0 MiB, 1.0 GiB asked for",
        ),
        (
            "deadline_seconds = 5\n",
            "deadline_seconds 5 s, 5 s asked for",
        ),
    ] {
        place.write("graft-plugin.toml", format!("{manifest}{limits}"));
        place.run("plugin pack part.wasm -o x.wasm").done();
        let said = place.run("plugin info x.wasm");
        assert!(said.out.contains(shown), "{said:#?}");
    }
    // Too little to run in, so it does not get a name.
    place.write("graft-plugin.toml", format!("{manifest}memory_bytes = 1\n"));
    let said = place.leaves_nothing(|| place.run("plugin pack part.wasm -o y.wasm"));
    said.failed(&["memory_bytes"]);
    place.write("graft-plugin.toml", format!("{manifest}memory = 1\n"));
    let said = place.leaves_nothing(|| place.run("plugin pack part.wasm -o y.wasm"));
    said.failed(&["manifest", "memory"]);
}

#[test]
fn a_new_plugin_is_of_the_kind_and_language_that_were_asked_for() {
    let place = Place::new();
    for (line, file, word) in [
        (
            "plugin new a --kind evaluator --lang c",
            "a/plugin.c",
            "GRAFT_EVALUATOR",
        ),
        (
            "plugin new b --purpose evaluator --lang python",
            "b/plugin.py",
            "class Run",
        ),
        (
            "plugin new c --lang js",
            "c/plugin.js",
            "export const converter",
        ),
        ("plugin new d", "d/src/lib.rs", "export_converter!"),
    ] {
        place.run(line).done();
        let text = String::from_utf8(place.read(file)).unwrap();
        assert!(text.contains(word), "{line}: {text}");
    }
}
