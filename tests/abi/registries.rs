//! Registries and batches through the C interface.

mod adapters_of_demo;
mod program;

#[test]
fn a_c_program_swaps_adapters_by_name() {
    let model = program::root().join("runtime/cli/demo/model.gguf");
    let folder = tempfile::tempdir().expect("a folder for adapters");
    let [adapter, other, _seeing] = adapters_of_demo::write(folder.path());
    let arguments = [model.as_path(), &adapter, &other, folder.path()];
    program::run(&program::compile("registry.c"), &arguments);
}

#[test]
fn a_c_program_runs_sessions_with_different_adapters_together() {
    let demo = program::root().join("runtime/cli/demo");
    let image = demo.join("digits/held-out/images/digit_0458.png");
    let [model, mmproj] = ["model.gguf", "mmproj.gguf"].map(|name| demo.join(name));
    let folder = tempfile::tempdir().expect("a folder for adapters");
    let [adapter, _other, seeing] = adapters_of_demo::write(folder.path());
    let arguments = [&model, &mmproj, &image, &adapter, &seeing].map(|path| path.as_path());
    program::run(&program::compile("batch.c"), &arguments);
}
