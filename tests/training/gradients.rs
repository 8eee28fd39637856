//! Gradients of the whole language model: against PyTorch and PEFT, against themselves with
//! recomputation and other thread counts, and against the function they are derivatives of.

#[path = "../model/closeness.rs"]
mod closeness;
#[path = "../model/golden.rs"]
mod golden;

mod lora;

use closeness::relative_error;
use golden::{Golden, open};
use graft::model::{Model, Site, Words};
use lora::{Lora, Outcome, Pairs, differentiate};

const SHAPES: [&str; 2] = ["grouped_heads", "wide_heads"];
fn golden_lora(golden: &Golden, model: &Model) -> Lora {
    Lora::new(model, |site| {
        (
            golden.get(&format!("{site}.a")).to_vec(),
            golden.get(&format!("{site}.b")).to_vec(),
        )
    })
}

fn embedded(model: &Model, golden: &Golden) -> Vec<f32> {
    let tokens = golden.tokens();
    let mut rows = vec![0.0; tokens.len() * model.llama().shape().width];
    model.llama().embed(&mut rows, &tokens).unwrap();
    rows
}

#[test]
fn gradients_agree_with_pytorch() {
    for name in SHAPES {
        let (model, golden) = (open(name, 2), Golden::read(name));
        let lora = golden_lora(&golden, &model);
        let rows = embedded(&model, &golden);
        let dlogits = golden.get("dlogits");
        let outcome = differentiate(&model, &rows, dlogits, &lora, usize::MAX);
        let mut worst = 0f32;
        let mut check = |what: &str, got: &[f32], want: &str| {
            let error = relative_error(got, golden.get(want));
            worst = worst.max(error);
            assert!(error < 1e-5, "{name} {what}: {error:e}");
        };
        check("logits", &outcome.logits, "adapted_logits");
        check("drows", &outcome.drows, "drows");
        for site in Site::of_layers(model.llama().shape().layers) {
            let (da, db) = &outcome.gradients.0[site.index()];
            check("da", da, &format!("{site}.da"));
            check("db", db, &format!("{site}.db"));
        }
        println!("{name}: {worst:.1e}");
    }
}

#[test]
fn recomputation_and_threads_change_no_bit() {
    for name in SHAPES {
        let golden = Golden::read(name);
        for dropout in [0.0, 0.3] {
            let outcome = |threads, kept| {
                let model = open(name, threads);
                let mut lora = golden_lora(&golden, &model);
                lora.dropout = dropout;
                let rows = embedded(&model, &golden);
                differentiate(&model, &rows, golden.get("dlogits"), &lora, kept)
            };
            let expected = outcome(1, usize::MAX);
            for (threads, kept) in [(1, 1), (2, 1), (2, 2)] {
                assert!(
                    outcome(threads, kept) == expected,
                    "{name} {threads} {kept}"
                );
            }
        }
    }
}

/// `(f(p + h d) - f(p - h d)) / 2h` is the gradient times `d`. The function is f32: its rounding,
/// divided by h, and the curve, about h^2, leave some five digits at h = 1e-3.
#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    for (name, dropout) in [
        ("grouped_heads", 0.0),
        ("grouped_heads", 0.3),
        ("wide_heads", 0.0),
    ] {
        let (model, golden) = (open(name, 2), Golden::read(name));
        let mut lora = golden_lora(&golden, &model);
        lora.dropout = dropout;
        let rows = embedded(&model, &golden);
        let dlogits = golden.get("dlogits");
        let Outcome {
            gradients, drows, ..
        } = differentiate(&model, &rows, dlogits, &lora, 1);

        // The direction is the gradient itself, of length 1: no other changes the loss more.
        let all = gradients
            .0
            .iter()
            .flat_map(|(a, b)| a.iter().chain(b))
            .chain(&drows);
        let length = all.map(|&g| g as f64 * g as f64).sum::<f64>().sqrt();
        let loss = |h: f64| {
            let step = |p: &[f32], g: &[f32]| -> Vec<f32> {
                let moved = p
                    .iter()
                    .zip(g)
                    .map(|(&p, &g)| p as f64 + h / length * g as f64);
                moved.map(|p| p as f32).collect()
            };
            let pairs = lora.pairs.0.iter().zip(&gradients.0);
            let moved = Lora {
                pairs: Pairs(
                    pairs
                        .map(|(p, g)| (step(&p.0, &g.0), step(&p.1, &g.1)))
                        .collect(),
                ),
                dropout,
                words: Words::Never,
            };
            let moved_rows = step(&rows, &drows);
            let logits = differentiate(&model, &moved_rows, dlogits, &moved, 1).logits;
            let terms = logits.iter().zip(dlogits);
            terms.map(|(&l, &d)| l as f64 * d as f64).sum::<f64>()
        };
        const H: f64 = 1e-3;
        let slope = (loss(H) - loss(-H)) / (2.0 * H);
        let error = (slope / length - 1.0).abs();
        println!("{name}, dropout {dropout}: slope {slope:.4}, gradient {length:.4}, {error:.1e}");
        assert!(error < 1e-3, "{name}: {slope} is not {length}");
    }
}
