//! What bytes from outside are given to: one function for each kind of file. The fuzzers under
//! tests/fuzz and the replay of their corpora call the same functions.
//!
//! An error is the expected answer; a panic, a hang, or memory without bound is a defect.

#![allow(dead_code)] // a fuzzer calls one of them

use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use graft::adapter::{Attached, folder, gguf_file, peft};
use graft::dataset::{llava_json, prompt};
use graft::gguf::Gguf;
use graft::image::{AspectRatio, ImageLimits, Preprocessing, RgbImage, decode};
use graft::memory::Arena;
use graft::model::llava::splice;
use graft::model::{Model, ModelOptions, Vision, VisionWork};
use graft::session::{Session, SessionOptions};
use graft::threads::Pool;
use graft::tokenizer::{ChatTemplate, JinjaTemplate, Message, Role, Tokenizer};
use graft::train::{Example, TrainOptions, Trainer};
use graft_kernels::blocks;

/// A way into the library; `None` if the bytes were refused.
pub type Target = fn(&[u8]) -> Option<()>;

/// Every target under the name of its corpus.
pub const ALL: [(&str, Target); 11] = [
    ("gguf", gguf),
    ("model", model),
    ("vision", vision),
    ("adapter", adapter),
    ("tokenizer", tokenizer),
    ("template", template),
    ("image", image),
    ("dataset", dataset),
    ("peft", peft),
    ("mlx", mlx),
    ("checkpoint", checkpoint),
];

/// A model that is as it should be, for what needs one beside it.
static SOUND: LazyLock<Arc<Model>> = LazyLock::new(|| {
    let bytes = include_bytes!("../golden/llama/grouped_heads.gguf").to_vec();
    let gguf = Arc::new(Gguf::from_bytes(bytes).expect("a golden file"));
    Model::new(gguf, &ONE_THREAD).expect("a golden file")
});

/// A vocabulary that is as it should be.
static VOCABULARY: LazyLock<Tokenizer> = LazyLock::new(|| {
    let bytes = include_bytes!("../fuzz/corpus/model/seed.gguf").to_vec();
    let gguf = Gguf::from_bytes(bytes).expect("a seed");
    Tokenizer::from_metadata(gguf.metadata()).expect("a seed")
});

const ONE_THREAD: ModelOptions = ModelOptions {
    mmproj: None,
    threads: 1,
    device: graft::device::DeviceOptions::CPU,
};

/// Enough for any input of a fuzzer; what wants more is not run further.
const MOST_BYTES: usize = 64 << 20;

/// A GGUF file: directory, metadata, and every tensor's values.
pub fn gguf(bytes: &[u8]) -> Option<()> {
    let gguf = Gguf::from_bytes(bytes.to_vec()).ok()?;
    for (key, value) in gguf.metadata().iter() {
        let found = gguf.metadata().get(key).expect("a key it names itself");
        assert!(std::ptr::eq(found, value), "{key} stands twice");
        if let graft::gguf::Value::Array(array) = value {
            let _ = (value.summary(), array.is_empty());
        }
    }
    for (i, info) in gguf.tensors().iter().enumerate() {
        assert_eq!(gguf.data(i).len(), info.bytes);
        assert_eq!(gguf.position(&info.name), Some(i));
        let mut values = vec![0.0; info.elements()];
        blocks::decode(info.quant_type, gguf.data(i), &mut values);
    }
    Some(())
}

/// A model file: shapes, weights, vocabulary, and a few tokens through it.
pub fn model(bytes: &[u8]) -> Option<()> {
    let gguf = Gguf::from_bytes(bytes.to_vec()).ok()?;
    let model = Model::new(Arc::new(gguf), &ONE_THREAD).ok()?;
    let options = SessionOptions::with_context(4);
    let mut session = Session::new(Arc::clone(&model), &options).unwrap();
    session
        .feed(&[0, 0, 0])
        .expect("every vocabulary has a token");
    let logits = session.logits().expect("three tokens were fed");
    assert_eq!(logits.len(), model.llama().shape().vocabulary);
    let _ = (model.name(), model.fingerprint());
    Some(())
}

