//! Types against llama.cpp's choices, errors against a second reading, and every refusal.

use std::cell::Cell;
use std::path::PathBuf;

use graft_kernels::blocks;

use super::*;
use crate::Error;
use crate::gguf::TensorInfo;

/// Sizes of a model; as in `tests/golden/quantize/make.py`.
struct Shape {
    layers: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    feed_forward: usize,
    tied: bool,
}

const VOCABULARY: usize = 48;

impl Shape {
    fn of(name: &str) -> Self {
        let (layers, width, heads, kv_heads, feed_forward) = match name {
            "plain" => (17, 256, 4, 4, 512),
            "grouped" => (33, 256, 8, 2, 256),
            "tied" => (6, 256, 4, 2, 256),
            "odd_rows" => (9, 288, 4, 4, 512),
            "seventy" => (80, 256, 8, 1, 256),
            other => panic!("unknown shape {other}"),
        };
        Self {
            layers,
            width,
            heads,
            kv_heads,
            feed_forward,
            tied: name == "tied",
        }
    }

    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", Value::String("llama".into()));
        for (key, value) in [
            ("block_count", self.layers),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
        ] {
            metadata.insert(format!("llama.{key}"), Value::U32(value as u32));
        }
        metadata.insert("general.name", Value::String("a name to keep".into()));
        metadata
    }

    fn tensors(&self) -> Vec<TensorInfo> {
        let (w, f) = (self.width, self.feed_forward);
        let kv = w / self.heads * self.kv_heads;
        let mut all = vec![
            ("token_embd".to_owned(), vec![w, VOCABULARY]),
            ("output_norm".to_owned(), vec![w]),
        ];
        if !self.tied {
            all.push(("output".to_owned(), vec![w, VOCABULARY]));
        }
        for layer in 0..self.layers {
            for (name, shape) in [
                ("attn_norm", vec![w]),
                ("attn_q", vec![w, w]),
                ("attn_k", vec![w, kv]),
                ("attn_v", vec![w, kv]),
                ("attn_output", vec![w, w]),
                ("ffn_norm", vec![w]),
                ("ffn_gate", vec![w, f]),
                ("ffn_up", vec![w, f]),
                ("ffn_down", vec![f, w]),
            ] {
                all.push((format!("blk.{layer}.{name}"), shape));
            }
        }
        let describe =
            |(name, shape): (String, Vec<usize>)| tensor(&format!("{name}.weight"), &shape);
        all.into_iter().map(describe).collect()
    }
}

fn tensor(name: &str, shape: &[usize]) -> TensorInfo {
    TensorInfo {
        name: name.to_owned(),
        shape: shape.to_vec(),
        quant_type: QuantType::F32,
        bytes: 4 * shape.iter().product::<usize>(),
    }
}

