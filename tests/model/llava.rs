//! The vision half agrees with transformers at every stage, from an image's pixels to the logits of
//! a prompt that shows it, and however the mmproj file spells the same tower.

mod closeness;
mod edited;
mod formula;
mod golden;

use std::sync::Arc;

use closeness::relative_error;
use edited::Edited;
use formula::{IMAGES, formula_image};
use golden::{Golden, folder};
use graft::gguf::{Array, Value};
use graft::memory::Arena;
use graft::model::{Model, ModelOptions, ProjectorSaved, VisionStage, VisionWork, Widest};
use graft::session::{Item, Session, SessionOptions};
use graft::tokenizer::IMAGE;
use graft_kernels::{QuantType, blocks};

/// The model of the golden files, with its own mmproj file or a changed one.
fn open(change: impl FnOnce(&mut Edited, &Golden)) -> graft::Result<Arc<Model>> {
    let mut edited = Edited::read(&folder("llava").join("mmproj.gguf"));
    change(&mut edited, &golden());
    let changed = tempfile::tempdir().unwrap();
    let mmproj = changed.path().join("mmproj.gguf");
    edited.write(&mmproj);
    let options = ModelOptions {
        mmproj: Some(mmproj),
        threads: 2,
        ..ModelOptions::default()
    };
    Model::open(&folder("llava").join("text.gguf"), &options)
}

fn golden() -> Golden {
    Golden::open(&folder("llava").join("stages.safetensors"))
}

/// Features of the first formula image, `[P, Wv]`.
fn features(model: &Model) -> Vec<f32> {
    let vision = model.vision().unwrap();
    let mut work = VisionWork::new(vision.tower(), &Arena::unlimited()).unwrap();
    let image = formula_image(IMAGES[0]);
    let pool = model.llama().pool();
    pool.run(|| vision.features(&image, &mut work))
}

#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    let error = relative_error(got, want);
    println!("{what}: {error:.1e}");
    assert!(error < 1e-5, "{what}: {error:e}");
}

#[test]
fn every_stage_agrees_with_transformers() {
    let (model, golden) = (open(|_, _| {}).unwrap(), golden());
    let vision = model.vision().unwrap();
    let shape = vision.tower().shape();
    let image = formula_image(IMAGES[0]);
    let mut pixels = vec![0.0; 3 * shape.image_size * shape.image_size];
    vision.preprocessing().pixels(&mut pixels, &image);
    assert_close("pixels", &pixels, golden.get("pixels"));

    let mut stages = vec![];
    let mut watch = |stage: VisionStage, stream: &[f32]| stages.push((stage, stream.to_vec()));
    let mut features = vec![0.0; shape.patches() * shape.width];
    let mut work = VisionWork::new(vision.tower(), &Arena::unlimited()).unwrap();
    model.llama().pool().run(|| {
        let tower = vision.tower();
        tower.features_watched(&mut features, &pixels, &mut work, &mut watch);
    });
    assert_eq!(stages.len(), 5, "the last of four blocks does not run");
    for (stage, stream) in &stages {
        let name = match stage {
            VisionStage::Embedded => "embedded".to_owned(),
            VisionStage::Normed => "normed".to_owned(),
            VisionStage::Block(i) => format!("block.{i}"),
        };
        assert_close(&name, stream, golden.get(&name));
    }
    assert_close("features", &features, golden.get("features"));
    let rows = model.image_rows(&image).unwrap();
    assert_close("projected", &rows, golden.get("projected"));
    // In training it runs from its f32 copy, by other kernels.
    let projector = vision.projector().parameters();
    let exact = Widest::default();
    let mut saved = ProjectorSaved::new(shape.patches(), 32, exact, &Arena::unlimited()).unwrap();
    let mut copy = vec![0.0; rows.len()];
    projector.forward(&mut copy, &features, &mut saved);
    assert_close("projected in f32", &copy, golden.get("projected"));

    // The session gives the logits of its last position: all of them, one prefix after another.
    let mut items: Vec<Item> = vec![];
    let mut session = Session::new(Arc::clone(&model), &SessionOptions::default()).unwrap();
    let vocabulary = model.llama().shape().vocabulary;
    let mut want = golden.get("logits").chunks_exact(vocabulary);
    for &id in golden.get("ids") {
        let (item, skipped) = match id as i32 {
            IMAGE => (Item::Rows(Arc::clone(&rows)), shape.patches() - 1),
            id => (Item::Token(id as u32), 0),
        };
        items.push(item.clone());
        session.feed_items(vec![item]).unwrap();
        let want = want.nth(skipped).unwrap();
        assert_close("logits", session.logits().unwrap(), want);
        let mut at_once = Session::new(Arc::clone(&model), &SessionOptions::default()).unwrap();
        at_once.feed_items(items.clone()).unwrap();
        assert_close("logits at once", at_once.logits().unwrap(), want);
    }
    assert!(want.next().is_none());
}