/// An mmproj file, and an image through it.
pub fn vision(bytes: &[u8]) -> Option<()> {
    static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(1).expect("a thread"));
    const WIDTH: usize = 4;
    let gguf = Gguf::from_bytes(bytes.to_vec()).ok()?;
    let vision = Vision::new(Arc::new(gguf), WIDTH).ok()?;
    let shape = vision.tower().shape();
    let pixels = 12 * shape.image_size * shape.image_size;
    if VisionWork::bytes(vision.tower()) + pixels > MOST_BYTES {
        return None;
    }
    let image = RgbImage::new(3, 2, (0..18).collect()).expect("18 bytes");
    let features = POOL.run(|| {
        vision.features(
            &image,
            &mut VisionWork::new(vision.tower(), &Arena::unlimited()).unwrap(),
        )
    });
    assert_eq!(features.len(), shape.patches() * shape.width);
    Some(())
}

/// An adapter file, and tokens through the model with it.
pub fn adapter(bytes: &[u8]) -> Option<()> {
    let gguf = Arc::new(Gguf::from_bytes(bytes.to_vec()).ok()?);
    let adapter = gguf_file::from_gguf(&gguf, "fuzzed", Path::new("fuzzed.gguf")).ok()?;
    attach(adapter)
}

fn attach(adapter: graft::adapter::Adapter) -> Option<()> {
    let options = SessionOptions::with_context(4);
    let mut session = Session::new(Arc::clone(&SOUND), &options).unwrap();
    let attached = Attached::new([(Arc::new(adapter), 1.0)]);
    session.set_adapters(attached).ok()?;
    session.feed(&[1, 2, 3]).expect("three tokens of 80");
    session.logits().expect("three tokens were fed");
    Some(())
}

/// A checkpoint of a run, one of whose files is replaced: the first byte says which, the rest is the file.
/// The seeds are what [`beginning`] saved after an update; they stay, so that old checkpoints stay readable.
pub fn checkpoint(bytes: &[u8]) -> Option<()> {
    static RUN: LazyLock<Mutex<(Trainer, tempfile::TempDir)>> = LazyLock::new(|| {
        let mut trainer = beginning();
        let folder = tempfile::tempdir().expect("a temporary folder");
        trainer.step().expect("a finite loss");
        trainer.save(folder.path()).expect("room for a small file");
        Mutex::new((trainer, folder))
    });
    let (which, content) = bytes.split_first()?;
    let file = ["state.json", "state.safetensors"][usize::from(which % 2)];
    let run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let saved = run.1.path().join("checkpoint-1");
    for name in ["state.json", "state.safetensors"] {
        let copied = std::fs::copy(saved.join(name), folder.path().join(name));
        copied.expect("room for a small file");
    }
    std::fs::write(folder.path().join(file), content).expect("room for a small file");
    let mut trainer = beginning();
    trainer.resume(folder.path()).ok()?;
    assert!(trainer.done() <= trainer.steps());
    Some(())
}

/// A run that learns one short sample.
fn beginning() -> Trainer {
    let ids: Vec<i32> = (1..7).collect();
    let example = Example {
        id: "one".into(),
        sequence: splice(&ids, &ids, 0, 64),
        features: Vec::new(),
    };
    let options = TrainOptions {
        rank: 1,
        targets: "q_proj".into(),
        steps: Some(3),
        ..TrainOptions::default()
    };
    Trainer::new(Arc::clone(&SOUND), options, vec![example], None).expect("a sound run")
}

/// A PEFT folder: the length of the configuration (two bytes), it, and the tensors.
pub fn peft(bytes: &[u8]) -> Option<()> {
    let folder = adapter_folder(bytes, "adapter_model.safetensors")?;
    attach(peft::read(folder.path(), SOUND.llama().shape()).ok()?)
}

