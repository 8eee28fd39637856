//! Tokens per second of LoRA training: whole updates of a model with random weights.
//!
//! `bench-train <folder> [shape] [quant type] [tokens] [threads] [kept layers, or all] [f32 or words]`; every position is
//! learned, every linear layer has a pair of rank 16, frozen ones are multiplied so. `peers.py` has this and PyTorch with PEFT take turns.

use graft::model::llava::{Sequence, Span};
use graft::train::{Example, Levers, ProductKind, TrainOptions, Trainer};
use graft_benches::turns::{self, Kind};
use graft_benches::{Work, random_model};

fn main() -> graft::Result<()> {
    let mut arguments = turns::arguments();
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("160m"), next("Q4_0"));
    let tokens: usize = next("512").parse().expect("a number of tokens");
    let threads: usize = next("0").parse().expect("a number of threads");
    let kept_layers = match next("all").as_str() {
        "all" => None,
        number => Some(number.parse().expect("a number of layers, or all")),
    };
    let products = match next("f32").as_str() {
        "f32" => ProductKind::F32,
        "words" => ProductKind::Words,
        other => panic!("{other}: products are f32 or words"),
    };

    let (shape, model) = random_model::open(&folder, &shape, &ty, threads)?;
    let threads = model.llama().pool().threads();
    let ids: Vec<u32> = (0..tokens as u32).map(|i| 3 + i * 7919 % 31_000).collect();
    let example = Example {
        id: "random".into(),
        sequence: Sequence {
            labels: ids.iter().map(|&id| id as i32).collect(),
            spans: vec![Span::Tokens(ids)],
        },
        features: vec![],
    };
    let options = TrainOptions {
        steps: Some(1_000_000),
        // Learning rates that begin near zero make values so small that processors slow down, as no run does.
        warmup_ratio: 0.0,
        products,
        levers: Levers {
            kept_layers,
            ..Levers::default()
        },
        ..TrainOptions::default()
    };
    let rank = options.rank;
    let mut trainer = Trainer::new(model, options, vec![example], None)?;
    let again = shape.layers - kept_layers.unwrap_or(shape.layers).min(shape.layers);
    let mut name = format!("{} {ty}, LoRA step of {tokens}", shape.name);
    if again > 0 {
        name += &format!(", {again} recomputed");
    }
    if products == ProductKind::Words {
        name += ", words";
    }
    let update = Kind {
        name,
        work: Work::Flop(shape.lora_update_flop(tokens, rank, again)),
        count: tokens,
        units: "tokens",
    };
    turns::take(&[update], threads, &[], |_| {
        trainer.step().expect("random weights give finite losses");
    });
    Ok(())
}
