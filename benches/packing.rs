//! What packing gains on short samples: updates of the same samples, alone and packed, in turn.
//!
//! `bench-packing <folder> [shape] [quant type] [samples] [mean tokens] [rounds]` on a model with random
//! weights, LoRA of rank 16 on every linear layer. Samples have half to one and a half times the mean
//! tokens, the second half of which are learned; an update sees all of them.

use std::time::{Duration, Instant};

use graft::model::llava::{Sequence, Span};
use graft::tokenizer::IGNORED;
use graft::train::{Example, TrainOptions, Trainer};
use graft_benches::random_model;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("160m"), next("Q4_K"));
    let mut number = |default: &str| -> usize { next(default).parse().expect("a number") };
    let (samples, mean, rounds) = (number("16"), number("48"), number("5"));
    let (_, model) = random_model::open(&folder, &shape, &ty, 0)?;
    let example = |i: usize| {
        let tokens = mean / 2 + i * 7919 % mean;
        let ids: Vec<u32> = (0..tokens)
            .map(|t| (3 + (t * 31 + i) * 7919 % 31_000) as u32)
            .collect();
        let label = |(t, &id): (usize, &u32)| match t < tokens / 2 {
            true => IGNORED,
            false => id as i32,
        };
        Example {
            id: format!("random {i}"),
            sequence: Sequence {
                labels: ids.iter().enumerate().map(label).collect(),
                spans: vec![Span::Tokens(ids)],
            },
            features: vec![],
        }
    };
    let examples: Vec<Example> = (0..samples).map(example).collect();
    let trainer = |packing| {
        let options = TrainOptions {
            steps: Some(u64::MAX),
            batch: samples,
            packing,
            ..TrainOptions::default()
        };
        Trainer::new(model.clone(), options, examples.clone(), None)
    };
    let mut ways = [trainer(false)?, trainer(true)?];
    println!(
        "{samples} samples in {} packs, the longest of {} rows",
        ways[1].packs().len(),
        ways[1].packs().iter().map(|p| p.rows()).max().unwrap_or(0)
    );
    let mut took: [Vec<Duration>; 2] = [vec![], vec![]];
    // The first round reads the weights from the disk.
    for round in 0..=rounds {
        for (way, took) in ways.iter_mut().zip(&mut took) {
            let begun = Instant::now();
            way.step()?;
            if round > 0 {
                took.push(begun.elapsed());
            }
        }
    }
    let mut ratios: Vec<f64> = took[0]
        .iter()
        .zip(&took[1])
        .map(|(alone, packed)| alone.as_secs_f64() / packed.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    let [alone, packed] = took.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    });
    println!(
        "{shape} {ty}, mean {mean} tokens: alone {alone:.3} s, packed {packed:.3} s; \
         {:.2} times as fast ({:.2} to {:.2})",
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1]
    );
    Ok(())
}
