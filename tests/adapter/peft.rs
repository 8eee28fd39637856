//! PEFT folders: models adapted by them answer as in PEFT, they survive the way out and in again,
//! and what graft cannot do is refused by name.

mod answers;
#[path = "../model/closeness.rs"]
mod closeness;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use answers::{golden, logits, open};
use closeness::relative_error;
use graft::adapter::peft::{self, ExportOptions, Layout};
use graft::adapter::{Adapter, Attached, gguf_file};
use graft::gguf::Gguf;
use graft::model::{Model, ModelOptions, Site, SiteKind};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

const FOLDERS: [&str; 6] = [
    "plain",
    "patterned",
    "llava",
    "llava_before_452",
    "chosen",
    "llava_code",
];
const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";

fn base() -> Arc<Model> {
    open(&golden().join("llama/grouped_heads.gguf"))
}

fn folder(name: &str) -> std::path::PathBuf {
    golden().join("peft").join(name)
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let words = file.tensor(name).unwrap().data().chunks_exact(4);
    words
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

#[test]
fn models_adapted_by_a_folder_answer_as_in_peft() {
    let model = base();
    let bytes = fs::read(golden().join("peft/logits.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for folder_name in FOLDERS {
        // What LLaVA's trainer left is the plain adapter in another coat.
        let name = match folder_name {
            "llava_code" => "plain",
            name => name,
        };
        let llava = name.starts_with("llava");
        let tokens = if llava { "llava_tokens" } else { "tokens" };
        let tokens: Vec<u32> = file
            .tensor(tokens)
            .unwrap()
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect();
        let expected = floats(&file, if llava { "llava" } else { name });
        let adapter = Adapter::open(&folder(folder_name), &model).unwrap();
        let attached = Attached::new([(adapter, 1.0)]);
        let error = relative_error(&logits(&model, &attached, &tokens), &expected);
        let without = relative_error(&logits(&model, &Attached::default(), &tokens), &expected);
        println!("{folder_name}: {error:.1e}, without it {without:.1e}");
        assert!(error < 1e-5, "{folder_name}: {error:e}");
        assert!(without > 1e-2, "{name} changes little: {without:e}");
    }
}

#[test]
fn a_folder_survives_the_way_out_and_in_again() {
    let model = base();
    let shape = model.llama().shape();
    let place = tempfile::tempdir().unwrap();
    for name in FOLDERS {
        let adapter = Adapter::open(&folder(name), &model).unwrap();
        for layout in Layout::ALL {
            let path = place.path().join(format!("{name} {layout:?}"));
            let options = ExportOptions {
                layout,
                base_model: Some("somewhere/base".into()),
            };
            peft::write(&path, &adapter, shape, &options).unwrap();
            let again = Adapter::open(&path, &model).unwrap();
            assert_eq!(again.base().name.as_deref(), Some("somewhere/base"));
            assert!(adapter.iter().eq(again.iter()), "{name} {layout:?}");
            // A folder with something in it is not replaced.
            assert!(peft::write(&path, &adapter, shape, &options).is_err());
            assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
        }
        let path = place.path().join(format!("{name}.gguf"));
        gguf_file::write(&path, &adapter).unwrap();
        let again = gguf_file::read(&path).unwrap();
        for ((site, pair), (same, stored)) in adapter.iter().zip(again.iter()) {
            assert_eq!((site, pair.rank()), (same, stored.rank()));
            let product = |pair: &graft::adapter::LoraPair| -> Vec<f32> {
                pair.b.iter().map(|b| b * pair.scale).collect()
            };
            assert!(relative_error(&product(stored), &product(pair)) < 1e-6);
        }
    }
    let left = fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, FOLDERS.len() * (Layout::ALL.len() + 1));
}

#[test]
fn modules_are_named_so_that_a_vision_tower_is_not_hit() {
    let model = base();
    let place = tempfile::tempdir().unwrap();
    let targets = |name: &str, layout| -> Vec<String> {
        let path = place.path().join(format!("{name}{layout:?}"));
        let adapter = Adapter::open(&folder(name), &model).unwrap();
        let options = ExportOptions {
            layout,
            base_model: None,
        };
        peft::write(&path, &adapter, model.llama().shape(), &options).unwrap();
        let text = fs::read(path.join(CONFIG)).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        serde_json::from_value(config["target_modules"].clone()).unwrap()
    };
    assert_eq!(
        targets("patterned", Layout::CausalLm),
        ["q_proj", "v_proj", "down_proj"]
    );
    let whole = targets("patterned", Layout::Llava);
    assert_eq!(whole[0], "model.language_model.layers.0.self_attn.q_proj");
    assert_eq!(whole.len(), 6);
}

/// A copy of the plain folder with its configuration and its tensors (name, shape, F32 data)
/// changed.
fn changed(
    config: impl Fn(&mut Value),
    tensors: impl Fn(&mut HashMap<String, (Vec<usize>, Vec<u8>)>),
) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let text = fs::read(folder("plain").join(CONFIG)).unwrap();
    let mut keys: Value = serde_json::from_slice(&text).unwrap();
    config(&mut keys);
    fs::write(place.path().join(CONFIG), keys.to_string()).unwrap();
    let bytes = fs::read(folder("plain").join(TENSORS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = file.tensors().into_iter();
    let mut arrays = read
        .map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
        .collect();
    tensors(&mut arrays);
    let views = arrays.iter().map(|(name, (shape, data))| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), data).unwrap(),
        )
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(place.path().join(TENSORS), bytes).unwrap();
    place
}

