//! Converted checkpoints answer as transformers does with the originals.

#[path = "../model/closeness.rs"]
mod closeness;
mod scene;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use closeness::relative_error;
use graft::convert_hf::ConvertOptions;
use graft::gguf::Gguf;
use graft::kv_cache::{KvCache, MadeBy};
use graft::memory::Arena;
use graft::model::{Inference, Model, ModelOptions, ProjectorSaved, Unadapted, VisionWork, Widest};
use graft::tokenizer::TokenKind;
use graft_kernels::QuantType;
use safetensors::{Dtype, SafeTensors};
use scene::{Scene, Stored, golden, options};
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["sharded", "tied", "llava"];

/// What transformers answered.
fn expected(name: &str) -> HashMap<String, Vec<f32>> {
    let bytes = std::fs::read(golden(&format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |data: &[u8], integers: bool| -> Vec<f32> {
        let words = data.chunks_exact(4).map(|b| b.try_into().unwrap());
        if integers {
            words.map(|b| i32::from_le_bytes(b) as f32).collect()
        } else {
            words.map(f32::from_le_bytes).collect()
        }
    };
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, t)| (name, words(t.data(), t.dtype() == Dtype::I32)))
        .collect()
}

fn open(scene: &Scene, sees: bool) -> Arc<Model> {
    let options = ModelOptions {
        mmproj: sees.then(|| scene.mmproj()),
        threads: 2,
        ..ModelOptions::default()
    };
    Model::open(&scene.out(), &options).unwrap()
}

/// Embeddings `[T, W]` of tokens.
fn embed(model: &Model, tokens: &[f32]) -> Vec<f32> {
    let tokens: Vec<u32> = tokens.iter().map(|&t| t as u32).collect();
    let mut rows = vec![0.0; tokens.len() * model.llama().shape().width];
    model.llama().embed(&mut rows, &tokens).unwrap();
    rows
}

/// Logits `[T, V]` of a sequence of embeddings `[T, W]`.
fn logits(model: &Model, mut rows: Vec<f32>) -> Vec<f32> {
    let llama = model.llama();
    let shape = llama.shape();
    let tokens = rows.len() / shape.width;
    let mut kv = KvCache::new(shape, tokens).unwrap();
    let mut inference = Inference::new(llama, 64, tokens).unwrap();
    llama
        .forward(&mut rows, &mut kv, &Unadapted, MadeBy::BASE, &mut inference)
        .unwrap();
    let mut normed = vec![0.0; rows.len()];
    llama.final_norm(&mut normed, &mut vec![0.0; tokens], &rows);
    let mut logits = vec![0.0; tokens * shape.vocabulary];
    inference
        .logits(llama, &mut logits, &normed, &Unadapted)
        .unwrap();
    logits
}

#[test]
fn logits_agree_with_transformers() {
    for name in NAMES {
        let expected = expected(name);
        for (quant_type, tolerance) in [
            (QuantType::F32, 1e-5),
            (QuantType::F16, 3e-3),
            (QuantType::BF16, 3e-2),
        ] {
            let scene = Scene::golden(name);
            scene.convert(quant_type, false).unwrap();
            let model = open(&scene, false);
            let got = logits(&model, embed(&model, &expected["tokens"]));
            let error = relative_error(&got, &expected["logits"]);
            println!("{name} {quant_type}: {error:.1e}");
            assert!(error < tolerance, "{name} {quant_type}: {error:e}");
        }
    }
}

#[test]
fn a_type_that_holds_the_weights_exactly_gives_the_same_logits() {
    for (name, quant_type) in [("tied", QuantType::BF16), ("llava", QuantType::F16)] {
        let scene = Scene::golden(name);
        scene.convert(quant_type, false).unwrap();
        let model = open(&scene, false);
        let expected = expected(name);
        let got = logits(&model, embed(&model, &expected["tokens"]));
        let error = relative_error(&got, &expected["logits"]);
        assert!(error < 1e-4, "{name} {quant_type}: {error:e}");
    }
}

#[test]
fn images_are_seen_as_transformers_sees_them() {
    let scene = Scene::golden("llava");
    let converted = scene.convert(QuantType::F32, true).unwrap();
    assert_eq!(converted.mmproj.unwrap().path, scene.mmproj());
    check_sight(&scene);
}

