//! Folders that are no checkpoint graft can express are refused with what is in the way, and
//! nothing is written.

mod scene;

use std::path::Path;

use graft::convert_hf::{ConvertOptions, convert};
use graft_kernels::QuantType;
use safetensors::Dtype;
use scene::{Scene, options};
use serde_json::{Value, json};

/// Converts, expects a refusal that says all of `words`, and that nothing was written.
fn refused(scene: &Scene, sees: bool, words: &[&str]) {
    let refused = match scene.convert(QuantType::F16, sees) {
        Ok(converted) => panic!("{converted:?} instead of {words:?}"),
        Err(refused) => refused.to_string(),
    };
    println!("{refused}");
    for word in words {
        assert!(refused.contains(word), "{refused:?} lacks {word:?}");
    }
    assert!(!scene.out().exists() && !scene.mmproj().exists());
}

/// A golden checkpoint with another value in its configuration.
fn configured(name: &str, key: &str, value: Value) -> Scene {
    Scene::golden(name).json("config.json", |config| {
        let mut at = config;
        let mut keys = key.split('/').peekable();
        while let Some(key) = keys.next() {
            if keys.peek().is_some() {
                at = &mut at[key];
            } else {
                at[key] = value.clone();
            }
        }
    })
}

#[test]
fn folders_that_are_no_checkpoint() {
    let (out, options) = (Path::new("never.gguf"), ConvertOptions::default());
    let none = Path::new("no/such/folder");
    let error = convert(none, out, None, &options).unwrap_err().to_string();
    assert!(error.contains("no folder no/such/folder"), "{error}");
    let scene = Scene::golden("tied");
    let file = scene.folder().join("config.json");
    let error = convert(&file, out, None, &options).unwrap_err().to_string();
    assert!(error.contains("is a file"), "{error}");
    refused(&Scene::empty(), false, &["has no config.json"]);
    let without = |file: &str| Scene::golden("tied").without(file);
    refused(&without("config.json"), false, &["has no config.json"]);
    let bare = || without("model.safetensors");
    refused(&bare(), false, &["no model.safetensors", "no weights"]);
    let pickled = bare().file("pytorch_model.bin", "x");
    refused(&pickled, false, &["pytorch_model.bin", "safetensors first"]);
    let adapter = bare().file("adapter_model.safetensors", "x");
    refused(&adapter, false, &["PEFT adapter"]);
    let part = bare().file("model-00001-of-00002.safetensors", "x");
    refused(&part, false, &["model.safetensors.index.json"]);
    refused(
        &without("tokenizer.json"),
        false,
        &["tokenizer.model or tokenizer.json"],
    );
}

#[test]
fn outputs_that_make_no_sense() {
    let scene = Scene::golden("tied");
    refused(&scene, true, &["pure language model"]);
    let same = scene.out();
    let error = convert(
        &scene.folder(),
        &same,
        Some(&same),
        &ConvertOptions::default(),
    );
    assert!(error.unwrap_err().to_string().contains("give two names"));
    let error = scene.convert_with(&options(QuantType::Q4K), false);
    assert!(error.unwrap_err().to_string().contains("not Q4_K"));
    assert!(!scene.out().exists());
}

#[test]
fn settings_that_change_the_arithmetic() {
    let plain: [(&str, Value, &[&str]); 18] = [
        (
            "architectures",
            json!(["GPT2LMHeadModel"]),
            &["GPT2LMHeadModel"],
        ),
        (
            "architectures",
            json!(["MixtralForCausalLM"]),
            &["MixtralForCausalLM"],
        ),
        ("hidden_act", json!("gelu"), &["hidden_act", "gelu"]),
        ("quantization_config", json!({"bits": 4}), &["unquantized"]),
        (
            "rope_parameters/rope_type",
            json!("yarn"),
            &["rope_type", "yarn"],
        ),
        ("rope_parameters/factor", json!(0), &["factor = 0"]),
        ("rope_parameters/rope_type", json!(null), &["which scaling"]),
        (
            "rope_parameters/high_freq_factor",
            json!(1.0),
            &["high_freq_factor"],
        ),
        ("rope_parameters/rope_theta", json!(-1.0), &["rope_theta"]),
        (
            "rope_parameters",
            json!([]),
            &["rope_parameters", "an object"],
        ),
        (
            "partial_rotary_factor",
            json!(0.5),
            &["partial_rotary_factor"],
        ),
        ("hidden_size", json!(0), &["hidden_size is 0"]),
        ("hidden_size", json!(1u64 << 60), &["hidden_size"]),
        ("hidden_size", json!("16"), &["hidden_size", "a size"]),
        ("num_key_value_heads", json!(3), &["3 key/value heads"]),
        ("head_dim", json!(7), &["width 7"]),
        ("num_hidden_layers", json!(3), &["layers.2.", "missing"]),
        ("num_hidden_layers", json!(1), &["layers.1.", "no part"]),
    ];
    for (key, value, words) in plain {
        refused(&configured("tied", key, value), false, words);
    }
    let seeing: [(&str, Value, &[&str]); 9] = [
        ("text_config", json!(null), &["text_config"]),
        (
            "vision_config/model_type",
            json!("siglip_vision_model"),
            &["siglip"],
        ),
        ("vision_config/hidden_act", json!("silu"), &["hidden_act"]),
        ("vision_config/patch_size", json!(5), &["patches of 5"]),
        ("vision_config/num_attention_heads", json!(3), &["3 heads"]),
        ("vision_feature_layer", json!(-5), &["feature layer -5"]),
        (
            "vision_feature_layer",
            json!([-2, -1]),
            &["vision_feature_layer"],
        ),
        ("vision_feature_select_strategy", json!("full"), &["full"]),
        ("projector_hidden_act", json!("relu"), &["relu"]),
    ];
    for (key, value, words) in seeing {
        refused(&configured("llava", key, value), true, words);
    }
    let crop = |side| {
        Scene::golden("llava").json("preprocessor_config.json", |c| c["crop_size"] = json!(side))
    };
    refused(&crop(14), true, &["14 pixels", "sees 12"]);
}

