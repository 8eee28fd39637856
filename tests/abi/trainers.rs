//! Data sets, plans, trainers and jobs through the C interface.

#[allow(dead_code)] // conversions are not what is looked at here
#[path = "../plugins/desk.rs"]
mod desk;
mod program;

use std::path::Path;

use desk::Desk;
use graft::dataset::Sample;
use graft::dataset::llava_json::Writer;

/// Writes some samples of the demo's export as a data set.
fn data_set(path: &Path, samples: &[Sample]) {
    let mut writer = Writer::create(path).unwrap();
    samples
        .iter()
        .for_each(|sample| writer.write(sample).unwrap());
    writer.finish().unwrap();
}

/// The demo's samples, whose images are in its folder.
fn samples(demo: &Path) -> Vec<Sample> {
    let export = std::fs::read_to_string(demo.join("digits/train/export.json")).unwrap();
    let ubiai = desk::converters("ubiai").remove(0);
    let images = demo.join("digits/train/images");
    let (converted, samples) = desk::convert(&ubiai, &export, "{}", &Desk::new(&images));
    converted.unwrap();
    samples
}

#[test]
fn a_c_program_trains_pauses_goes_back_and_watches_a_job() {
    let demo = program::root().join("runtime/cli/demo");
    let scratch = tempfile::tempdir().unwrap();
    let (images, samples) = (demo.join("digits/train/images"), samples(&demo));
    let [learning, held_out] = ["learning.json", "held-out.json"].map(|n| scratch.path().join(n));
    data_set(&learning, &samples[..24]);
    data_set(&held_out, &samples[24..32]);
    let (model, mmproj) = (demo.join("model.gguf"), demo.join("mmproj.gguf"));
    let arguments = [
        &model,
        &mmproj,
        &learning,
        &held_out,
        &images,
        scratch.path(),
    ];
    program::run(&program::compile("trainer.c"), &arguments.map(Path::new));
}

#[test]
fn a_c_program_trains_on_graphics_devices_as_on_the_processor() {
    let demo = program::root().join("runtime/cli/demo");
    let scratch = tempfile::tempdir().unwrap();
    let learning = scratch.path().join("learning.json");
    data_set(&learning, &samples(&demo)[..6]);
    let arguments = [
        &demo.join("model.gguf"),
        &demo.join("mmproj.gguf"),
        &learning,
        &demo.join("digits/train/images"),
        scratch.path(),
    ];
    program::run(&program::compile("device.c"), &arguments);
}