fn refusal(place: &Path) -> String {
    Adapter::open(place, &base()).unwrap_err().to_string()
}

#[test]
fn what_a_folder_says_beyond_plain_lora_is_refused_by_name() {
    let keep = |_: &mut Value| {};
    let q = "base_model.model.model.layers.0.self_attn.q_proj";
    let renamed = |new: &'static str| {
        changed(keep, move |tensors| {
            let a = tensors.remove(&format!("{q}.lora_A.weight")).unwrap();
            tensors.insert(new.into(), a);
        })
    };
    for (name, says) in [
        (
            "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
            "DoRA",
        ),
        (
            "base_model.model.model.embed_tokens.lora_embedding_A",
            "target_modules",
        ),
        ("base_model.model.lm_head.lora_A.weight", "target_modules"),
        (
            "base_model.model.model.embed_tokens.lora_A.weight",
            "belongs to the embedding",
        ),
        (
            "base_model.model.model.layers.0.self_attn.q_proj.lora_embedding_A",
            "belongs to the embedding",
        ),
        (
            "base_model.model.model.embed_tokens.base_layer.weight",
            "another vocabulary",
        ),
        (
            "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight",
            "plain LoRA",
        ),
        (
            "base_model.model.model.vision_tower.layers.0.self_attn.q_proj.lora_A.weight",
            "no place",
        ),
        (
            "base_model.model.model.vision_tower.embeddings.patch_embedding.lora_A.weight",
            "convolution",
        ),
        (
            "base_model.model.model.multi_modal_projector.linear_1.lora_A.weight",
            "target_modules",
        ),
        (
            "base_model.model.model.layers.0.input_layernorm.lora_A.weight",
            "no place",
        ),
        (
            "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
            "plain LoRA",
        ),
        (
            "base_model.model.model.layers.0.self_attn.q_proj.lora_Aé.weight",
            "plain LoRA",
        ),
        (
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.a.b.weight",
            "plain LoRA",
        ),
        (
            "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight",
            "2 layers",
        ),
        (
            "base_model.model.model.layers.99999999999999999999.mlp.up_proj.lora_A.weight",
            "no place",
        ),
        (
            "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight",
            "two pairs",
        ),
    ] {
        let text = refusal(renamed(name).path());
        assert!(text.contains(says), "{name}: {text}");
    }
    // Saved by hand, with the adapter's name.
    let named = renamed("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight");
    Adapter::open(named.path(), &base()).unwrap();

    let text = refusal(changed(|c| c["use_dora"] = json!(true), |_| {}).path());
    assert!(text.contains("DoRA") && text.contains(CONFIG), "{text}");
    let text = refusal(changed(|c| c["r"] = json!(8), |_| {}).path());
    assert!(text.contains("says rank 8"), "{text}");
    let text = refusal(changed(|c| c["lora_alpha"] = json!(1e300), |_| {}).path());
    assert!(text.contains("scale"), "{text}");
    let left_out = changed(|c| c["layers_to_transform"] = json!([1]), |_| {});
    let text = refusal(left_out.path());
    assert!(
        text.contains("layers_to_transform") && text.contains(CONFIG),
        "{text}"
    );
    let text = refusal(changed(|c| c["exclude_modules"] = json!(["q_proj"]), |_| {}).path());
    assert!(text.contains("exclude_modules"), "{text}");
    let lost = changed(keep, |t| drop(t.remove(&format!("{q}.lora_B.weight"))));
    assert!(refusal(lost.path()).contains("only one of"));
    let flat = changed(keep, |t| {
        t.get_mut(&format!("{q}.lora_A.weight")).unwrap().0 = vec![128];
    });
    assert!(refusal(flat.path()).contains("not a matrix's"));
    let turned = changed(keep, |t| {
        t.get_mut(&format!("{q}.lora_A.weight")).unwrap().0 = vec![32, 4];
    });
    assert!(refusal(turned.path()).contains("rank"));
    let broken = changed(keep, |t| {
        let nan = f32::NAN.to_le_bytes();
        t.get_mut(&format!("{q}.lora_A.weight")).unwrap().1[..4].copy_from_slice(&nan);
    });
    assert!(refusal(broken.path()).contains("not finite"));
    assert!(refusal(changed(keep, |t| t.clear()).path()).contains("no low-rank pairs"));
}

