//! Models through the C interface.

mod program;

#[test]
fn a_c_program_opens_models_from_everywhere() {
    let model = program::root().join("runtime/cli/demo/model.gguf");
    program::run(&program::compile("model.c"), &[&model]);
}
