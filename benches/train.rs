//! Tokens per second of LoRA training: whole updates of a model with random weights.
//!
//! `bench-train <folder> [shape] [quant type] [tokens] [threads] [kept layers]`; every position is
//! learned, every linear layer has a pair of rank 16. `peers.py` runs this beside PyTorch and PEFT.

use std::time::Instant;

use graft::model::llava::{Sequence, Span};
use graft::train::{Example, Levers, TrainOptions, Trainer};
use graft_benches::limits::Limits;
use graft_benches::{Work, peak_resident_mib, print_row, random_model, time};

/// Updates that are held against the peak of their moment.
const UPDATES: usize = 7;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("160m"), next("Q4_0"));
    let tokens: usize = next("512").parse().expect("a number of tokens");
    let threads: usize = next("0").parse().expect("a number of threads");
    let kept_layers = arguments.next();
    let kept_layers = kept_layers.map(|n| n.parse().expect("a number of layers"));

    let (shape, model) = random_model::open(&folder, &shape, &ty, threads)?;
    let threads = model.llama().pool().threads();
    let limits = Limits::measure(threads);
    limits.print();
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
        levers: Levers {
            kept_layers,
            ..Levers::default()
        },
        ..TrainOptions::default()
    };
    let rank = options.rank;
    let mut trainer = Trainer::new(model, options, vec![example], None)?;
    let step = time(|| {
        trainer.step().expect("random weights give finite losses");
    });
    let again = shape.layers - kept_layers.unwrap_or(shape.layers).min(shape.layers);
    let name = match again {
        0 => format!("{} {ty}, LoRA step of {tokens}", shape.name),
        _ => format!(
            "{} {ty}, LoRA step of {tokens}, {again} recomputed",
            shape.name
        ),
    };
    let flop = shape.lora_update_flop(tokens, rank, again);
    print_row(
        &name,
        step,
        Work::Flop(flop),
        threads,
        &limits,
        &format!("{:.1} tokens/s", tokens as f64 / step.median.as_secs_f64()),
    );
    let mut share = || {
        let before = Limits::gflops_now(threads);
        let start = Instant::now();
        trainer.step().expect("random weights give finite losses");
        let rate = flop / start.elapsed().as_secs_f64() / 1e9;
        2.0 * rate / (before + Limits::gflops_now(threads))
    };
    let mut shares: Vec<f64> = (0..UPDATES).map(|_| share()).collect();
    shares.sort_by(f64::total_cmp);
    let [median, best] = [shares[UPDATES / 2], shares[UPDATES - 1]].map(|share| 100.0 * share);
    println!(
        "of the peak right before and after each of {UPDATES} updates {median:.0} % (best {best:.0} %)"
    );
    println!("peak resident memory {:.0} MiB", peak_resident_mib());
    Ok(())
}
