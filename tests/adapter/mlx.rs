//! Folders of mlx-lm: models adapted by them answer as in mlx-lm, and what graft cannot do is refused
//! by name.

mod answers;
#[path = "../model/closeness.rs"]
mod closeness;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use answers::{golden, logits, open};
use closeness::relative_error;
use graft::adapter::{Adapter, Attached, Publish, Registry, folder};
use graft::model::{Model, Site};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapters.safetensors";

fn base() -> Arc<Model> {
    open(&golden().join("llama/grouped_heads.gguf"))
}

fn place(name: &str) -> PathBuf {
    golden().join("mlx").join(name)
}

fn words<T>(file: &SafeTensors<'_>, name: &str, word: impl Fn([u8; 4]) -> T) -> Vec<T> {
    let data = file.tensor(name).unwrap().data().to_vec();
    data.as_chunks().0.iter().map(|&b| word(b)).collect()
}

#[test]
fn models_adapted_by_a_folder_answer_as_in_mlx() {
    let model = base();
    let bytes = fs::read(place("logits.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tokens = words(&file, "tokens", u32::from_le_bytes);
    for (name, pairs) in [("plain", 14), ("keyed", 3)] {
        let expected = words(&file, name, f32::from_le_bytes);
        let adapter = Adapter::open(&place(name), &model).unwrap();
        assert_eq!(adapter.iter().count(), pairs);
        assert_eq!(adapter.base().name.as_deref(), Some("somewhere/base"));
        let attached = Attached::new([(adapter, 1.0)]);
        let error = relative_error(&logits(&model, &attached, &tokens), &expected);
        let without = relative_error(&logits(&model, &Attached::default(), &tokens), &expected);
        println!("{name}: {error:.1e}, without it {without:.1e}");
        assert!(error < 1e-5, "{name}: {error:e}");
        assert!(without > 1e-2, "{name} changes little: {without:e}");
    }
}

#[test]
fn a_registry_loads_such_a_folder() {
    let registry = Registry::new(base(), 1 << 20);
    registry
        .load("a", &place("plain"), Publish::Create)
        .unwrap();
    let lease = registry.lease("a").unwrap();
    assert_eq!(lease.adapter.name(), "plain");
}

type Arrays = HashMap<String, (Vec<usize>, Vec<u8>)>;

/// A copy of the plain folder with its configuration and its tensors changed.
fn changed(config: impl Fn(&mut Value), tensors: impl Fn(&mut Arrays)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let text = fs::read(place("plain").join(CONFIG)).unwrap();
    let mut keys: Value = serde_json::from_slice(&text).unwrap();
    config(&mut keys);
    fs::write(copy.path().join(CONFIG), keys.to_string()).unwrap();
    let bytes = fs::read(place("plain").join(TENSORS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = file.tensors().into_iter();
    let mut arrays: Arrays = read
        .map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
        .collect();
    tensors(&mut arrays);
    let views = arrays.iter().map(|(name, (shape, data))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data);
        (name, view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(copy.path().join(TENSORS), bytes).unwrap();
    copy
}

fn refusal(place: &Path) -> String {
    Adapter::open(place, &base()).unwrap_err().to_string()
}

/// mlx-lm looks up rows of `lora_a` `[V, R]` and multiplies them with `lora_b` `[R, W]`.
#[test]
fn a_pair_of_the_embedding_comes_in_where_the_keys_name_it() {
    let (rank, vocabulary, width) = (4, 80, 32);
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| i as f32 * 1e-3).collect() };
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let (a, b) = (values(vocabulary * rank), values(rank * width));
    let copy = changed(
        |config| config["lora_parameters"]["keys"] = json!(["model.embed_tokens"]),
        |tensors| {
            tensors.clear();
            let mut add = |half: &str, shape: Vec<usize>, values: &[f32]| {
                let name = format!("model.embed_tokens.lora_{half}");
                tensors.insert(name, (shape, bytes(values)));
            };
            add("a", vec![vocabulary, rank], &a);
            add("b", vec![rank, width], &b);
        },
    );
    let model = base();
    let adapter = Adapter::open(copy.path(), &model).unwrap();
    let pair = adapter.pair(Site::Embedding).unwrap();
    assert_eq!((pair.outputs(), pair.inputs()), (vocabulary, width));
    assert_eq!((&pair.a[..], &pair.b[..]), (&b[..], &a[..]));
    let attached = Attached::new([(adapter.clone(), 1.0)]);
    let mut rows = [vec![0.0; width], vec![0.0; width]];
    let token = 7;
    model.llama().embed(&mut rows[0], &[token]).unwrap();
    let llama = model.llama();
    llama
        .embed_adapted(&mut rows[1], &[token], &attached)
        .unwrap();
    let of_token = &a[token as usize * rank..][..rank];
    for i in 0..width {
        let looked_up: f32 = (0..rank).map(|k| of_token[k] * b[k * width + i]).sum();
        let want = rows[0][i] + pair.scale * looked_up;
        assert!((rows[1][i] - want).abs() < 1e-5, "{} {want}", rows[1][i]);
    }
}

#[test]
fn what_is_no_plain_lora_or_does_not_fit_is_refused_by_name() {
    let keep = |_: &mut Value| {};
    let q = "model.layers.0.self_attn.q_proj";
    let (a, b) = (format!("{q}.lora_a"), format!("{q}.lora_b"));
    let renamed = |new: &'static str| {
        changed(keep, |tensors| {
            let half = tensors.remove(&a).unwrap();
            tensors.insert(new.into(), half);
        })
    };
    for (name, says) in [
        ("model.layers.0.self_attn.q_proj.m", "DoRA"),
        ("model.layers.0.self_attn.q_proj.weight", "plain LoRA"),
        ("model.embed_tokens.lora_a", "outside the layers"),
        ("lm_head.lora_a", "outside the layers"),
        ("model.layers.7.self_attn.q_proj.lora_a", "2 layers"),
        ("model.layers.0.mlp.router.lora_a", "no place"),
    ] {
        let text = refusal(renamed(name).path());
        let module = name.rsplit_once('.').unwrap().0;
        assert!(
            text.contains(says) && text.contains(module),
            "{name}: {text}"
        );
    }
    for (change, says) in [
        (json!({"fine_tune_type": "dora"}), "DoRA"),
        (json!({"fine_tune_type": "full"}), "mlx_lm.fuse"),
        (json!({"lora_parameters": {"rank": 4}}), "scale"),
        (
            json!({"lora_parameters": {"rank": 8, "scale": 1}}),
            "says rank 8",
        ),
        (
            json!({"lora_parameters": {"rank": 4, "scale": 1e300}}),
            "scale",
        ),
        (json!({"num_layers": 1}), "num_layers"),
    ] {
        let edit = |config: &mut Value| {
            for (key, value) in change.as_object().unwrap() {
                config[key] = value.clone();
            }
        };
        let text = refusal(changed(edit, |_| {}).path());
        assert!(text.contains(says), "{change}: {text}");
    }
    let lost = changed(keep, |t| drop(t.remove(&b)));
    assert!(refusal(lost.path()).contains("only one of"));
    let turned = changed(keep, |t| t.get_mut(&a).unwrap().0 = vec![4, 32]);
    assert!(refusal(turned.path()).contains("rank"));
    let flat = changed(keep, |t| t.get_mut(&a).unwrap().0 = vec![128]);
    assert!(refusal(flat.path()).contains("not a matrix's"));
    let broken = changed(keep, |t| {
        t.get_mut(&b).unwrap().1[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(refusal(broken.path()).contains("not finite"));
    assert!(refusal(changed(keep, |t| t.clear()).path()).contains("no low-rank pairs"));
}

#[test]
fn files_that_are_missing_damaged_or_of_two_trainers_are_named() {
    let whole = fs::read(place("plain").join(TENSORS)).unwrap();
    let copy = tempfile::tempdir().unwrap();
    fs::write(copy.path().join(TENSORS), &whole).unwrap();
    assert!(refusal(copy.path()).contains(CONFIG));
    fs::copy(place("plain").join(CONFIG), copy.path().join(CONFIG)).unwrap();
    for length in [0, 8, 100, whole.len() - 1] {
        fs::write(copy.path().join(TENSORS), &whole[..length]).unwrap();
        assert!(refusal(copy.path()).contains("not a safetensors file"));
    }
    fs::write(copy.path().join(TENSORS), &whole).unwrap();
    Adapter::open(copy.path(), &base()).unwrap();
    fs::write(copy.path().join("adapter_model.safetensors"), &whole).unwrap();
    assert!(refusal(copy.path()).contains("of PEFT; move"));
    let other = open(&golden().join("llama/wide_heads.gguf"));
    let text = folder::read(&place("plain"), other.llama().shape()).unwrap_err();
    assert!(text.to_string().contains("another base"), "{text}");
}
