//! Adapters with pairs in the vision half are two files: they come back as they went, and a half that is
//! missing, another's or damaged is refused.

mod seeing;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graft::adapter::{Adapter, Publish, Registry, companion, gguf_file};
use graft::gguf::{Gguf, TensorDeclaration, Writer};
use graft::model::{Model, Site};
use graft_kernels::QuantType;
use seeing::{adapter, afresh, folder, model, set, sites};

/// A folder with an adapter of every place, `x.gguf` and its companion.
struct Place {
    folder: tempfile::TempDir,
    model: Arc<Model>,
    adapter: Adapter,
}

impl Place {
    fn new() -> Self {
        let (folder, model) = (tempfile::tempdir().unwrap(), model());
        let adapter = adapter(&model, "x", 1, &sites(&model));
        let place = Self {
            folder,
            model,
            adapter,
        };
        gguf_file::write(&place.path("x.gguf"), &place.adapter).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn refused(&self) -> String {
        let error = Adapter::open(&self.path("x.gguf"), &self.model).unwrap_err();
        error.to_string()
    }

    /// The adapter's pairs in the language model.
    fn blind(&self) -> Adapter {
        let pairs = self.adapter.iter().filter(|(site, _)| !site.is_vision());
        let pairs = pairs.map(|(site, pair)| (site, pair.clone()));
        Adapter::new("x", self.adapter.base().clone(), 6.0, pairs).unwrap()
    }
}

/// Writes a GGUF file again with its tensors renamed, reshaped, refilled or left out.
fn edit(
    path: &Path,
    change: impl Fn(&mut TensorDeclaration, &mut Vec<u8>) -> bool,
    key: Option<(&str, &str)>,
) {
    let gguf = Gguf::open(path).unwrap();
    let mut metadata = gguf.metadata().clone();
    if let Some((key, value)) = key {
        metadata.insert(key, graft::gguf::Value::String(value.into()));
    }
    let mut kept = Vec::new();
    for (i, info) in gguf.tensors().iter().enumerate() {
        let mut declaration = TensorDeclaration {
            name: info.name.clone(),
            shape: info.shape.clone(),
            quant_type: info.quant_type,
        };
        let mut data = gguf.data(i).to_vec();
        if change(&mut declaration, &mut data) {
            kept.push((declaration, data));
        }
    }
    let declarations: Vec<_> = kept
        .iter()
        .map(|(declaration, _)| declaration.clone())
        .collect();
    let mut writer = Writer::create(path, &metadata, &declarations).unwrap();
    for (_, data) in &kept {
        writer.write_tensor(data).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn two_files_come_back_as_one_adapter() {
    let place = Place::new();
    let (x, beside) = (place.path("x.gguf"), place.path("x.vision.gguf"));
    assert_eq!(companion::path_of(&x), beside);
    assert_eq!(gguf_file::read(&x).unwrap(), place.adapter);
    let read = Adapter::open(&x, &place.model).unwrap();
    assert_eq!(read.generation(), place.adapter.generation());
    let answer = afresh(&place.model, &set(&[(&read, 1.0)]));
    let kept = Arc::new(place.adapter.clone());
    // One token's sums over values in a file are taken in another order than over values in memory.
    let kept = afresh(&place.model, &set(&[(&kept, 1.0)]));
    assert!(seeing::closeness::relative_error(&answer, &kept) < 1e-6);
    // llama.cpp refuses names that its language models do not have, and reads the embedding transposed.
    let (width, vocabulary) = (32, 96);
    let gguf = Gguf::open(&x).unwrap();
    let known = |name: &str| {
        let known = ["blk.", "token_embd.", "output."];
        known.iter().any(|known| name.starts_with(known))
    };
    assert!(gguf.tensors().iter().all(|info| known(&info.name)));
    let rank = place.adapter.pair(Site::Embedding).unwrap().rank();
    let shape = |name: &str| gguf.tensor(name).unwrap().info.shape.clone();
    assert_eq!(shape("token_embd.weight.lora_a"), [rank, vocabulary]);
    assert_eq!(shape("token_embd.weight.lora_b"), [rank, width]);
    let rank = place.adapter.pair(Site::Output).unwrap().rank();
    assert_eq!(shape("output.weight.lora_a"), [width, rank]);
    assert_eq!(shape("output.weight.lora_b"), [rank, vocabulary]);
}

#[test]
fn halves_of_other_types_and_scales_come_back_too() {
    let place = Place::new();
    let peft = Adapter::open(&folder("everything"), &place.model).unwrap();
    let want = afresh(&place.model, &set(&[(&peft, 1.0)]));
    for (quant_type, most) in [
        (QuantType::F32, 1e-6),
        (QuantType::F16, 1e-2),
        (QuantType::BF16, 5e-2),
    ] {
        let path = place.path("peft.gguf");
        gguf_file::write_as(&path, &peft, quant_type).unwrap();
        let read = Adapter::open(&path, &place.model).unwrap();
        assert_eq!(read.iter().count(), peft.iter().count());
        let error =
            seeing::closeness::relative_error(&afresh(&place.model, &set(&[(&read, 1.0)])), &want);
        assert!(error < most, "{quant_type}: {error}");
    }
    // An adapter of the vision half alone is two files as well.
    let seeing = place.adapter.iter().filter(|(site, _)| site.is_vision());
    let seeing = seeing.map(|(site, pair)| (site, pair.clone()));
    let seeing = Adapter::new("eyes", place.adapter.base().clone(), 6.0, seeing).unwrap();
    let path = place.path("eyes.gguf");
    gguf_file::write(&path, &seeing).unwrap();
    assert_eq!(gguf_file::read(&path).unwrap(), seeing);
}

#[test]
fn a_half_that_is_missing_or_anothers_is_refused() {
    let place = Place::new();
    let (x, beside) = (place.path("x.gguf"), place.path("x.vision.gguf"));
    let text = Adapter::open(&beside, &place.model)
        .unwrap_err()
        .to_string();
    assert!(text.contains("the vision half of an adapter"), "{text}");

    let other = adapter(&place.model, "x", 2, &sites(&place.model));
    gguf_file::write(&place.path("y.gguf"), &other).unwrap();
    let sound = fs::read(&beside).unwrap();
    fs::copy(place.path("y.vision.gguf"), &beside).unwrap();
    let text = place.refused();
    assert!(text.contains("another adapter"), "{text}");

    fs::remove_file(&beside).unwrap();
    let text = place.refused();
    assert!(
        text.contains("x.vision.gguf") && text.contains("not there"),
        "{text}"
    );

    // One that its neighbour knows nothing of: the adapter was replaced by another program.
    fs::write(&beside, &sound).unwrap();
    let blind = place.path("blind.gguf");
    gguf_file::write(&blind, &place.blind()).unwrap();
    fs::rename(&blind, &x).unwrap();
    let text = place.refused();
    assert!(text.contains("another adapter"), "{text}");
}

#[test]
fn a_companion_does_not_outlive_what_it_belonged_to() {
    let place = Place::new();
    let (x, beside) = (place.path("x.gguf"), place.path("x.vision.gguf"));
    gguf_file::write(&x, &place.blind()).unwrap();
    assert!(!beside.exists());
    assert_eq!(gguf_file::read(&x).unwrap(), place.blind());
    // A file of another kind that happens to have the name is nobody's companion, and is not replaced.
    fs::copy(seeing::mmproj(), &beside).unwrap();
    gguf_file::write(&x, &place.blind()).unwrap();
    assert_eq!(gguf_file::read(&x).unwrap(), place.blind());
    let text = gguf_file::write(&x, &place.adapter)
        .unwrap_err()
        .to_string();
    assert!(text.contains("move it away"), "{text}");
    assert_eq!(
        fs::read(&beside).unwrap(),
        fs::read(seeing::mmproj()).unwrap()
    );
    assert_eq!(gguf_file::read(&x).unwrap(), place.blind());
}

#[test]
fn a_hostile_companion_is_refused() {
    const A: &str = "v.blk.1.attn_q.weight.lora_a";
    let hostile = |change: &dyn Fn(&mut TensorDeclaration, &mut Vec<u8>) -> bool, key| {
        let place = Place::new();
        edit(&place.path("x.vision.gguf"), change, key);
        place.refused()
    };
    let unchanged = |_: &mut TensorDeclaration, _: &mut Vec<u8>| true;
    let nan = |info: &mut TensorDeclaration, data: &mut Vec<u8>| {
        if info.name == A {
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        true
    };
    let text = hostile(&nan, None);
    assert!(text.contains("damaged"), "{text}");
    let half = |info: &mut TensorDeclaration, _: &mut Vec<u8>| info.name != A;
    let text = hostile(&half, None);
    assert!(text.contains("no partner"), "{text}");
    let gone = |info: &mut TensorDeclaration, _: &mut Vec<u8>| !info.name.contains("blk.1.attn_q");
    let text = hostile(&gone, None);
    assert!(text.contains("damaged"), "{text}");
    let reshaped = |info: &mut TensorDeclaration, _: &mut Vec<u8>| {
        if info.name == A {
            info.shape.reverse();
        }
        true
    };
    let text = hostile(&reshaped, None);
    assert!(text.contains(A) || text.contains("rank"), "{text}");
    let language = |info: &mut TensorDeclaration, _: &mut Vec<u8>| {
        info.name = info.name.replace("v.blk.1.attn_q", "blk.1.attn_q");
        true
    };
    let text = hostile(&language, None);
    assert!(text.contains("wrong file"), "{text}");
    let stranger = |info: &mut TensorDeclaration, _: &mut Vec<u8>| {
        info.name = info.name.replace("mm.0", "mm.1");
        true
    };
    let text = hostile(&stranger, None);
    assert!(text.contains("mm.1"), "{text}");
    for (key, value) in [
        ("general.type", "model"),
        ("general.architecture", "llama"),
        ("graft.vision.digest", "0"),
    ] {
        let text = hostile(&unchanged, Some((key, value)));
        assert!(text.contains("another adapter"), "{key}: {text}");
    }
    let text = hostile(&unchanged, Some(("adapter.type", "ia3")));
    assert!(text.contains("ia3"), "{text}");
    // Whatever the bytes are, nothing panics.
    let place = Place::new();
    let beside = place.path("x.vision.gguf");
    let sound = fs::read(&beside).unwrap();
    for length in [0, 3, 100, sound.len() / 2, sound.len() - 1] {
        fs::write(&beside, &sound[..length]).unwrap();
        place.refused();
    }
}

#[test]
fn values_that_are_not_finite_are_refused_even_with_a_digest_that_fits() {
    let place = Place::new();
    let mut broken = place.adapter.clone();
    broken = {
        let pairs = broken.iter().map(|(site, pair)| {
            let mut pair = pair.clone();
            if site.is_vision() {
                pair.a[0] *= 1e38;
            }
            (site, pair)
        });
        Adapter::new("x", broken.base().clone(), 6.0, pairs.collect::<Vec<_>>()).unwrap()
    };
    // Finite in F32, and not in the type that they are stored in.
    gguf_file::write_as(&place.path("x.gguf"), &broken, QuantType::F16).unwrap();
    let text = place.refused();
    assert!(text.contains("not finite"), "{text}");
}

#[test]
fn pairs_of_the_vision_half_in_the_first_file_are_refused() {
    let place = Place::new();
    let rename = |info: &mut TensorDeclaration, _: &mut Vec<u8>| {
        info.name = info.name.replace("blk.0.attn_q", "v.blk.0.attn_q");
        true
    };
    edit(&place.path("x.gguf"), rename, None);
    let text = place.refused();
    assert!(text.contains("wrong file"), "{text}");
}

#[test]
fn the_registry_sees_a_companion_that_changed() {
    let place = Place::new();
    let (x, beside) = (place.path("x.gguf"), place.path("x.vision.gguf"));
    let bytes = place.adapter.bytes();
    let registry = Registry::new(Arc::clone(&place.model), bytes + bytes / 2);
    let first = registry.load("x", &x, Publish::Create).unwrap();
    assert_eq!(registry.resident(), [(first, bytes)]);
    // Another takes its room.
    let other = adapter(&place.model, "y", 2, &sites(&place.model));
    gguf_file::write(&place.path("y.gguf"), &other).unwrap();
    registry
        .load("y", &place.path("y.gguf"), Publish::Create)
        .unwrap();
    assert_eq!(registry.resident().len(), 1);
    // Both halves of another adapter, under the old names; then the companion alone.
    assert_eq!(registry.lease("x").unwrap().generation, first);
    registry.lease("y").unwrap();
    fs::copy(place.path("y.vision.gguf"), &beside).unwrap();
    let text = registry.lease("x").unwrap_err().to_string();
    assert!(text.contains("another adapter"), "{text}");
    let seeing_only: Vec<_> = other.iter().filter(|(site, _)| site.is_vision()).collect();
    let mixed = place.adapter.iter().filter(|(site, _)| !site.is_vision());
    let mixed = mixed
        .chain(seeing_only)
        .map(|(site, pair)| (site, pair.clone()));
    let mixed = Adapter::new("x", other.base().clone(), 6.0, mixed.collect::<Vec<_>>()).unwrap();
    gguf_file::write(&x, &mixed).unwrap();
    let text = registry.lease("x").unwrap_err().to_string();
    assert!(text.contains("has changed"), "{text}");
}
