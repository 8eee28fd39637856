//! A step of LoRA training on a graphics device under a budget: what its memory holds, and how long it takes.
//!
//! `bench-gpu <folder> [shape] [quant type] [device] [budget, MiB] [tokens planned for] [tokens run]`; every linear
//! layer has a pair of rank 16. The buffers are for as many tokens as are planned for; a device in software is given
//! fewer to run, since it computes about 1 GFLOP/s.

use std::time::Instant;

use graft::device::{DeviceChoice, DeviceOptions, TrainingRoom};
use graft::memory::Arena;
use graft::model::{
    ActivationPlan, Activations, AdapterView, Dropout, GradientView, LoraGradient, LoraRef,
    LowRank, Model, RowSpan, Site,
};
use graft_benches::random_model;

const RANK: usize = 16;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty, device) = (next("160m"), next("Q4_K"), next("gpu"));
    let mut number = |default: &str| next(default).parse::<usize>().expect("a number");
    let (budget, planned, tokens) = (number("3379"), number("704"), number("704"));
    let (shape, model) = random_model::open(&folder, &shape, &ty, 0)?;
    let device = DeviceOptions {
        device: device.parse::<DeviceChoice>()?,
        memory: Some((budget as u64) << 20),
        training: Some(TrainingRoom {
            tokens: planned,
            rank: RANK,
        }),
        ..DeviceOptions::CPU
    };
    let begun = Instant::now();
    let model = model.on_device(&device)?;
    let (llama, placed) = (model.llama(), begun.elapsed());
    let plan = ActivationPlan {
        tokens: planned,
        layers: llama.own_layers().len(),
        lowest: 0,
        kept: usize::MAX,
        max_rank: RANK,
        dropout: false,
        stream_weights: false,
        inputs_in: None,
        half_inputs: false,
        loss_on_device: false,
        offloaded: 0,
    };
    let mut activations = Activations::new(llama, &plan, &Arena::unlimited())?;
    println!(
        "{} {ty}, room for {planned} tokens, weights placed in {:.1} s",
        shape.name,
        placed.as_secs_f64()
    );
    print_report(&model, "while it trains");

    let lora = Lora::new(&model);
    let mut gradients = Gradients(lora.pairs.iter().map(zeros).collect());
    let mut rows: Vec<f32> = (0..tokens * shape.width)
        .map(|i| ((i * 37 % 101) as f32 / 101.0 - 0.5) * 0.1)
        .collect();
    let begun = Instant::now();
    llama.forward_saving(&mut rows, &[], &lora, &mut activations)?;
    let forward = begun.elapsed().as_secs_f64();
    let mut drows = rows.clone();
    llama.backward(
        &mut drows,
        &[],
        &lora,
        &mut gradients,
        false,
        &mut activations,
    )?;
    let step = begun.elapsed().as_secs_f64();
    let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
    let whole = gradients.0.iter().all(|(da, db)| finite(da) && finite(db));
    assert!(finite(&rows) && whole, "a value that is not finite");
    // Forward and the gradient of activations; the base has none.
    let flop = 4.0 * shape.linear_weights() as f64 * tokens as f64;
    println!(
        "{tokens} tokens: forward {forward:.2} s, with backward {step:.2} s, {:.2} GFLOP/s without what is computed twice",
        flop / step / 1e9
    );
    print_report(&model, "at the end");
    Ok(())
}

fn print_report(model: &Model, when: &str) {
    let report = model.llama().device().expect("a device").report();
    for (part, bytes) in &report.parts {
        println!("  {part:42}{:>9.1} MiB", mib(*bytes));
    }
    let held = report.parts.iter().map(|(_, bytes)| bytes).sum();
    println!(
        "{} runs {} layers: {:.1} of {:.1} MiB {when}",
        report.device,
        report.layers,
        mib(held),
        mib(report.budget)
    );
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A pair for every linear layer.
struct Lora {
    pairs: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Lora {
    fn new(model: &Model) -> Self {
        let shape = model.llama().shape();
        let pair = |site| {
            let (outputs, inputs) = shape.sizes(site).expect("a site of its layers");
            let values = |n: usize| (0..n).map(|i| (i * 31 % 97) as f32 * 1e-4).collect();
            (values(RANK * inputs), values(outputs * RANK))
        };
        Self {
            pairs: Site::of_layers(shape.layers).map(pair).collect(),
        }
    }
}

fn zeros((a, b): &(Vec<f32>, Vec<f32>)) -> (Vec<f32>, Vec<f32>) {
    (vec![0.0; a.len()], vec![0.0; b.len()])
}

impl AdapterView for Lora {
    fn count(&self) -> usize {
        1
    }

    fn term(&self, _: usize, site: Site) -> Option<LoraRef<'_>> {
        let (a, b) = self.pairs.get(site.index())?;
        Some(LoraRef {
            a: LowRank::Floats(a),
            b: LowRank::Floats(b),
            rank: RANK,
            scale: 2.0,
            dropout: Dropout::NONE,
            rows: RowSpan::ALL,
        })
    }

    fn max_rank(&self) -> usize {
        RANK
    }
}

struct Gradients(Vec<(Vec<f32>, Vec<f32>)>);

impl GradientView for Gradients {
    fn at(&mut self, site: Site) -> Option<LoraGradient<'_>> {
        let (da, db) = self.0.get_mut(site.index())?;
        Some(LoraGradient { da, db })
    }
}