/// Stores the block that the golden file leaves out, and says that there are so many blocks, each
/// being one of the four again.
fn store_blocks(edited: &mut Edited, golden: &Golden, count: usize) {
    const SHAPES: [(&str, &[usize]); 8] = [
        ("attn_q", &[32, 32]),
        ("attn_k", &[32, 32]),
        ("attn_v", &[32, 32]),
        ("attn_out", &[32, 32]),
        ("ln1", &[32]),
        ("ln2", &[32]),
        ("ffn_up", &[32, 80]),
        ("ffn_down", &[80, 32]),
    ];
    for (name, shape) in SHAPES {
        for (leaf, shape) in [("weight", shape), ("bias", &shape[shape.len() - 1..])] {
            let values = golden.get(&format!("last_block.{name}.{leaf}"));
            edited.add(&format!("v.blk.3.{name}.{leaf}"), shape, values);
        }
    }
    let four = edited.tensors.clone();
    edited
        .tensors
        .retain(|(t, _)| !t.name.starts_with("v.blk."));
    for block in 0..count {
        let prefix = format!("v.blk.{}.", block % 4);
        for (declaration, data) in &four {
            let Some(rest) = declaration.name.strip_prefix(&prefix) else {
                continue;
            };
            let mut again = declaration.clone();
            again.name = format!("v.blk.{block}.{rest}");
            edited.tensors.push((again, data.clone()));
        }
    }
    let key = "clip.vision.block_count";
    edited.metadata.insert(key, Value::U32(count as u32));
}

fn add_post_norm(edited: &mut Edited) {
    edited.add("v.post_ln.weight", &[32], &[3.0; 32]);
    edited.add("v.post_ln.bias", &[32], &[1.0; 32]);
}

fn feature_layer(edited: &mut Edited, layers: &[i32]) {
    let value = Value::Array(Array::I32(layers.to_vec()));
    edited.metadata.insert("clip.vision.feature_layer", value);
}

#[test]
fn the_feature_layer_is_the_last_but_one_however_many_blocks_are_stored() {
    let agrees = |what: &str, want: &str, change: &dyn Fn(&mut Edited, &Golden)| {
        let model = open(change).unwrap();
        assert_close(what, &features(&model), golden().get(want));
    };
    agrees("all 4 and the norm", "features", &|file, golden| {
        store_blocks(file, golden, 4);
        add_post_norm(file);
    });
    agrees("4 blocks, layer 3 named", "features", &|file, golden| {
        store_blocks(file, golden, 4);
        feature_layer(file, &[3]);
    });
    agrees("3 blocks, layer 3 named", "features", &|file, _| {
        feature_layer(file, &[3]);
    });
    // CLIP-L has 24: a file without the last holds 23, and some writers also dropped another.
    agrees("24 blocks", "cycled.23", &|file, golden| {
        store_blocks(file, golden, 24);
    });
    agrees("24 blocks and the norm", "cycled.23", &|file, golden| {
        store_blocks(file, golden, 24);
        add_post_norm(file);
    });
    agrees("23 blocks", "cycled.23", &|file, golden| {
        store_blocks(file, golden, 23);
    });
    agrees("22 blocks", "cycled.22", &|file, golden| {
        store_blocks(file, golden, 22);
    });
    agrees("22 blocks and the norm", "cycled.21", &|file, golden| {
        store_blocks(file, golden, 22);
        add_post_norm(file);
    });
    agrees("the last of 24, named", "cycled.24", &|file, golden| {
        store_blocks(file, golden, 24);
        feature_layer(file, &[24]);
    });
}