#[test]
fn tensors_that_do_not_fit() {
    let llava = |change: fn(&mut std::collections::BTreeMap<String, scene::Stored>)| {
        Scene::golden("llava").tensors(change)
    };
    const Q: &str = "language_model.model.layers.0.self_attn.q_proj.weight";
    refused(
        &llava(|t| drop(t.remove(Q))),
        true,
        &["q_proj.weight is missing"],
    );
    let moved = llava(|t| {
        let q = t.remove(Q).unwrap();
        t.insert(Q.replace("weight", "scale"), q);
    });
    refused(&moved, true, &["q_proj.weight is missing"]);
    let more = |name: &'static str| {
        Scene::golden("llava").tensors(|t| {
            t.insert(name.into(), (Dtype::F16, vec![2], vec![0; 4]));
        })
    };
    let bias = "language_model.model.layers.0.self_attn.q_proj.bias";
    refused(&more(bias), true, &[bias, "is a bias"]);
    refused(
        &more("something.else"),
        true,
        &["something.else", "no part"],
    );
    refused(&more("model.image_newline"), true, &["image_newline"]);
    refused(
        &more("vision_tower.encoder.layers.3.x"),
        true,
        &["encoder.layers.3.x"],
    );
    refused(
        &more("model.norm.weight"),
        true,
        &["model.norm.weight", "the same part"],
    );
    let flat = llava(|t| t.get_mut(Q).unwrap().1 = vec![8, 32]);
    refused(&flat, true, &["q_proj.weight", "[8, 32]", "[16, 16]"]);
    let integers = llava(|t| t.get_mut(Q).unwrap().0 = Dtype::I16);
    refused(&integers, true, &["q_proj.weight", "I16"]);
    let nan = llava(|t| t.get_mut(Q).unwrap().2[..2].fill(0xff));
    refused(&nan, true, &["q_proj.weight", "NaN"]);
    let huge = llava(|t| {
        let q = t.get_mut(Q).unwrap();
        q.0 = Dtype::F32;
        q.2 = [1.0f32, -1e6]
            .repeat(128)
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
    });
    refused(&huge, true, &["q_proj.weight", "-1000000", "BF16"]);
    huge.convert(QuantType::BF16, true).unwrap();
    let old = Scene::golden("llava").tensors(|t| {
        let buffer = (Dtype::F32, vec![4], vec![0; 16]);
        let name = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq";
        t.insert(name.into(), buffer);
        let positions = (Dtype::I64, vec![1, 10], vec![0; 80]);
        t.insert("vision_tower.embeddings.position_ids".into(), positions);
    });
    old.convert(QuantType::F16, true).unwrap();
}

#[test]
fn weights_in_several_files_must_all_be_there() {
    const INDEX: &str = "model.safetensors.index.json";
    const PART: &str = "model-00002-of-00003.safetensors";
    refused(&Scene::golden("sharded").without(PART), false, &[PART]);
    let place = |place: Value| {
        let key = "model.norm.weight";
        Scene::golden("sharded").json(INDEX, |i| i["weight_map"][key] = place)
    };
    for outside in ["../x.safetensors", "/etc/passwd", "a\\b", "..", ""] {
        refused(
            &place(json!(outside)),
            false,
            &[INDEX, "not in a file of this folder"],
        );
    }
    refused(
        &place(json!(7)),
        false,
        &[INDEX, "not in a file of this folder"],
    );
    let promised = Scene::golden("sharded").json(INDEX, |i| i["weight_map"]["x"] = json!(PART));
    refused(&promised, false, &["promises tensor x"]);
    let empty = Scene::golden("sharded").file(INDEX, "{}");
    refused(&empty, false, &["weight_map is missing"]);
}

