//! The language model agrees with transformers on random models of every supported shape.

mod closeness;
mod golden;

use closeness::relative_error;
use golden::{Golden, open};
use graft::kv_cache::{KvCache, MadeBy};
use graft::model::{Inference, Model, Unadapted};

const SHAPES: [&str; 6] = [
    "every_head_its_own",
    "grouped_heads",
    "tied_output",
    "llama3_rope",
    "linear_rope",
    "wide_heads",
];

/// Logits `[T, V]` of a sequence fed in pieces of `piece` tokens, which run through the model
/// in chunks of `chunk`.
fn logits(model: &Model, tokens: &[u32], piece: usize, chunk: usize) -> Vec<f32> {
    let llama = model.llama();
    let shape = llama.shape();
    let mut kv = KvCache::new(shape, tokens.len()).unwrap();
    let mut inference = Inference::new(llama, chunk, tokens.len()).unwrap();
    let mut all = vec![];
    for tokens in tokens.chunks(piece) {
        let mut rows = vec![0.0; tokens.len() * shape.width];
        llama.embed(&mut rows, tokens).unwrap();
        llama
            .forward(&mut rows, &mut kv, &Unadapted, MadeBy::BASE, &mut inference)
            .unwrap();
        let mut normed = vec![0.0; rows.len()];
        let mut inv_rms = vec![0.0; tokens.len()];
        llama.final_norm(&mut normed, &mut inv_rms, &rows);
        let mut logits = vec![0.0; tokens.len() * shape.vocabulary];
        inference
            .logits(llama, &mut logits, &normed, &Unadapted)
            .unwrap();
        all.extend(logits);
    }
    all
}

#[test]
fn logits_agree_with_transformers() {
    for name in SHAPES {
        let (model, golden) = (open(name, 2), Golden::read(name));
        let tokens = golden.tokens();
        // All at once, in chunks that leave a few tokens over, and token by token.
        for (piece, chunk) in [(64, 64), (64, 11), (7, 64), (1, 1)] {
            let got = logits(&model, &tokens, piece, chunk);
            let error = relative_error(&got, golden.get("logits"));
            println!("{name}, pieces of {piece} in chunks of {chunk}: {error:.1e}");
            assert!(error < 1e-5, "{name} {piece} {chunk}: {error:e}");
        }
    }
}

#[test]
fn thread_counts_give_the_same_bits() {
    for name in SHAPES {
        let tokens = Golden::read(name).tokens();
        for piece in [64, 5, 1] {
            let one = logits(&open(name, 1), &tokens, piece, 64);
            let two = logits(&open(name, 2), &tokens, piece, 64);
            assert!(one == two, "{name}, pieces of {piece}");
        }
    }
}

/// Whoever reads only the last row of each piece gets what follows it, and leaves keys and values behind on
/// which the next piece builds.
#[test]
fn the_last_row_alone_agrees_with_transformers() {
    for name in SHAPES {
        let (model, golden) = (open(name, 2), Golden::read(name));
        let (llama, tokens) = (model.llama(), golden.tokens());
        let shape = llama.shape();
        let (width, vocabulary) = (shape.width, shape.vocabulary);
        let want = golden.get("logits");
        for (piece, chunk) in [(64, 64), (64, 11), (7, 64), (1, 1)] {
            let mut kv = KvCache::new(shape, tokens.len()).unwrap();
            let mut inference = Inference::new(llama, chunk, tokens.len()).unwrap();
            let mut end = 0;
            for tokens in tokens.chunks(piece) {
                end += tokens.len();
                let mut rows = vec![0.0; tokens.len() * width];
                llama.embed(&mut rows, tokens).unwrap();
                llama
                    .forward_last(&mut rows, &mut kv, &Unadapted, MadeBy::BASE, &mut inference)
                    .unwrap();
                let mut normed = vec![0.0; width];
                let last = &rows[(tokens.len() - 1) * width..];
                llama.final_norm(&mut normed, &mut [0.0], last);
                let mut got = vec![0.0; vocabulary];
                inference
                    .logits(llama, &mut got, &normed, &Unadapted)
                    .unwrap();
                let want = &want[(end - 1) * vocabulary..end * vocabulary];
                let error = relative_error(&got, want);
                assert!(error < 1e-5, "{name} {piece} {chunk} to {end}: {error:e}");
            }
        }
    }
}
