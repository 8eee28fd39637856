//! Writes a small random vision half as an mmproj file.

use std::path::Path;

use graft::gguf::{Array, Metadata, TensorDeclaration, Value, Writer};
use graft_kernels::{QuantType, blocks};

use super::random::uniform;

/// Rows and columns of an image in patches; rows of patches have a tail that no tile divides.
const GRID: usize = 5;
const PATCH: usize = 7;
const WIDTH: usize = 256;
const FEED_FORWARD: usize = 512;
pub const BLOCKS: usize = 3;

/// Name and shape, fastest axis first, of every tensor.
fn tensors(model_width: usize) -> Vec<(String, Vec<usize>)> {
    let mut all = vec![
        ("v.class_embd".to_owned(), vec![WIDTH]),
        (
            "v.position_embd.weight".to_owned(),
            vec![WIDTH, GRID * GRID + 1],
        ),
        (
            "v.patch_embd.weight".to_owned(),
            vec![PATCH, PATCH, 3, WIDTH],
        ),
    ];
    let mut norms = vec!["v.pre_ln".to_owned()];
    let mut linears = vec![
        ("mm.0".to_owned(), WIDTH, model_width),
        ("mm.2".to_owned(), model_width, model_width),
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
        all.push((format!("{norm}.weight"), vec![WIDTH]));
        all.push((format!("{norm}.bias"), vec![WIDTH]));
    }
    for (name, inputs, outputs) in linears {
        all.push((format!("{name}.weight"), vec![inputs, outputs]));
        all.push((format!("{name}.bias"), vec![outputs]));
    }
    all
}

/// Writes a vision half for a model of this width whose matrices are stored as `ty`; embeddings are F16, and the
/// activation is CLIP's own or the exact GELU.
pub fn write(path: &Path, model_width: usize, ty: QuantType, exact_gelu: bool) {
    let mut metadata = Metadata::new();
    let mut set = |key: &str, value: Value| metadata.insert(key, value);
    set("general.architecture", Value::String("clip".into()));
    set("clip.projector_type", Value::String("mlp".into()));
    set("clip.use_gelu", Value::Bool(exact_gelu));
    for (key, value) in [
        ("image_size", GRID * PATCH),
        ("patch_size", PATCH),
        ("embedding_length", WIDTH),
        ("feed_forward_length", FEED_FORWARD),
        ("attention.head_count", 4),
        ("block_count", BLOCKS),
    ] {
        set(&format!("clip.vision.{key}"), Value::U32(value as u32));
    }
    let eps = "clip.vision.attention.layer_norm_epsilon";
    set(eps, Value::F32(1e-5));
    for key in ["image_mean", "image_std"] {
        let value = Value::Array(Array::F32(vec![0.5; 3]));
        set(&format!("clip.vision.{key}"), value);
    }
    let storage = |name: &str, shape: &[usize]| match shape.len() {
        1 => QuantType::F32,
        2 if !name.contains("embd") => ty,
        _ => QuantType::F16,
    };
    let declare = |(name, shape): (String, Vec<usize>)| TensorDeclaration {
        quant_type: storage(&name, &shape),
        name,
        shape,
    };
    let declared: Vec<_> = tensors(model_width).into_iter().map(declare).collect();
    let mut writer = Writer::create(path, &metadata, &declared).unwrap();
    let mut seed = 3;
    for tensor in declared {
        let count: usize = tensor.shape.iter().product();
        let inputs = count / tensor.shape.last().unwrap();
        let spread = 1.5 / (inputs as f32).sqrt();
        let middle = f32::from(tensor.name.contains("ln") && tensor.name.ends_with("weight"));
        let values = (0..count).map(|_| middle + spread.min(0.5) * uniform(&mut seed));
        let values: Vec<f32> = values.collect();
        let mut bytes = vec![0; tensor.quant_type.row_bytes(count).unwrap()];
        blocks::encode(tensor.quant_type, &values, &mut bytes).unwrap();
        writer.write_tensor(&bytes).unwrap();
    }
    writer.finish().unwrap();
}
