//! The vision half at LLaVA-1.5-7B's real size: CLIP-L/14-336 and the projector to 4096.
//!
//! The tiny tower of the other test proves the order of things; it cannot prove what only shows at
//! size: patches of 588 floats and 577 tokens, which no register or tile divides, heads of 64, the
//! products cut between workers, and what 23 blocks of rounding add up to. It takes some eight
//! seconds.

mod closeness;
mod formula;
mod golden;
mod seeded;

use std::path::Path;

use closeness::relative_error;
use formula::formula_image;
use golden::{Golden, folder};
use graft::gguf::{Array, Metadata, TensorDeclaration, Value, Writer};
use graft::memory::{Arena, MemoryPlan, Part};
use graft::model::{ProjectorSaved, Vision, VisionStage, VisionWork, Widest};
use graft::threads::Pool;
use graft_kernels::{Kernels, QuantType, blocks};

const WIDTH: usize = 1024;
const FEED_FORWARD: usize = 4096;
const BLOCKS: usize = 23;
const HIDDEN: usize = 4096;
const SAMPLES: usize = 256;

/// A tensor: name, shape with the fastest axis first, and its numbers' spread and middle.
type Recipe = (String, Vec<usize>, f32, f32);

fn recipes() -> Vec<Recipe> {
    let mut all: Vec<Recipe> = vec![
        ("v.class_embd".into(), vec![WIDTH], 0.5, 0.0),
        ("v.position_embd.weight".into(), vec![WIDTH, 577], 0.5, 0.0),
    ];
    let matrix = |name: String, mut shape: Vec<usize>, outputs: usize| -> Recipe {
        let inputs = shape.iter().product::<usize>() as f64;
        let larger = name.contains(".attn_q.") || name.contains(".attn_k.");
        let gain = if larger { 4.0 } else { 1.2 };
        shape.push(outputs);
        (name, shape, (gain / inputs.sqrt()) as f32, 0.0)
    };
    let bias = |name: &str, length: usize| (format!("{name}.bias"), vec![length], 0.1, 0.0);
    let patch = "v.patch_embd.weight".to_owned();
    all.push(matrix(patch, vec![14, 14, 3], WIDTH));
    let mut norms = vec!["v.pre_ln".to_owned()];
    let mut linears = vec![
        ("mm.0".to_owned(), WIDTH, HIDDEN),
        ("mm.2".to_owned(), HIDDEN, HIDDEN),
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
        all.push((format!("{norm}.weight"), vec![WIDTH], 0.5, 1.0));
        all.push(bias(&norm, WIDTH));
    }
    for (name, inputs, outputs) in linears {
        all.push(matrix(format!("{name}.weight"), vec![inputs], outputs));
        all.push(bias(&name, outputs));
    }
    all
}