/// Features, projected rows and the logits behind them.
fn check_sight(scene: &Scene) {
    let expected = expected("llava");
    let model = open(scene, true);
    let vision = model.vision().unwrap();
    assert_eq!(vision.preprocessing().mean, [0.5, 0.4, 0.3]);
    assert_eq!(vision.preprocessing().std, [0.3, 0.25, 0.2]);
    let shape = vision.tower().shape();
    let mut features = vec![0.0; shape.patches() * shape.width];
    let mut rows = vec![0.0; shape.patches() * model.llama().shape().width];
    model.llama().pool().run(|| {
        let mut work = VisionWork::new(vision.tower(), &Arena::unlimited()).unwrap();
        vision
            .tower()
            .features(&mut features, &expected["pixels"], &mut work);
        let mut saved = ProjectorSaved::new(
            shape.patches(),
            model.llama().shape().width,
            Widest::default(),
            &Arena::unlimited(),
        )
        .unwrap();
        vision.projector().forward(&mut rows, &features, &mut saved);
    });
    let mut sequence = embed(&model, &[1.0]);
    sequence.extend(&rows);
    sequence.extend(embed(&model, &expected["tokens"][..2]));
    for (what, got) in [
        ("features", &features),
        ("rows", &rows),
        ("image_logits", &logits(&model, sequence)),
    ] {
        let error = relative_error(got, &expected[what]);
        println!("{what}: {error:.1e}");
        assert!(error < 1e-5, "{what}: {error:e}");
    }
}

#[test]
fn texts_become_the_tokens_of_the_vocabularys_own_library() {
    for name in NAMES {
        let scene = Scene::golden(name);
        scene.convert(QuantType::F16, false).unwrap();
        let model = open(&scene, false);
        let tokenizer = model.tokenizer().unwrap();
        let texts = std::fs::read(golden(&format!("{name}.json"))).unwrap();
        let texts: Vec<(String, Vec<u32>)> = serde_json::from_slice(&texts).unwrap();
        for (text, ids) in texts {
            assert_eq!(
                tokenizer.encode(&text, false, false).unwrap(),
                ids,
                "{name} {text:?}"
            );
            assert_eq!(tokenizer.decode(&ids), text, "{name}");
        }
    }
}

#[test]
fn special_tokens_added_tokens_and_padding_have_their_roles() {
    let scene = Scene::golden("sharded");
    let notes = scene.convert(QuantType::F16, false).unwrap().notes;
    assert!(notes.iter().any(|n| n.starts_with("4 rows")), "{notes:?}");
    let model = open(&scene, false);
    let t = model.tokenizer().unwrap();
    assert_eq!((t.bos(), t.eos(), t.adds_bos()), (Some(1), Some(2), true));
    for (id, text, kind) in [
        (0, "<unk>", TokenKind::Unknown),
        (1, "<s>", TokenKind::Control),
        (3, "<0x00>", TokenKind::Byte),
        (289, t.token_text(289).unwrap(), TokenKind::Normal),
        (290, "<tag>", TokenKind::UserDefined),
        (291, "<pad>", TokenKind::Control),
        (295, "[PAD295]", TokenKind::Unused),
    ] {
        assert_eq!(
            (t.token_text(id), t.token_kind(id)),
            (Some(text), Some(kind))
        );
    }
    let metadata = model.gguf().metadata();
    assert_eq!(
        metadata.u32("tokenizer.ggml.padding_token_id").unwrap(),
        291
    );

    let scene = Scene::golden("tied");
    scene.convert(QuantType::F16, false).unwrap();
    let model = open(&scene, false);
    let t = model.tokenizer().unwrap();
    assert_eq!(
        (t.bos(), t.eos(), t.adds_bos()),
        (Some(288), Some(289), true)
    );
    assert_eq!(t.token_kind(291), Some(TokenKind::UserDefined));
    assert!(t.is_end(290), "the end of a turn");
    let metadata = model.gguf().metadata();
    assert_eq!(metadata.str("tokenizer.ggml.pre").unwrap(), "llama-bpe");
    let template = metadata.str("tokenizer.chat_template").unwrap();
    assert!(template.starts_with("{{ bos_token }}"));

    let scene = Scene::golden("llava");
    let notes = scene.convert(QuantType::F16, false).unwrap().notes;
    let model = open(&scene, false);
    let t = model.tokenizer().unwrap();
    assert_eq!(t.token_kind(0), Some(TokenKind::Unknown));
    assert_eq!(t.special("<image>"), Some(290));
    assert!(t.adds_bos(), "as its post-processor does");
    // Its template wants messages in parts; used as it is, it would drop what people say.
    assert!(
        model
            .gguf()
            .metadata()
            .get("tokenizer.chat_template")
            .is_none()
    );
    assert!(
        notes
            .iter()
            .any(|n| n.contains("chat template was left out"))
    );
}

