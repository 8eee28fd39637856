//! Sessions through the C interface.

mod adapters_of_demo;
mod program;

#[test]
fn a_c_program_asks_and_is_answered() {
    let demo = program::root().join("runtime/cli/demo");
    let image = demo.join("digits/held-out/images/digit_0458.png");
    let [model, mmproj] = ["model.gguf", "mmproj.gguf"].map(|name| demo.join(name));
    let folder = tempfile::tempdir().expect("a folder for adapters");
    let [adapter, other, seeing] = adapters_of_demo::write(folder.path());
    let arguments = [&model, &mmproj, &image, &adapter, &other, &seeing];
    program::run(
        &program::compile("session.c"),
        &arguments.map(|p| p.as_path()),
    );
}

#[test]
fn memory_that_cannot_be_had_is_a_status() {
    let model = program::root().join("runtime/cli/demo/model.gguf");
    program::run(&program::compile("memory.c"), &[&model]);
}
