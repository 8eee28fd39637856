//! Adapters through the C interface.

mod adapters_of_demo;
mod program;

#[test]
fn a_c_program_does_with_adapters_what_the_command_does() {
    let model = program::root().join("runtime/cli/demo/model.gguf");
    let folder = tempfile::tempdir().expect("a folder for adapters");
    let [adapter, other, _seeing] = adapters_of_demo::write(folder.path());
    let arguments = [model.as_path(), &adapter, &other, folder.path()];
    program::run(&program::compile("adapter.c"), &arguments);
}