#[test]
fn damaged_files_are_named() {
    let weights = std::fs::read(scene::golden("tied/model.safetensors")).unwrap();
    for end in [0, 4, 8, 100, weights.len() - 1] {
        let cut = Scene::golden("tied").file("model.safetensors", &weights[..end]);
        refused(&cut, false, &["model.safetensors"]);
    }
    let mut header = weights.clone();
    header[..8].fill(0xff);
    refused(
        &Scene::golden("tied").file("model.safetensors", header),
        false,
        &["whole"],
    );
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        for content in [
            "",
            "{",
            "[]",
            "\u{0}",
            "{\"model\": 3, \"architectures\": 3}",
        ] {
            let scene = Scene::golden("tied").file(file, content);
            if file == "tokenizer_config.json" && content.starts_with("{\"") {
                continue; // nothing in it is read
            }
            refused(&scene, false, &[file]);
        }
    }
    let deep = "[".repeat(100_000);
    refused(
        &Scene::golden("tied").file("config.json", deep),
        false,
        &["config.json"],
    );
    let pieces = std::fs::read(scene::golden("sharded/tokenizer.model")).unwrap();
    for end in [1, 7, 1000, pieces.len() - 1] {
        let cut = Scene::golden("sharded").file("tokenizer.model", &pieces[..end]);
        refused(&cut, false, &["tokenizer.model"]);
    }
    let text = Scene::golden("sharded").file("tokenizer.model", "IQ== 0\nIg== 1\n");
    refused(&text, false, &["tokenizer.model"]);
}

#[test]
fn vocabularies_that_gguf_cannot_express() {
    let changed =
        |name: &str, change: fn(&mut Value)| Scene::golden(name).json("tokenizer.json", change);
    let bytes = |change| changed("tied", change);
    refused(
        &bytes(|t| t["model"]["type"] = json!("Unigram")),
        false,
        &["Unigram"],
    );
    refused(
        &bytes(|t| t["model"]["ignore_merges"] = json!(false)),
        false,
        &["pre_tokenizer"],
    );
    let pattern = bytes(|t| {
        t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("\\w+");
    });
    refused(&pattern, false, &["pre_tokenizer", "llama-bpe"]);
    refused(
        &bytes(|t| t["normalizer"] = json!({"type": "Lowercase"})),
        false,
        &["normalizer"],
    );
    refused(
        &bytes(|t| t["model"]["vocab"]["new"] = json!(7)),
        false,
        &["both token 7"],
    );
    refused(
        &bytes(|t| t["model"]["vocab"]["new"] = json!(292)),
        false,
        &["292 rows"],
    );
    refused(
        &bytes(|t| t["model"]["vocab"]["new"] = json!(-1)),
        false,
        &["no number"],
    );
    refused(
        &bytes(|t| t["model"]["merges"][0] = json!("ab")),
        false,
        &["merge 0"],
    );
    refused(
        &bytes(|t| t["model"]["merges"][0] = json!(["zz", "a"])),
        false,
        &["merges"],
    );
    refused(
        &bytes(|t| t["added_tokens"][0] = json!({})),
        false,
        &["added token"],
    );
    let pieces = |change| changed("llava", change);
    // The token it makes is still there, and GGUF's readers would go on making it.
    let fewer = pieces(|t| drop(t["model"]["merges"].as_array_mut().unwrap().remove(0)));
    refused(&fewer, false, &["follow from no scores"]);
    let few = configured("sharded", "vocab_size", json!(280));
    refused(&few, false, &["embed_tokens.weight"]);
}

#[test]
fn no_changed_byte_makes_the_converter_panic() {
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below
    };
    for (name, file, beginning) in [
        ("tied", "config.json", usize::MAX),
        ("tied", "tokenizer.json", usize::MAX),
        ("tied", "model.safetensors", 2000),
        ("sharded", "tokenizer.model", usize::MAX),
        ("sharded", "model.safetensors.index.json", usize::MAX),
        ("llava", "config.json", usize::MAX),
    ] {
        let scene = Scene::golden(name);
        let whole = std::fs::read(scene.folder().join(file)).unwrap();
        let mut answers = [0, 0];
        for _ in 0..60 {
            let mut changed = whole.clone();
            for _ in 0..=next(3) {
                let at = next(whole.len().min(beginning));
                changed[at] = [b'0', b'9', b'"', b'-', 0, 0xff, next(256) as u8][next(7)];
            }
            std::fs::write(scene.folder().join(file), changed).unwrap();
            let converted = scene.convert(QuantType::F16, name == "llava").is_ok();
            answers[usize::from(converted)] += 1;
        }
        println!("{file} of {name}: {answers:?} refused and converted");
        assert!(answers[0] > 0, "{file} of {name} is not even read");
    }
}
