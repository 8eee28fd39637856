//! Tokens, conversations and images through the C interface.

mod program;

#[test]
fn a_c_program_writes_conversations_as_the_model_wants_them() {
    let demo = program::root().join("runtime/cli/demo");
    let image = demo.join("digits/held-out/images/digit_0458.png");
    let [model, mmproj] = ["model.gguf", "mmproj.gguf"].map(|name| demo.join(name));
    program::run(&program::compile("chat.c"), &[&model, &mmproj, &image]);
}