fn metadata() -> Metadata {
    let mut metadata = Metadata::new();
    let mut set = |key: &str, value: Value| metadata.insert(key, value);
    set("general.architecture", Value::String("clip".into()));
    set("clip.projector_type", Value::String("mlp".into()));
    set("clip.use_gelu", Value::Bool(false));
    for (key, value) in [
        ("image_size", 336),
        ("patch_size", 14),
        ("embedding_length", WIDTH),
        ("feed_forward_length", FEED_FORWARD),
        ("attention.head_count", 16),
        ("block_count", BLOCKS),
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

/// Writes the mmproj file, 650 MB with F16 matrices, as converters write them; embeddings are F16 always.
fn write(path: &Path, matrices: QuantType) {
    let storage = |name: &str, shape: &[usize]| match shape.len() {
        1 => QuantType::F32,
        2 if !name.contains("embd") => matrices,
        _ => QuantType::F16,
    };
    let recipes = recipes();
    let declare = |(name, shape, ..): &Recipe| TensorDeclaration {
        name: name.clone(),
        shape: shape.clone(),
        quant_type: storage(name, shape),
    };
    let tensors: Vec<_> = recipes.iter().map(declare).collect();
    let mut writer = Writer::create(path, &metadata(), &tensors).unwrap();
    for (name, shape, spread, middle) in &recipes {
        let values = seeded::values(name, shape.iter().product(), *spread, *middle);
        let ty = storage(name, shape);
        let mut bytes = vec![0; ty.row_bytes(values.len()).unwrap()];
        blocks::encode(ty, &values, &mut bytes).unwrap();
        writer.write_tensor(&bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn the_real_size_agrees_with_transformers() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("mmproj.gguf");
    write(&path, QuantType::F16);
    let vision = Vision::open(&path, HIDDEN).unwrap();
    let shape = *vision.tower().shape();
    let golden = Golden::open(&folder("llava").join("clip_l.safetensors"));
    let mut stages = 0;
    let mut check = |name: &str, array: &[f32]| {
        let places = seeded::words(&format!("places.{name}")).take(SAMPLES);
        let sample = |place: u64| array[(place % array.len() as u64) as usize];
        let got: Vec<f32> = places.map(sample).collect();
        let (want, size) = golden.get(name).split_at(SAMPLES);
        let error = relative_error(&got, want);
        let squares: f64 = array.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let mean = (squares / array.len() as f64).sqrt();
        let size_error = (mean / f64::from(size[0]) - 1.0).abs();
        println!("{name}: samples {error:.1e}, size {size_error:.1e}");
        // PyTorch's own f32 is as far from its f64: 1.8e-5 at the last block.
        assert!(error < 1e-4 && size_error < 1e-6, "{name}");
        stages += 1;
    };
    let mut pixels = vec![0.0; 3 * 336 * 336];
    let image = formula_image((640, 480));
    vision.preprocessing().pixels(&mut pixels, &image);
    check("pixels", &pixels);
    let mut features = vec![0.0; 576 * WIDTH];
    let mut projected = vec![0.0; 576 * HIDDEN];
    let mut work = VisionWork::exact(vision.tower(), &Arena::unlimited()).unwrap();
    let mut seen = vec![];
    Pool::new(0).unwrap().run(|| {
        let mut watch = |stage: VisionStage, stream: &[f32]| {
            let name = match stage {
                VisionStage::Embedded => "embedded".to_owned(),
                VisionStage::Normed => "normed".to_owned(),
                VisionStage::Block(i) => format!("block.{i}"),
            };
            seen.push((name, stream.to_vec()));
        };
        let tower = vision.tower();
        tower.features_watched(&mut features, &pixels, &mut work, &mut watch);
        let exact = Widest::default();
        let mut saved =
            ProjectorSaved::new(shape.patches(), HIDDEN, exact, &Arena::unlimited()).unwrap();
        let projector = vision.projector();
        projector.forward(&mut projected, &features, &mut saved);
    });
    for (name, stream) in &seen {
        check(name, stream);
    }
    let last = &seen.last().unwrap().1;
    assert!(features == last[WIDTH..], "the class token is dropped");
    check("projected", &projected);
    assert_eq!(stages, 1 + 2 + BLOCKS + 1);
}

/// Of the difference, relative to the size.
fn root_mean_square_error(got: &[f32], want: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let difference: f64 = got.iter().zip(want).map(|(g, w)| square(g - w)).sum();
    (difference / want.iter().map(|&w| square(w)).sum::<f64>()).sqrt()
}

/// The name of a stage, and its array with rounding and without.
type BothWays = (String, [Vec<f32>; 2]);

/// What a tower and a projector make of a picture after each block, rounding what they read and not; and whether
/// they do round.
fn seen_both_ways(matrices: QuantType) -> (bool, Vec<BothWays>) {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("mmproj.gguf");
    write(&path, matrices);
    let vision = Vision::open(&path, HIDDEN).unwrap();
    let (tower, projector) = (vision.tower(), vision.projector());
    let patches = tower.shape().patches();
    let rounding = projector.rounding(patches);
    let kernels = Kernels::detect();
    let rounds = kernels.rounds(matrices) || kernels.multiplies_words(matrices);
    let none = [tower.rounding(), rounding].map(Widest::is_none);
    assert_eq!(none, [!rounds; 2]);

    let mut plan = MemoryPlan::default();
    plan.add(Part::VisionTower, VisionWork::bytes(tower));
    let of_projector = ProjectorSaved::bytes(patches, HIDDEN, rounding);
    plan.add(Part::Projector, of_projector);
    let arena = Arena::new(plan);
    let image = formula_image((640, 480));
    let mut pixels = vec![0.0; 3 * 336 * 336];
    vision.preprocessing().pixels(&mut pixels, &image);
    let see = |mut work: VisionWork, mut saved: ProjectorSaved| {
        let mut arrays = vec![];
        let mut features = vec![0.0; patches * WIDTH];
        let mut projected = vec![0.0; patches * HIDDEN];
        Pool::new(0).unwrap().run(|| {
            let mut watch = |stage: VisionStage, stream: &[f32]| {
                if let VisionStage::Block(i) = stage {
                    arrays.push((format!("block.{i}"), stream.to_vec()));
                }
            };
            tower.features_watched(&mut features, &pixels, &mut work, &mut watch);
            projector.forward(&mut projected, &features, &mut saved);
        });
        arrays.push(("projected".to_owned(), projected));
        arrays
    };
    let work = VisionWork::new(tower, &arena).unwrap();
    let saved = ProjectorSaved::new(patches, HIDDEN, rounding, &arena).unwrap();
    assert_eq!(arena.held(), plan, "just what was planned");
    let rounded = see(work, saved);
    let free = Arena::unlimited();
    let work = VisionWork::exact(tower, &free).unwrap();
    let saved = ProjectorSaved::new(patches, HIDDEN, Widest::default(), &free).unwrap();
    let floats = see(work, saved).into_iter();
    let both = rounded.into_iter().zip(floats);
    let both = both.map(|((name, rounded), (_, floats))| (name, [rounded, floats]));
    (rounds, both.collect())
}

#[test]
fn matrices_in_blocks_see_as_their_floats_do() {
    let golden = Golden::open(&folder("llava").join("clip_l.safetensors"));
    let (rounds, stages) = seen_both_ways(QuantType::Q8_0);
    for (name, [rounded, floats]) in &stages {
        let samples = |array: &[f32]| -> Vec<f32> {
            let places = seeded::words(&format!("places.{name}")).take(SAMPLES);
            let sample = |place: u64| array[(place % array.len() as u64) as usize];
            places.map(sample).collect()
        };
        let of_rounding = root_mean_square_error(rounded, floats);
        // The golden values are those of the matrices before they were stored in eight bits.
        let of_storing = root_mean_square_error(&samples(floats), &golden.get(name)[..SAMPLES]);
        println!("{name}: rounding {of_rounding:.1e}, storing {of_storing:.1e}");
        assert_eq!(of_rounding > 0.0, rounds, "{name}");
        assert!(of_rounding < 3.0 * of_storing, "{name}");
    }
}

/// Words of 14 bits lose about what storing the matrices in F16 lost: 2e-4 after a block. These weights let it grow.
#[test]
fn matrices_in_f16_see_almost_as_their_floats_do() {
    let (rounds, stages) = seen_both_ways(QuantType::F16);
    for (i, (name, [rounded, floats])) in stages.iter().enumerate() {
        let of_rounding = root_mean_square_error(rounded, floats);
        println!("{name}: rounding {of_rounding:.1e}");
        assert_eq!(of_rounding > 0.0, rounds, "{name}");
        assert!(of_rounding < 3e-4 * 1.25_f64.powi(i as i32), "{name}");
    }
}
