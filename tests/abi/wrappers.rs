//! The C++ interface, from C++ programs.

mod program;

#[test]
fn a_cpp_program_sees_values_exceptions_and_the_end_of_what_it_owns() {
    let folder = tempfile::tempdir().unwrap();
    let demo = program::root().join("runtime/cli/demo");
    let program = program::compile_all(&["wrapper.cc", "second.cc"], &[]);
    let (model, digits) = (demo.join("model.gguf"), demo.join("digits/train"));
    program::run(&program, &[&model, &digits, folder.path()]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn without_exceptions_functions_return_results() {
    let program = program::compile_all(&["results.cc"], &["-fno-exceptions"]);
    let model = program::root().join("runtime/cli/demo/model.gguf");
    program::run(&program, &[&model]);
}

#[test]
fn the_cpp_header_stands_alone_in_every_standard_it_names() {
    for standard in ["c++17", "c++20"] {
        for mode in [&[][..], &["-DGRAFT_NO_EXCEPTIONS", "-fno-exceptions"]] {
            let mut compile = std::process::Command::new("c++");
            compile
                .arg(format!("-std={standard}"))
                .args(["-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"])
                .args(mode)
                .args(["-x", "c++"])
                .arg(program::root().join("include/graft.hpp"));
            program::succeed(&mut compile);
        }
    }
}