/// A folder of mlx-lm, in the same way; read as what its files' names say it is.
pub fn mlx(bytes: &[u8]) -> Option<()> {
    let adapter = adapter_folder(bytes, "adapters.safetensors")?;
    attach(folder::read(adapter.path(), SOUND.llama().shape()).ok()?)
}

/// A folder with a configuration and tensors under the name that their trainer gives them.
fn adapter_folder(bytes: &[u8], tensors_name: &str) -> Option<tempfile::TempDir> {
    let (length, rest) = bytes.split_at_checked(2)?;
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    let (config, tensors) = rest.split_at_checked(length)?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).expect("room for a small file");
    };
    write("adapter_config.json", config);
    write(tensors_name, tensors);
    Some(folder)
}

/// The vocabulary of a GGUF file: the length of a text (one byte), it, and the file.
pub fn tokenizer(bytes: &[u8]) -> Option<()> {
    let (&length, rest) = bytes.split_first()?;
    let (text, file) = rest.split_at_checked(length.into())?;
    let gguf = Gguf::from_bytes(file.to_vec()).ok()?;
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).ok()?;
    let text = String::from_utf8_lossy(text);
    for special in [false, true] {
        let Ok(ids) = tokenizer.encode(&text, true, special) else {
            continue;
        };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        let _ = tokenizer.encode_after_special(&text, special);
        let _ = tokenizer.decode(&ids);
    }
    let every: Vec<u32> = (0..=tokenizer.vocab_size() as u32).rev().collect();
    let mut decoder = tokenizer.decoder();
    for &id in &every {
        let _ = decoder.push(id);
    }
    let _ = (decoder.flush(), tokenizer.decode(&every));
    for &id in &every {
        let _ = (tokenizer.token_kind(id), tokenizer.is_end(id));
        let text = tokenizer.token_text(id);
        let _ = text.map(|text| tokenizer.special(text));
    }
    let _ = tokenizer.prompt(
        &ChatTemplate::vicuna_v1()
            .render(&messages(), true)
            .expect("plain"),
    );
    Some(())
}

/// The source of a chat template.
pub fn template(bytes: &[u8]) -> Option<()> {
    let source = std::str::from_utf8(bytes).ok()?;
    let template = JinjaTemplate::new(source, &VOCABULARY).ok()?;
    let template = ChatTemplate::Jinja(Box::new(template));
    for open in [false, true] {
        let segments = template.render(&messages(), open).ok()?;
        let _ = VOCABULARY.prompt(&segments);
    }
    Some(())
}

fn messages() -> [Message; 3] {
    let message = |role, images, text: &str| Message {
        role,
        images,
        text: text.into(),
    };
    [
        message(Role::System, 0, "Be brief."),
        message(Role::User, 1, " What is it? "),
        message(Role::Assistant, 0, "A digit.</s>"),
    ]
}

/// An image file, decoded and prepared both ways.
pub fn image(bytes: &[u8]) -> Option<()> {
    let limits = ImageLimits {
        side: 2048,
        pixels: 1 << 20,
        bytes: 16 << 20,
    };
    let image = decode(bytes, "fuzzed", &limits).ok()?;
    for aspect_ratio in [AspectRatio::Pad, AspectRatio::Crop] {
        let preprocessing = Preprocessing {
            size: 8,
            mean: [0.5; 3],
            std: [0.25; 3],
            aspect_ratio,
        };
        let mut pixels = vec![f32::NAN; 3 * 8 * 8];
        preprocessing.pixels(&mut pixels, &image);
        assert!(pixels.iter().all(|p| (-2.01..=2.01).contains(p)));
    }
    Some(())
}

/// A LLaVA data set, and its samples as prompts.
pub fn dataset(bytes: &[u8]) -> Option<()> {
    let samples = llava_json::from_reader(bytes, Path::new("fuzzed.json")).ok()?;
    let template = ChatTemplate::vicuna_v1();
    for sample in &samples {
        let _ = prompt::question(sample);
        if let Ok((prompt, _)) = prompt::training(sample, &template, &VOCABULARY) {
            assert_eq!(prompt.ids.len(), prompt.labels.len());
        }
    }
    Some(())
}