#[test]
fn every_generation_of_tensor_names_gives_the_same_files() {
    let newest = Scene::golden("llava");
    newest.convert(QuantType::F16, true).unwrap();
    let files =
        |scene: &Scene| [scene.out(), scene.mmproj()].map(|path| std::fs::read(path).unwrap());
    let hub = |name: &str| match name.strip_prefix("vision_tower.") {
        Some(rest) => format!("vision_tower.vision_model.{rest}"),
        None => name.to_owned(),
    };
    let memory = |name: &str| match name.strip_prefix("language_model.") {
        Some("lm_head.weight") => "lm_head.weight".to_owned(),
        Some(rest) => format!("model.language_model.{}", &rest["model.".len()..]),
        None => format!("model.{name}"),
    };
    for scene in [
        Scene::golden("llava").renamed(hub),
        Scene::golden("llava").renamed(memory),
        Scene::golden("llava").renamed(|name| memory(&hub(name))),
    ] {
        scene.convert(QuantType::F16, true).unwrap();
        assert!(files(&scene) == files(&newest));
    }
}

/// The same model as the original LLaVA code saves it.
fn original() -> Scene {
    let name = |name: &str| {
        let projector = [
            "multi_modal_projector.linear_1",
            "multi_modal_projector.linear_2",
        ];
        let tower = "model.vision_tower.vision_tower.vision_model";
        match name.strip_prefix("language_model.") {
            Some(rest) => rest.to_owned(),
            None => name
                .replace(projector[0], "model.mm_projector.0")
                .replace(projector[1], "model.mm_projector.2")
                .replace("vision_tower", tower),
        }
    };
    Scene::golden("llava")
        .renamed(name)
        .json("config.json", |config| {
            let mut flat = config["text_config"].take();
            flat["architectures"] = json!(["LlavaLlamaForCausalLM"]);
            flat["model_type"] = json!("llava_llama");
            flat["mm_vision_tower"] = json!("openai/clip-vit-large-patch14-336");
            flat["mm_projector_type"] = json!("mlp2x_gelu");
            flat["mm_vision_select_layer"] = json!(-2);
            flat["mm_vision_select_feature"] = json!("patch");
            flat["image_aspect_ratio"] = json!("pad");
            *config = flat;
        })
}

