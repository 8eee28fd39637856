//! Answers in the background and evaluations through the C interface.

mod demo;
mod program;

#[test]
fn a_c_program_answers_in_the_background_and_evaluates() {
    let folder = tempfile::tempdir().unwrap();
    let (model, mmproj) = (demo::file("model.gguf"), demo::file("mmproj.gguf"));
    let (data, images) = (
        demo::data(folder.path()),
        demo::file("digits/held-out/images"),
    );
    let arguments = [&*model, &*mmproj, &*data, &*images, folder.path()];
    program::run(&program::compile("job.c"), &arguments);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