#[test]
fn files_of_every_year_hold_the_same_tower() {
    let want = features(&open(|_, _| {}).unwrap());
    let same = |change: &dyn Fn(&mut Edited)| {
        let model = open(|file, _| change(file)).unwrap();
        let image = formula_image(IMAGES[0]);
        (
            features(&model) == want,
            model.image_rows(&image).unwrap().len(),
        )
    };
    let rename = |file: &mut Edited, names: &dyn Fn(&str) -> String| {
        for (declaration, _) in &mut file.tensors {
            declaration.name = names(&declaration.name);
        }
    };
    // 2023: 18 keys, the projector unnamed.
    let of_2023 = |file: &mut Edited| {
        file.metadata.remove("clip.projector_type").unwrap();
        assert_eq!(file.metadata.len(), 18);
    };
    assert_eq!(same(&of_2023), (true, 25 * 32));
    // Their first feed-forward layer is called "down" and the second "up".
    let swapped = |file: &mut Edited| {
        rename(file, &|name| match name {
            _ if name.contains("ffn_up") => name.replace("ffn_up", "ffn_down"),
            _ => name.replace("ffn_down", "ffn_up"),
        });
    };
    assert_eq!(same(&swapped), (true, 25 * 32));
    assert_eq!(
        same(&|file| {
            swapped(file);
            of_2023(file);
        }),
        (true, 25 * 32)
    );
    // Today's converter: the kind of file, the model's width as projection, F32 matrices.
    let today = |file: &mut Edited| {
        let kind = Value::String("mmproj".into());
        file.metadata.insert("general.type", kind);
        let key = "clip.vision.projection_dim";
        file.metadata.insert(key, Value::U32(32));
        for (declaration, data) in &mut file.tensors {
            if declaration.quant_type == QuantType::F16 {
                let mut values = vec![0.0; declaration.shape.iter().product()];
                blocks::decode(QuantType::F16, data, &mut values);
                *data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                declaration.quant_type = QuantType::F32;
            }
        }
    };
    let (_, rows) = same(&today);
    assert_eq!(rows, 25 * 32);
    let f32_file = features(&open(|file, _| today(file)).unwrap());
    assert_close("F32 matrices", &f32_file, &want);
}

#[test]
fn vision_files_that_graft_does_not_run_are_refused_with_the_reason() {
    let refusal = |change: &dyn Fn(&mut Edited)| {
        let opened = open(|file, _| change(file));
        opened.err().map(|e| e.to_string()).unwrap_or_default()
    };
    let says = |change: &dyn Fn(&mut Edited), parts: &[&str]| {
        let said = refusal(change);
        for part in parts {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
    };
    let set = |key: &'static str, value: Value| {
        move |file: &mut Edited| {
            file.metadata.insert(key, value.clone());
        }
    };
    let text = |text: &str| Value::String(text.into());
    says(
        &set("general.architecture", text("llama")),
        &["llama", "clip", "is it a language model?"],
    );
    for key in ["clip.projector_type", "clip.vision.projector_type"] {
        says(&set(key, text("ldp")), &[key, "ldp"]);
    }
    says(
        &set("clip.vision.image_size", Value::U32(31)),
        &["31", "patch size 6"],
    );
    says(
        &set("clip.vision.image_size", Value::U32(36)),
        &["v.position_embd.weight"],
    );
    says(
        &set("clip.vision.patch_size", Value::U32(0)),
        &["patch size 0"],
    );
    says(
        &set("clip.vision.attention.head_count", Value::U32(3)),
        &["3 heads"],
    );
    says(
        &set("clip.vision.embedding_length", Value::U32(u32::MAX - 1)),
        &["absurd"],
    );
    says(
        &set("clip.vision.block_count", Value::U32(4)),
        &["v.blk.3.", "missing"],
    );
    says(
        &set("clip.vision.block_count", Value::U32(u32::MAX)),
        &["v.blk.3.", "missing"],
    );
    says(
        &set("clip.vision.attention.layer_norm_epsilon", Value::F32(-1.0)),
        &["epsilon"],
    );
    says(&set("clip.use_silu", Value::Bool(true)), &["clip.use_silu"]);
    says(
        &|file| feature_layer(file, &[4]),
        &["clip.vision.feature_layer", "3 blocks"],
    );
    says(
        &|file| feature_layer(file, &[1, 2]),
        &["clip.vision.feature_layer", "[1, 2]"],
    );
    let channels = |values: &[f32]| Value::Array(Array::F32(values.to_vec()));
    says(
        &set("clip.vision.image_std", channels(&[1.0, 0.0, 1.0])),
        &["image_std"],
    );
    says(
        &set("clip.vision.image_mean", channels(&[1.0])),
        &["image_mean"],
    );
    says(
        &|file| file.tensors.retain(|(t, _)| t.name != "v.pre_ln.bias"),
        &["v.pre_ln.bias", "missing"],
    );
    says(
        &|file| file.tensor("mm.2.bias").0.shape = vec![16, 2],
        &["mm.2.bias"],
    );
    says(
        &|file| file.add("mm.3.weight", &[32], &[0.0; 32]),
        &["an mlp with norms"],
    );
    // A projector for another language model.
    let other = |file: &mut Edited| {
        let weight = file.tensor("mm.2.weight");
        weight.0.shape = vec![64, 16];
    };
    says(&other, &["16", "32"]);
}