#[test]
fn files_that_are_missing_damaged_or_too_many_are_named() {
    let place = tempfile::tempdir().unwrap();
    assert!(refusal(place.path()).contains(CONFIG));
    fs::write(place.path().join(CONFIG), "{").unwrap();
    assert!(refusal(place.path()).contains("not a JSON object"));
    fs::copy(folder("plain").join(CONFIG), place.path().join(CONFIG)).unwrap();
    assert!(refusal(place.path()).contains(TENSORS));
    fs::write(place.path().join("adapter_model.bin"), "").unwrap();
    let text = refusal(place.path());
    assert!(text.contains("pickled") && text.contains("llava_bin_to_safetensors.py"));
    let whole = fs::read(folder("plain").join(TENSORS)).unwrap();
    for length in [0, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(place.path().join(TENSORS), &whole[..length]).unwrap();
        assert!(refusal(place.path()).contains("safetensors"), "{length}");
    }
    fs::write(place.path().join(TENSORS), &whole).unwrap();
    Adapter::open(place.path(), &base()).unwrap();
    fs::write(place.path().join("non_lora_trainables.bin"), "").unwrap();
    let text = refusal(place.path());
    assert!(text.contains("projector") && text.contains("llava_bin_to_safetensors.py"));
}

#[test]
fn a_header_that_promises_more_than_the_file_has_costs_no_memory() {
    let place = tempfile::tempdir().unwrap();
    fs::copy(folder("plain").join(CONFIG), place.path().join(CONFIG)).unwrap();
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    for (shape, offsets) in [
        ("[4, 9223372036854775807]", "[0, 16]"),
        ("[4294967296, 4294967296]", "[0, 16]"),
        ("[1000000, 1000000]", "[0, 4000000000000]"),
        ("[4, 1]", "[16, 0]"),
        ("[4, 1]", "[18446744073709551615, 15]"),
        ("[-4, 1]", "[0, 16]"),
    ] {
        let header = format!(
            r#"{{"{name}": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}"#
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend([0; 16]);
        fs::write(place.path().join(TENSORS), &file).unwrap();
        let text = refusal(place.path());
        assert!(text.contains("not a safetensors file"), "{shape}: {text}");
    }
    let mut file = u64::MAX.to_le_bytes().to_vec();
    file.extend([0; 16]);
    fs::write(place.path().join(TENSORS), &file).unwrap();
    assert!(refusal(place.path()).contains("not a safetensors file"));
    let config = fs::File::create(place.path().join(CONFIG)).unwrap();
    config.set_len(1 << 40).unwrap();
    assert!(refusal(place.path()).contains("no configuration"));
}

#[test]
fn the_projector_that_was_trained_beside_an_adapter_stands_in_its_mmproj_file() {
    let options = ModelOptions {
        mmproj: Some(folder("llava_code").join("mmproj.gguf")),
        threads: 1,
        ..ModelOptions::default()
    };
    Model::open(&golden().join("llava/text.gguf"), &options).unwrap();
    let trained = fs::read(golden().join("peft/llava_code_projector.safetensors")).unwrap();
    let trained = SafeTensors::deserialize(&trained).unwrap();
    let [new, old] = [folder("llava_code"), golden().join("llava")]
        .map(|place| Gguf::open(&place.join("mmproj.gguf")).unwrap());
    assert!(new.metadata().iter().eq(old.metadata().iter()));
    assert_eq!(new.tensors().len(), old.tensors().len());
    for info in old.tensors() {
        let found = new.tensor(&info.name).unwrap();
        match info.name.strip_prefix("mm.") {
            Some(inner) => assert_eq!(found.data, trained.tensor(inner).unwrap().data()),
            None => assert_eq!(found.data, old.tensor(&info.name).unwrap().data),
        }
        assert_eq!(found.info.shape, info.shape);
    }
}

#[test]
fn an_adapter_for_another_model_is_refused_in_and_out() {
    let other = open(&golden().join("llama/wide_heads.gguf"));
    let text = Adapter::open(&folder("plain"), &other)
        .unwrap_err()
        .to_string();
    assert!(text.contains("another base"), "{text}");
    let adapter = Adapter::open(&folder("plain"), &base()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let shape = other.llama().shape();
    let target = place.path().join("out");
    let refused = peft::write(&target, &adapter, shape, &ExportOptions::default());
    assert!(refused.unwrap_err().to_string().contains("does not fit"));
    assert!(!target.exists());
    let site = Site::Layer {
        layer: 0,
        linear: SiteKind::Q,
    };
    assert_eq!(adapter.pair(site).unwrap().rank(), 4);
}