/// The vision tower of the golden LLaVA as a CLIP model of its own.
fn clip() -> Scene {
    let config = std::fs::read(golden("llava/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    Scene::golden("llava")
        .tensors(|tensors| {
            let old = std::mem::take(tensors);
            for (name, t) in old {
                if let Some(rest) = name.strip_prefix("vision_tower.") {
                    tensors.insert(format!("vision_model.{rest}"), t.clone());
                    tensors.insert(format!("text_model.{rest}"), t);
                }
            }
        })
        .file(
            "config.json",
            json!({"model_type": "clip", "vision_config": config["vision_config"]}).to_string(),
        )
}

#[test]
fn the_original_layout_takes_its_tower_from_the_folder_named() {
    let (scene, clip) = (original(), clip());
    let scene = scene.tensors(|tensors| tensors.retain(|name, _| !name.contains("vision_tower")));
    let refused = scene.convert(QuantType::F32, true).unwrap_err().to_string();
    assert!(
        refused.contains("openai/clip-vit-large-patch14-336"),
        "{refused}"
    );
    let tower = clip.folder();
    let options = ConvertOptions {
        vision_tower: Some(&tower),
        ..options(QuantType::F32)
    };
    scene.convert_with(&options, true).unwrap();
    check_sight(&scene);
}

/// A tower of zeros with a head of 64 floats: all that a checkpoint without its configuration says.
fn tower_of_zeros(tensors: &mut BTreeMap<String, Stored>) {
    let mut add = |name: &str, shape: &[usize]| {
        let bytes = vec![0; 2 * shape.iter().product::<usize>()];
        let tensor = (Dtype::F16, shape.to_vec(), bytes);
        tensors.insert(
            format!("model.vision_tower.vision_tower.vision_model.{name}"),
            tensor,
        );
    };
    let (w, f) = (64, 8);
    add("embeddings.class_embedding", &[w]);
    add("embeddings.patch_embedding.weight", &[w, 3, 2, 2]);
    add("embeddings.position_embedding.weight", &[10, w]);
    add("embeddings.position_ids", &[1, 10]);
    for norm in ["pre_layrnorm", "post_layernorm"] {
        for leaf in ["weight", "bias"] {
            add(&format!("{norm}.{leaf}"), &[w]);
        }
    }
    for layer in 0..3 {
        let layer = |rest: &str| format!("encoder.layers.{layer}.{rest}");
        for norm in ["layer_norm1", "layer_norm2"] {
            for leaf in ["weight", "bias"] {
                add(&layer(&format!("{norm}.{leaf}")), &[w]);
            }
        }
        for linear in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            add(&layer(&format!("self_attn.{linear}.weight")), &[w, w]);
            add(&layer(&format!("self_attn.{linear}.bias")), &[w]);
        }
        for (linear, shape) in [("fc1", [f, w]), ("fc2", [w, f])] {
            add(&layer(&format!("mlp.{linear}.weight")), &shape);
            add(&layer(&format!("mlp.{linear}.bias")), &shape[..1]);
        }
    }
}

#[test]
fn the_original_layout_with_its_tower_inside_is_read_too() {
    let scene = original()
        .without("preprocessor_config.json")
        .tensors(|tensors| {
            tensors.retain(|name, _| !name.contains("vision_tower"));
            tower_of_zeros(tensors);
            let projector = (Dtype::F16, vec![16, 64], vec![0; 2 * 16 * 64]);
            tensors.insert("model.mm_projector.0.weight".into(), projector);
        });
    scene.convert(QuantType::F16, true).unwrap();
    let gguf = Gguf::open(&scene.mmproj()).unwrap();
    let size = |key: &str| gguf.metadata().u32(&format!("clip.vision.{key}")).unwrap();
    assert_eq!((size("image_size"), size("patch_size")), (6, 2));
    assert_eq!(
        (size("attention.head_count"), size("feed_forward_length")),
        (1, 8)
    );
    assert_eq!(size("block_count"), 2);
    let mean = gguf.metadata().f32_array("clip.vision.image_mean").unwrap();
    assert_eq!(mean, [0.48145466, 0.4578275, 0.40821073]);
    open(&scene, true);
}

#[test]
fn only_the_blocks_in_front_of_the_features_are_stored() {
    for (layer, blocks) in [
        (json!(-2), 2),
        (json!(-1), 3),
        (json!(1), 1),
        (json!([-3]), 1),
    ] {
        let scene = Scene::golden("llava").json("config.json", |c| {
            c["vision_feature_layer"] = layer.clone();
        });
        scene.convert(QuantType::F16, true).unwrap();
        let gguf = Gguf::open(&scene.mmproj()).unwrap();
        let metadata = gguf.metadata();
        assert_eq!(
            metadata.u32("clip.vision.block_count").unwrap(),
            blocks,
            "{layer}"
        );
        let layers = metadata.i32_array("clip.vision.feature_layer").unwrap();
        assert_eq!(layers, [blocks as i32]);
        let name = |block| format!("v.blk.{block}.ln1.weight");
        assert!(gguf.tensor(&name(blocks - 1)).is_some());
        assert!(gguf.tensor(&name(blocks)).is_none());
        assert!(gguf.tensor("v.post_ln.weight").is_none());
        open(&scene, true);
    }
}

#[test]
fn progress_reaches_its_end_and_a_raised_flag_leaves_nothing() {
    let scene = Scene::golden("llava");
    let seen = std::cell::RefCell::new(Vec::new());
    let progress =
        |p: graft::convert_hf::Progress<'_>| seen.borrow_mut().push((p.written, p.total));
    let mut options = ConvertOptions {
        progress: Some(&progress),
        ..ConvertOptions::default()
    };
    let converted = scene.convert_with(&options, true).unwrap();
    let bytes = converted.model.bytes + converted.mmproj.unwrap().bytes;
    assert_eq!(seen.borrow().last(), Some(&(bytes, bytes)));
    assert!(seen.borrow().is_sorted());

    let scene = Scene::golden("llava");
    let cancel = options.cancel.clone();
    // Raised while the second file is written: the first must not appear either.
    let late = |p: graft::convert_hf::Progress<'_>| {
        if p.tensor.starts_with("mm.") {
            cancel.raise();
        }
    };
    options.progress = Some(&late);
    let refused = scene.convert_with(&options, true).unwrap_err();
    assert!(matches!(refused, graft::Error::Cancelled));
    assert!(!scene.out().exists() && !scene.mmproj().exists());
}

#[test]
fn a_window_shortens_the_context_instead_of_changing_answers() {
    let scene = Scene::golden("tied").json("config.json", |c| {
        c["architectures"] = json!(["MistralForCausalLM"]);
        c["model_type"] = json!("mistral");
        c["sliding_window"] = json!(32);
    });
    let notes = scene.convert(QuantType::F16, false).unwrap().notes;
    assert!(notes.iter().any(|n| n.contains("32 tokens")), "{notes:?}");
    assert_eq!(open(&scene, false).llama().shape().context_length, 32);
}
