//! A quantized base computes what its decoded weights compute, forward and backward, and any
//! number of threads gives the same bits. The sizes are such that every product is cut into
//! several pieces.

mod closeness;
#[path = "../training/lora.rs"]
mod lora;
mod random;

use std::sync::Arc;

use closeness::relative_error;
use graft::gguf::Gguf;
use graft::kv_cache::{KvCache, MadeBy};
use graft::model::{Inference, Model, ModelOptions, Words};
use graft_kernels::{Kernels, QuantType};
use lora::{Lora, differentiate};
use random::{Sizes, uniform};

const SIZES: Sizes = Sizes {
    width: 512,
    layers: 2,
    heads: 8,
    kv_heads: 2,
    feed_forward: 768,
    vocabulary: 320,
};

/// A different type at every place.
fn mixed(name: &str) -> QuantType {
    match name.rsplit('.').nth(1).unwrap() {
        "attn_q" | "ffn_gate" => QuantType::Q4K,
        "attn_v" | "ffn_down" => QuantType::Q6K,
        "attn_k" => QuantType::Q8_0,
        "attn_output" => QuantType::Q5K,
        "ffn_up" => QuantType::Q4_0,
        "output" => QuantType::Q6K,
        _ => QuantType::F16,
    }
}

struct Models {
    folder: tempfile::TempDir,
}

impl Models {
    fn write() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (stored, decoded) = (folder.path().join("stored"), folder.path().join("decoded"));
        random::write(&[&stored, &decoded], &SIZES, &[&mixed, &|_| QuantType::F32]);
        Self { folder }
    }

    fn open(&self, name: &str, threads: usize) -> Arc<Model> {
        let gguf = Arc::new(Gguf::open(&self.folder.path().join(name)).unwrap());
        Model::new(
            gguf,
            &ModelOptions {
                threads,
                ..ModelOptions::default()
            },
        )
        .unwrap()
    }
}

fn rows(tokens: usize) -> Vec<f32> {
    let mut seed = 5;
    (0..tokens * SIZES.width)
        .map(|_| uniform(&mut seed))
        .collect()
}

/// What the model makes of `rows` `[T, W]`, fed in pieces.
fn forward(model: &Model, rows: &[f32], piece: usize) -> Vec<f32> {
    let llama = model.llama();
    let tokens = rows.len() / SIZES.width;
    let mut kv = KvCache::new(llama.shape(), tokens).unwrap();
    let mut inference = Inference::new(llama, 64, tokens).unwrap();
    let lora = Lora::random(model, 0.0);
    inference.reserve(llama, &lora);
    let mut rows = rows.to_vec();
    for rows in rows.chunks_mut(piece * SIZES.width) {
        llama
            .forward(rows, &mut kv, &lora, MadeBy(1), &mut inference)
            .unwrap();
    }
    rows
}

#[test]
fn quantized_weights_are_their_decoded_values() {
    let models = Models::write();
    let (stored, decoded) = (models.open("stored", 2), models.open("decoded", 2));
    for (tokens, piece) in [(1, 1), (12, 5), (40, 40)] {
        let rows = rows(tokens);
        let (got, want) = (
            forward(&stored, &rows, piece),
            forward(&decoded, &rows, piece),
        );
        let error = relative_error(&got, &want);
        println!("forward, {tokens} tokens in pieces of {piece}: {error:.1e}");
        // Inference rounds activations to 8 bits where the processor has kernels for that.
        let allowed = match Kernels::detect().rounds(QuantType::Q4K) {
            true => 2e-2,
            false => 1e-5,
        };
        assert!(error < allowed, "{tokens} {piece}: {error:e}");
    }
    let rows = rows(20);
    let mut seed = 9;
    let dlogits: Vec<f32> = (0..20 * SIZES.vocabulary)
        .map(|_| uniform(&mut seed))
        .collect();
    let [got, want] = [stored, decoded].map(|model| {
        let lora = Lora::random(&model, 0.0);
        differentiate(&model, &rows, &dlogits, &lora, 1)
    });
    let error = relative_error(&got.drows, &want.drows);
    println!("drows: {error:.1e}");
    assert!(error < 1e-5, "drows: {error:e}");
    for (got, want) in got.gradients.0.iter().zip(&want.gradients.0) {
        for (got, want) in [(&got.0, &want.0), (&got.1, &want.1)] {
            let error = relative_error(got, want);
            assert!(error < 1e-5, "{error:e}");
        }
    }
}

/// Products in words of 14 bits, where the processor has them, are close to those of floats, and else the same.
#[test]
fn words_are_close_to_floats() {
    let models = Models::write();
    let model = models.open("stored", 2);
    let rows = rows(70);
    let mut seed = 9;
    let dlogits: Vec<f32> = (0..70 * SIZES.vocabulary)
        .map(|_| uniform(&mut seed))
        .collect();
    let [floats, words] = [Words::Never, Words::Blocks].map(|words| {
        let lora = Lora {
            words,
            ..Lora::random(&model, 0.0)
        };
        differentiate(&model, &rows, &dlogits, &lora, 1)
    });
    let least = match Kernels::detect().multiplies_words(QuantType::Q4K) {
        true => 1e-6,
        false => 0.0,
    };
    let check = |what: &str, got: &[f32], want: &[f32]| {
        let error = relative_error(got, want);
        println!("{what}: {error:.1e}");
        assert!((least..1e-3).contains(&error), "{what}: {error:e}");
    };
    check("logits", &words.logits, &floats.logits);
    check("drows", &words.drows, &floats.drows);
    for (i, (got, want)) in words
        .gradients
        .0
        .iter()
        .zip(&floats.gradients.0)
        .enumerate()
    {
        check(&format!("da {i}"), &got.0, &want.0);
        check(&format!("db {i}"), &got.1, &want.1);
    }
}

#[test]
fn thread_counts_give_the_same_bits() {
    let models = Models::write();
    let run = |threads| {
        let model = models.open("stored", threads);
        let forwards =
            [(1, 1), (9, 4), (70, 70)].map(|(t, piece)| forward(&model, &rows(t), piece));
        let mut seed = 9;
        let dlogits: Vec<f32> = (0..70 * SIZES.vocabulary)
            .map(|_| uniform(&mut seed))
            .collect();
        let learned = [Words::Never, Words::Blocks].map(|words| {
            let lora = Lora {
                words,
                ..Lora::random(&model, 0.1)
            };
            differentiate(&model, &rows(70), &dlogits, &lora, 1)
        });
        (forwards, learned)
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(run(threads) == one, "{threads} threads");
    }
}