#[test]
fn every_tensor_gets_the_type_llama_cpp_gives_it() {
    let golden = include_str!("../../../tests/golden/quantize/types.txt");
    let mut checked = 0;
    for shape_name in ["plain", "grouped", "tied", "odd_rows", "seventy"] {
        let shape = Shape::of(shape_name);
        let tensors = shape.tensors();
        for mix in Mix::ALL {
            let types = mix.types(&shape.metadata(), &tensors).unwrap();
            for (info, found) in tensors.iter().zip(types) {
                let place = info.name.trim_end_matches(".weight");
                let (layer, part) = match place.strip_prefix("blk.") {
                    Some(rest) => rest.split_once('.').unwrap(),
                    None => ("", place),
                };
                let expected = golden.lines().find_map(|line| {
                    let mut words = line.split(' ');
                    let here = words.next() == Some(shape_name)
                        && words.next() == Some(mix.name())
                        && words.next() == Some(part);
                    let ty = words.next()?;
                    (here && words.any(|w| w == "all" || w == layer)).then_some(ty)
                });
                assert_eq!(
                    expected,
                    Some(found.name()),
                    "{shape_name} {mix} {}",
                    info.name
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 20_000);
}

#[test]
fn names_are_read_in_any_case_and_unknown_ones_are_answered_with_the_list() {
    for mix in Mix::ALL {
        assert_eq!(mix.name().parse::<Mix>().unwrap(), mix);
        assert_eq!(mix.name().to_lowercase().parse::<Mix>().unwrap(), mix);
    }
    assert_eq!("Q4_K".parse::<Mix>().unwrap(), Mix::Q4KM);
    let answer = "Q4_X".parse::<Mix>().unwrap_err().to_string();
    assert!(
        answer.contains("Q4_X") && answer.contains("Q4_K_M"),
        "{answer}"
    );
}

#[test]
fn rows_that_fill_no_blocks_stay_floats_and_vision_files_keep_what_is_small() {
    let mut metadata = Shape::of("plain").metadata();
    let narrow = [
        tensor("blk.0.attn_q.weight", &[24, 8]),
        tensor("output.weight", &[24, 8]),
    ];
    let types = Mix::Q4KM.types(&metadata, &narrow).unwrap();
    assert_eq!(types, [QuantType::F16; 2]);
    metadata.insert("general.architecture", Value::String("clip".into()));
    let vision = [
        tensor("v.class_embd", &[256]),
        tensor("v.patch_embd.weight", &[14, 14, 3, 256]),
        tensor("v.position_embd.weight", &[256, 577]),
        tensor("v.blk.0.attn_v.weight", &[256, 256]),
        tensor("v.blk.0.attn_v.bias", &[256]),
        tensor("v.blk.0.ffn_down.weight", &[256, 512]),
        tensor("mm.0.weight", &[256, 512]),
    ];
    use QuantType::{F32, Q4K, Q8_0};
    let types = Mix::Q4KM.types(&metadata, &vision).unwrap();
    assert_eq!(types, [F32, F32, F32, Q4K, F32, Q4K, Q8_0]);
}

/// A folder with a file of these tensors; weight `i` of tensor `t` is what `weight(t, i)` says.
fn file(
    metadata: &Metadata,
    tensors: &[TensorInfo],
    weight: impl Fn(usize, usize) -> f32,
) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.gguf");
    let declared: Vec<_> = tensors
        .iter()
        .map(|info| TensorDeclaration {
            name: info.name.clone(),
            shape: info.shape.clone(),
            quant_type: QuantType::F32,
        })
        .collect();
    let mut writer = Writer::create(&path, metadata, &declared).unwrap();
    for (t, info) in tensors.iter().enumerate() {
        let weights = (0..info.elements()).flat_map(|i| weight(t, i).to_le_bytes());
        writer.write_tensor(&weights.collect::<Vec<_>>()).unwrap();
    }
    writer.finish().unwrap();
    (folder, path)
}

fn noise(t: usize, i: usize) -> f32 {
    let mixed = (t as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (i as u64 + 1) << 20;
    let mixed = (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn small() -> (Metadata, Vec<TensorInfo>) {
    let shape = Shape::of("tied");
    let mut tensors = shape.tensors();
    tensors.truncate(11);
    (shape.metadata(), tensors)
}

#[test]
fn the_report_says_what_reading_the_file_again_says() {
    let (metadata, tensors) = small();
    let (folder, input) = file(&metadata, &tensors, noise);
    let output = folder.path().join("out.gguf");
    let told = Cell::new(0);
    let progress = |p: Progress<'_>| {
        assert!(p.weights <= p.of);
        told.set(told.get() + 1);
    };
    let options = QuantizeOptions {
        progress: Some(&progress),
        ..QuantizeOptions::default()
    };
    let report = quantize(&input, &output, Mix::Q4KM, &options).unwrap();
    assert_eq!(told.get(), tensors.len());
    let (before, after) = (Gguf::open(&input).unwrap(), Gguf::open(&output).unwrap());
    assert_eq!(
        after.metadata().str("general.name").unwrap(),
        "a name to keep"
    );
    assert_eq!(after.metadata().u32("general.file_type").unwrap(), 15);
    let sum = |gguf: &Gguf| gguf.tensors().iter().map(|t| t.bytes as u64).sum::<u64>();
    assert_eq!(report.bytes_before, sum(&before));
    assert_eq!(report.bytes_after, sum(&after));
    for ((info, now), said) in before
        .tensors()
        .iter()
        .zip(after.tensors())
        .zip(&report.tensors)
    {
        assert_eq!((&info.name, &info.shape), (&now.name, &now.shape));
        assert_eq!((said.from, said.to), (info.quant_type, now.quant_type));
        let read = |gguf: &Gguf| {
            let tensor = gguf.tensor(&info.name).unwrap();
            let mut out = vec![0.0; info.elements()];
            blocks::decode(tensor.info.quant_type, tensor.data, &mut out);
            out
        };
        let pairs = read(&before).into_iter().zip(read(&after));
        let squares = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let rms = (squares / info.elements() as f64).sqrt();
        assert!(
            (rms - said.error.rms).abs() <= 1e-6 * rms,
            "{} {rms} {said:?}",
            info.name
        );
        let matrix = info.shape.len() > 1;
        assert_eq!(matrix, said.error.relative() > 0.0, "{}", info.name);
        assert!(said.error.relative() < 0.1);
    }
    assert!(report.bits_per_weight() < 8.0);
    assert!(report.worst().is_some());
}

#[test]
fn the_number_of_workers_changes_no_byte() {
    let (metadata, mut tensors) = small();
    // More weights than one worker takes at once, and a last piece of another size.
    tensors[0].shape[1] = 2500;
    let (folder, input) = file(&metadata, &tensors, noise);
    let files: Vec<_> = [1, 3]
        .map(|threads| {
            let output = folder.path().join(threads.to_string());
            let options = QuantizeOptions {
                threads,
                ..QuantizeOptions::default()
            };
            let report = quantize(&input, &output, Mix::Q5KM, &options).unwrap();
            (std::fs::read(output).unwrap(), report)
        })
        .into();
    assert!(files[0] == files[1]);
}

#[test]
fn what_cannot_be_stored_is_refused_and_leaves_no_file() {
    let (metadata, tensors) = small();
    let (folder, input) = file(&metadata, &tensors, noise);
    let output = folder.path().join("out.gguf");
    let refused = |input: &Path, mix, options: &QuantizeOptions<'_>| {
        let error = quantize(input, &output, mix, options).unwrap_err();
        assert!(!output.exists());
        error
    };
    let plain = QuantizeOptions::default();

    let once = folder.path().join("once.gguf");
    quantize(&input, &once, Mix::Q8_0, &plain).unwrap();
    let text = refused(&once, Mix::Q4_0, &plain).to_string();
    assert!(text.contains("token_embd.weight is already Q8_0"), "{text}");
    let allowed = QuantizeOptions {
        allow_requantize: true,
        ..plain
    };
    quantize(&once, &once, Mix::Q4_0, &allowed).unwrap();
    assert_eq!(
        Gguf::open(&once)
            .unwrap()
            .metadata()
            .u32("general.file_type")
            .unwrap(),
        2
    );

    let (_nan, with_nan) = file(&metadata, &tensors, |t, i| {
        if (t, i) == (3, 777) { f32::NAN } else { 0.5 }
    });
    let text = refused(&with_nan, Mix::Q4_0, &plain).to_string();
    assert!(
        text.contains(&tensors[3].name) && text.contains("index 777"),
        "{text}"
    );

    let (_large, large) = file(&metadata, &tensors, |_, i| if i == 300 { 1e6 } else { 0.5 });
    let text = refused(&large, Mix::F16, &plain).to_string();
    assert!(
        text.contains("1000000") && text.contains("index 300"),
        "{text}"
    );

    let cancel = Cancel::new();
    cancel.raise();
    let cancelled = QuantizeOptions {
        cancel: Some(&cancel),
        ..plain
    };
    assert!(matches!(
        refused(&input, Mix::Q4_0, &cancelled),
        Error::Cancelled
    ));

    for (key, value, says) in [
        ("general.architecture", Value::String("bert".into()), "bert"),
        ("llama.expert_count", Value::U32(8), "8 experts"),
    ] {
        let mut other = metadata.clone();
        other.insert(key, value);
        let (_other, path) = file(&other, &tensors, noise);
        let text = refused(&path, Mix::Q4_0, &plain).to_string();
        assert!(text.contains(says), "{text}");
    }
}
