//! Plugins and GGUF files through the C interface.

mod program;

#[test]
fn a_c_program_converts_exports_and_stops_plugins_that_go_astray() {
    let folder = tempfile::tempdir().unwrap();
    let digits = program::root().join("runtime/cli/demo/digits/train");
    let spin = folder.path().join("spin.wat");
    std::fs::write(&spin, "not a plugin").unwrap();
    program::run(&program::compile("plugin.c"), &[&digits, folder.path()]);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "the data set and what lay there: {left:?}");
}

#[test]
fn a_c_program_inspects_quantizes_and_imports() {
    let folder = tempfile::tempdir().unwrap();
    let model = program::root().join("runtime/cli/demo/model.gguf");
    program::run(&program::compile("gguf.c"), &[&model, folder.path()]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
