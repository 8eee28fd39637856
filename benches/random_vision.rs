//! A vision half of LLaVA-1.5's real size with random weights: CLIP-L/14-336 and a projector.

use std::path::{Path, PathBuf};

use graft::Result;
use graft::gguf::{Array, Metadata, TensorDeclaration, Value, Writer};
use graft_kernels::{QuantType, blocks};

use crate::{quant_type, random};

const WIDTH: usize = 1024;
const FEED_FORWARD: usize = 4096;
/// The last block is not run and not stored.
const BLOCKS: usize = 23;

/// The path of an mmproj file for language models of `width`, its linear maps of the named type (converters
/// write F16); it is written to the folder unless it is there already.
///
/// A type that is not there ends the program: the word comes from whoever runs it.
///
/// # Errors
/// If the file cannot be written.
///
/// # Panics
/// If the folder cannot be made.
pub fn path(folder: &str, width: usize, ty: &str) -> Result<PathBuf> {
    let ty = quant_type(ty);
    let path = Path::new(folder).join(format!("mmproj-{width}-{ty}.gguf"));
    std::fs::create_dir_all(folder).expect("the folder can be made");
    if !path.exists() {
        write(&path, width, ty)?;
    }
    Ok(path)
}

fn write(path: &Path, width: usize, ty: QuantType) -> Result<()> {
    let mut tensors = vec![];
    let mut declare = |name: String, shape: &[usize]| {
        tensors.push(TensorDeclaration {
            quant_type: match shape.len() {
                1 => QuantType::F32,
                2 if !name.starts_with("v.position") => ty,
                _ => QuantType::F16,
            },
            shape: shape.to_vec(),
            name,
        });
    };
    declare("v.class_embd".into(), &[WIDTH]);
    declare("v.position_embd.weight".into(), &[WIDTH, 577]);
    declare("v.patch_embd.weight".into(), &[14, 14, 3, WIDTH]);
    let mut norms = vec!["v.pre_ln".to_owned()];
    let mut linears = vec![
        ("mm.0".to_owned(), WIDTH, width),
        ("mm.2".to_owned(), width, width),
    ];
    for i in 0..BLOCKS {
        norms.extend(["ln1", "ln2"].map(|norm| format!("v.blk.{i}.{norm}")));
        for (name, inputs, outputs) in [
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, WIDTH),
            ("attn_v", WIDTH, WIDTH),
            ("attn_out", WIDTH, WIDTH),
            ("ffn_up", WIDTH, FEED_FORWARD),
            ("ffn_down", FEED_FORWARD, WIDTH),
        ] {
            linears.push((format!("v.blk.{i}.{name}"), inputs, outputs));
        }
    }
    for norm in norms {
        declare(format!("{norm}.weight"), &[WIDTH]);
        declare(format!("{norm}.bias"), &[WIDTH]);
    }
    for (name, inputs, outputs) in linears {
        declare(format!("{name}.weight"), &[inputs, outputs]);
        declare(format!("{name}.bias"), &[outputs]);
    }
    let mut writer = Writer::create(path, &metadata(), &tensors)?;
    for (seed, tensor) in (1..).zip(&tensors) {
        let bytes = tensor.bytes()?;
        let row = tensor.bytes()? / tensor.shape.last().copied().unwrap_or(1);
        let values = tensor.shape.iter().rev().skip(1).product::<usize>();
        let mut weights = random(seed, values.max(1));
        weights.iter_mut().for_each(|w| *w *= 0.04);
        if tensor.name.contains("ln") && tensor.name.ends_with("weight") {
            weights.fill(1.0);
        }
        let mut encoded = vec![0; row];
        blocks::encode(tensor.quant_type, &weights, &mut encoded).expect("floats");
        writer.write_tensor(&encoded.repeat(bytes / row))?;
    }
    writer.finish()
}

fn metadata() -> Metadata {
    let mut metadata = Metadata::new();
    let mut set = |key: &str, value: Value| metadata.insert(key, value);
    set("general.architecture", Value::String("clip".into()));
    set("clip.projector_type", Value::String("mlp".into()));
    set("clip.use_gelu", Value::Bool(false));
    set("clip.has_vision_encoder", Value::Bool(true));
    set("clip.has_llava_projector", Value::Bool(true));
    for (key, value) in [
        ("image_size", 336),
        ("patch_size", 14),
        ("embedding_length", WIDTH),
        ("feed_forward_length", FEED_FORWARD),
        ("attention.head_count", 16),
        ("block_count", BLOCKS),
        ("projection_dim", 768),
    ] {
        set(&format!("clip.vision.{key}"), Value::U32(value as u32));
    }
    let eps = "clip.vision.attention.layer_norm_epsilon";
    set(eps, Value::F32(1e-5));
    let mut three = |key: &str, values: [f32; 3]| {
        let value = Value::Array(Array::F32(values.to_vec()));
        set(&format!("clip.vision.{key}"), value);
    };
    three("image_mean", [0.48145466, 0.4578275, 0.40821073]);
    three("image_std", [0.26862954, 0.261_302_6, 0.275_777_1]);
    metadata
}
