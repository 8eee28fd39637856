//! A training step inside a budget: what the plan says, and what it took.
//!
//! `bench-memory <folder> <shape> <quant type> <tokens> <learned tokens> <budget in MiB, 0 for none>`
//! on a model with random weights, LoRA of rank 16 on every linear layer. `limited.sh` runs it (or
//! anything) with a limit that the system enforces.

use std::time::Instant;

use graft::memory::peak_bytes;
use graft::model::llava::{Sequence, Span};
use graft::tokenizer::IGNORED;
use graft::train::{Example, Extent, TrainOptions, Trainer, Workload, measured_flops, plan};
use graft_benches::random_model;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("160m"), next("Q4_K"));
    let mut number = |default: &str| -> usize { next(default).parse().expect("a number") };
    let (tokens, learned, mib) = (number("512"), number("512"), number("0"));
    let (_, model) = random_model::open(&folder, &shape, &ty, 0)?;
    let mut options = TrainOptions {
        steps: Some(2),
        warmup_ratio: 0.0,
        ..TrainOptions::default()
    };
    let extent = Extent {
        tokens,
        learned,
        image: false,
    };
    let work = Workload::new([extent], 0);
    let budget = (mib > 0).then_some((mib as u64) << 20);
    let planned = plan(&model, &options, &work, None, budget)?;
    let as_mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    for part in planned.memory.parts() {
        println!("{:44} {:9.1} MiB", part.name, as_mib(part.bytes));
    }
    println!(
        "{:44} {:9.1} MiB",
        "planned peak",
        as_mib(planned.peak_bytes)
    );
    println!(
        "{:44} {:9.1} MiB",
        "smallest budget",
        as_mib(planned.smallest_bytes)
    );
    println!("{:?}", planned.levers);
    options.levers = planned.levers.clone();
    options.levers.folder = Some(folder.into());
    let flops = measured_flops(&model);
    let ids: Vec<u32> = (0..tokens as u32).map(|i| 3 + i * 7919 % 31_000).collect();
    // The first position has nothing before it to learn from.
    let labels = ids
        .iter()
        .enumerate()
        .map(|(i, &id)| match i + learned >= tokens {
            true => id as i32,
            false => IGNORED,
        });
    let example = Example {
        id: "random".into(),
        sequence: Sequence {
            labels: labels.collect(),
            spans: vec![Span::Tokens(ids)],
        },
        features: vec![],
    };
    let mut trainer = Trainer::new(model, options, vec![example], None)?;
    loop {
        let begun = Instant::now();
        let Some(report) = trainer.step()? else {
            break;
        };
        let took = begun.elapsed().as_secs_f64();
        println!(
            "step {}: {took:.2} s, {:.2} of what was predicted; loss {:.6}, gradient {:.6}",
            report.step,
            took / (planned.flops_per_step / flops),
            report.loss,
            report.grad_norm,
        );
    }
    let peak = peak_bytes().unwrap_or(0);
    println!(
        "{:44} {:9.1} MiB, {:.2} of the plan",
        "peak resident memory",
        as_mib(peak),
        peak as f64 / planned.peak_bytes as f64
    );
    Ok(())
}
