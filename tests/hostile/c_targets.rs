//! What bytes from outside are given to through the C functions, as a C program gives them: see [`crate::c_program`] for
//! what an input is and what must hold whatever it says. The fuzzers under tests/fuzz and the replay of their corpora
//! call the same functions.

#![allow(dead_code)] // a fuzzer calls one of them

#[path = "c_targets/adapters.rs"]
mod adapters;
#[path = "c_targets/models.rs"]
mod models;
#[path = "c_targets/plugins.rs"]
mod plugins;
#[path = "c_targets/training.rs"]
mod training;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::c_functions::*;
use crate::c_program::{Program, path_of, run, runtime};
use crate::c_struct::{Struct, address};

pub use adapters::adapter;
pub use models::model;
use models::session;
pub use plugins::plugin;
pub use training::{checkpoint, dataset};

/// A way into the library; `None` if the bytes were refused.
pub type Target = fn(&[u8]) -> Option<()>;

/// Every target under the name of its corpus.
pub const ALL: [(&str, Target); 6] = [
    ("c_model", model),
    ("c_adapter", adapter),
    ("c_dataset", dataset),
    ("c_checkpoint", checkpoint),
    ("c_image", image),
    ("c_plugin", plugin),
];

const MODEL: &[u8] = include_bytes!("../fuzz/corpus/model/seed.gguf");
const VISION: &[u8] = include_bytes!("../fuzz/corpus/vision/seed.gguf");
const PICTURE: &[u8] = include_bytes!("../fuzz/corpus/image/seed-rgb.png");

/// Opens bytes of this program's own.
fn own(open: impl FnOnce(&Struct, &mut Object) -> Status, bytes: &'static [u8]) -> Object {
    let source = Struct::new("graft_source")
        .set("kind", 2)
        .set("data", address(bytes.as_ptr()))
        .set("length", bytes.len() as u64);
    let mut object = 0;
    assert_eq!(open(&source, &mut object), 0, "a sound file");
    object
}

/// A model that is as it should be and sees, for what needs one beside it.
fn sound() -> Object {
    static SOUND: LazyLock<Object> = LazyLock::new(|| {
        let projector = Struct::new("graft_source")
            .set("kind", 2)
            .set("data", address(VISION.as_ptr()))
            .set("length", VISION.len() as u64);
        let options = Struct::new("graft_model_options").set("projector", projector.at() as u64);
        let open = |source: &Struct, out: &mut Object| {
            graft_model_open_source(runtime(), source.at(), options.at(), out, 0)
        };
        own(open, MODEL)
    });
    *SOUND
}

/// Four samples with and without an image, in a folder.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines = concat!(
        r#"{"id":"1","image":"a.png","conversations":[{"from":"human","value":"<image>\na"},{"from":"gpt","value":"b"}]}"#,
        "\n",
        r#"{"id":"2","conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"ab"}]}"#,
    );
    write(folder.path(), "data.json", lines.as_bytes());
    write(folder.path(), "a.png", PICTURE);
    folder
});

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("room for a small file");
    path
}

/// Those samples as a data set.
fn samples() -> Object {
    static SAMPLES: LazyLock<Object> = LazyLock::new(|| {
        let path = path_of(&FOLDER.path().join("data.json"));
        let mut data = 0;
        let path = path.as_ptr().expose_provenance();
        assert_eq!(graft_dataset_open(path, 0, &mut data, 0), 0);
        data
    });
    *SAMPLES
}

/// What must be there before objects are counted.
fn begin() {
    sound();
    samples();
}
/// An image file within limits, seen by a model; and its bytes as pixels.
pub fn image(bytes: &[u8]) -> Option<()> {
    begin();
    run(bytes, |program, _, file| {
        let limits = Struct::new("graft_image_limits")
            .set("max_side", program.pick(2048, &[0, 1, u32::MAX.into()]))
            .set("max_pixels", program.pick(1 << 20, &[1, u64::MAX]))
            .set("max_bytes", program.pick(16 << 20, &[1, 64 << 20]))
            .sized(program.choice());
        let data = file.as_ptr().expose_provenance();
        let (width, height) = (u32::from(program.choice()), u32::from(program.choice()));
        let stride = usize::from(program.choice());
        let row = 3 * width as usize;
        let stride_of = if stride == 0 { row } else { stride };
        let there = (stride_of * (height as usize).saturating_sub(1) + row) <= file.len();
        let pixels = program.pick(if there { data } else { 0 }, &[0]);
        if let Some(image) = program.make(
            "graft_image_from_pixels",
            graft_image_release,
            |out, err| graft_image_from_pixels(runtime(), pixels, width, height, stride, out, err),
        ) {
            looked_at(program, image);
        }
        let image = program.make("graft_image_decode", graft_image_release, |out, err| {
            graft_image_decode(runtime(), data, file.len(), limits.at(), out, err)
        })?;
        looked_at(program, image);
        let session = session(program, sound())?;
        let cancel = program.cancel();
        program.call("graft_session_feed_image", |err| {
            graft_session_feed_image(session, image, cancel, err)
        });
        Some(())
    })
}

/// An image's size and every pixel.
fn looked_at(program: &mut Program, image: Object) {
    let mut info = Struct::new("graft_image_info");
    let status = graft_image_get_info(image, info.to());
    program.status("graft_image_get_info", status);
    let count = 3 * info.get("width") as usize * info.get("height") as usize;
    let pixels = program.bytes_at(graft_image_pixels(image), count);
    assert_eq!(pixels.len(), count);
}
