//! Gradients of the whole language model: against PyTorch and PEFT, against themselves with
//! recomputation and other thread counts, and against the function they are derivatives of.

#[path = "../model/golden.rs"]
mod golden;

use golden::{Golden, open, relative_error};
use graft::model::{
    ActivationPlan, Activations, AdapterView, Dropout, GradientView, LoraGradient, LoraRef, Model,
    Site,
};

const SHAPES: [&str; 2] = ["grouped_heads", "wide_heads"];
const RANK: usize = 4;

/// One pair of arrays for each site: A and B, or their gradients.
#[derive(Clone, PartialEq)]
struct Pairs(Vec<(Vec<f32>, Vec<f32>)>);

struct Lora {
    pairs: Pairs,
    dropout: f32,
}

impl AdapterView for Lora {
    fn count(&self) -> usize {
        1
    }
    fn term(&self, _: usize, site: Site) -> Option<LoraRef<'_>> {
        let (a, b) = &self.pairs.0[site.index()];
        Some(LoraRef {
            a,
            b,
            rank: RANK,
            scale: 2.0,
            dropout: Dropout {
                rate: self.dropout,
                seed: 7,
                stream: site.index() as u64,
                first: 0,
            },
        })
    }
    fn max_rank(&self) -> usize {
        RANK
    }
}

impl GradientView for Pairs {
    fn at(&mut self, site: Site) -> Option<LoraGradient<'_>> {
        let (da, db) = &mut self.0[site.index()];
        Some(LoraGradient { da, db })
    }
}

impl Lora {
    fn golden(golden: &Golden, model: &Model) -> Self {
        let pair = |site| {
            (
                golden.get(&format!("{site}.a")).to_vec(),
                golden.get(&format!("{site}.b")).to_vec(),
            )
        };
        Self {
            pairs: Pairs(Site::all(model.llama().shape().layers).map(pair).collect()),
            dropout: 0.0,
        }
    }
}

/// Logits `[T, V]`, gradients of A and B, gradient of the rows `[T, W]`.
type Outcome = (Vec<f32>, Pairs, Vec<f32>);

/// Forward and backward of `sum(logits * dlogits)`.
fn differentiate(
    model: &Model,
    rows: &[f32],
    dlogits: &[f32],
    lora: &Lora,
    kept: usize,
) -> Outcome {
    let llama = model.llama();
    let shape = llama.shape();
    let tokens = rows.len() / shape.width;
    let plan = ActivationPlan {
        tokens: tokens + 3,
        lowest: 0,
        kept,
        max_rank: RANK,
        dropout: lora.dropout > 0.0,
    };
    let mut activations = Activations::new(llama, &plan);
    let mut stream = rows.to_vec();
    llama.forward_saving(&mut stream, lora, &mut activations);
    let (mut normed, mut inv_rms) = (vec![0.0; rows.len()], vec![0.0; tokens]);
    llama.final_norm(&mut normed, &mut inv_rms, &stream);
    let mut logits = vec![0.0; tokens * shape.vocabulary];
    llama.logits(&mut logits, &normed);

    let mut dnormed = vec![0.0; rows.len()];
    llama.output().backward(&mut dnormed, dlogits);
    let mut drows = vec![0.0; rows.len()];
    llama.final_norm_backward(&mut drows, &dnormed, &stream, &inv_rms);
    let zeros = |(a, b): &(Vec<f32>, Vec<f32>)| (vec![0.0; a.len()], vec![0.0; b.len()]);
    let mut gradients = Pairs(lora.pairs.0.iter().map(zeros).collect());
    llama.backward(&mut drows, lora, &mut gradients, true, &mut activations);
    (logits, gradients, drows)
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
        let lora = Lora::golden(&golden, &model);
        let rows = embedded(&model, &golden);
        let dlogits = golden.get("dlogits");
        let (logits, gradients, drows) = differentiate(&model, &rows, dlogits, &lora, usize::MAX);
        let mut worst = 0f32;
        let mut check = |what: &str, got: &[f32], want: &str| {
            let error = relative_error(got, golden.get(want));
            worst = worst.max(error);
            assert!(error < 1e-5, "{name} {what}: {error:e}");
        };
        check("logits", &logits, "adapted_logits");
        check("drows", &drows, "drows");
        for site in Site::all(model.llama().shape().layers) {
            let (da, db) = &gradients.0[site.index()];
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
                let mut lora = Lora::golden(&golden, &model);
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
        let mut lora = Lora::golden(&golden, &model);
        lora.dropout = dropout;
        let rows = embedded(&model, &golden);
        let dlogits = golden.get("dlogits");
        let (_, gradients, drows) = differentiate(&model, &rows, dlogits, &lora, 1);

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
            };
            let (logits, ..) = differentiate(&model, &step(&rows, &drows), dlogits, &moved, 1);
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
