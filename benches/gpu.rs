//! A step of LoRA training on a graphics device under a budget: what its memory holds, and how long it takes.
//!
//! `bench-gpu <folder> [shape] [quant type] [device] [budget, MiB] [tokens planned for] [tokens run]`; every linear
//! layer has a pair of rank 16. The buffers are for as many tokens as are planned for; a device in software is given
//! fewer to run, since it computes about 1 GFLOP/s. A slice of a model, "7b:2" has two layers of it, is run on the
//! processor too and the results are compared.

use std::time::Instant;

use graft::device::{DeviceChoice, DeviceOptions, TrainingRoom};
use graft::memory::Arena;
use graft::model::{
    ActivationPlan, Activations, AdapterView, Dropout, GradientView, LoraGradient, LoraRef,
    LowRank, Model, RowSpan, Site, Words,
};
use graft_benches::random_model;

const RANK: usize = 16;
/// Layers that the processor computes too.
const SLICE: usize = 4;

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
    let placed_model = model.on_device(&device)?;
    let placed = begun.elapsed();
    println!(
        "{} {ty}, {} layers, room for {planned} tokens, weights placed in {:.1} s",
        shape.name,
        shape.layers,
        placed.as_secs_f64()
    );
    let mut step = Step::new(&placed_model, planned)?;
    print_report(&placed_model, "while it trains");
    let seconds = step.run(&placed_model, tokens)?;
    // Forward and the gradient of activations; the base has none.
    let flop = 4.0 * shape.linear_weights() as f64 * tokens as f64;
    println!(
        "{tokens} tokens: forward {:.2} s, backward {:.2} s, {:.2} GFLOP/s without what is computed twice",
        seconds[0],
        seconds[1],
        flop / (seconds[0] + seconds[1]) / 1e9
    );
    print_report(&placed_model, "at the end");
    if shape.layers <= SLICE {
        let mut again = Step::new(&model, planned)?;
        again.run(&model, tokens)?;
        let far = [
            distance(&step.rows, &again.rows),
            distance(&step.drows, &again.drows),
            step.gradients.distance(&again.gradients),
        ];
        println!(
            "beside the processor: rows differ by {:.1e} of their largest, their gradients by {:.1e}, the adapter's by {:.1e} of their length",
            far[0], far[1], far[2]
        );
        assert!(
            far.iter().all(|&far| far < 1e-3),
            "the device computes something else"
        );
    }
    Ok(())
}

/// Buffers and results of one update's passes.
struct Step {
    lora: Lora,
    activations: Activations,
    gradients: Gradients,
    rows: Vec<f32>,
    drows: Vec<f32>,
}

impl Step {
    fn new(model: &Model, planned: usize) -> graft::Result<Self> {
        let mut plan = ActivationPlan {
            tokens: planned,
            layers: model.llama().own_layers().len(),
            lowest: 0,
            kept: usize::MAX,
            max_rank: RANK,
            dropout: false,
            stream_weights: false,
            inputs_in: None,
            half_inputs: false,
            words: Words::Never,
            loss_on_device: false,
            offloaded: 0,
            host_inputs: 0,
        };
        if let Some(device) = model.llama().device() {
            let layers = model.llama().layers().len();
            let host_inputs = plan.clone().beside(device.kept(&plan), layers).host_inputs;
            plan.host_inputs = host_inputs;
        }
        let lora = Lora::new(model);
        Ok(Self {
            activations: Activations::new(model.llama(), &plan, &Arena::unlimited())?,
            gradients: Gradients(lora.pairs.iter().map(zeros).collect()),
            lora,
            rows: Vec::new(),
            drows: Vec::new(),
        })
    }

    /// Seconds of forward and of backward.
    fn run(&mut self, model: &Model, tokens: usize) -> graft::Result<[f64; 2]> {
        let llama = model.llama();
        self.rows = (0..tokens * llama.shape().width)
            .map(|i| ((i * 37 % 101) as f32 / 101.0 - 0.5) * 0.1)
            .collect();
        let begun = Instant::now();
        let (rows, saved) = (&mut self.rows, &mut self.activations);
        llama.forward_saving(rows, &[], &self.lora, saved)?;
        let forward = begun.elapsed().as_secs_f64();
        self.drows = rows.clone();
        let drows = &mut self.drows;
        llama.backward(drows, &[], &self.lora, &mut self.gradients, true, saved)?;
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        let mut pairs = self.gradients.0.iter();
        let whole = pairs.all(|(da, db)| finite(da) && finite(db));
        assert!(
            finite(&self.rows) && finite(&self.drows) && whole,
            "a value that is not finite"
        );
        Ok([forward, begun.elapsed().as_secs_f64() - forward])
    }
}

/// The largest difference, of the largest value.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0.0, f32::max);
    let differences = &mut a.iter().zip(b).map(|(a, b)| a - b);
    largest(differences) / largest(&mut b.iter().copied()).max(f32::MIN_POSITIVE)
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

impl Gradients {
    /// The length of the difference, of the length. A pair whose gradient is a difference of nearly equal terms
    /// has few digits of its own: on both sides.
    fn distance(&self, other: &Self) -> f32 {
        let values = |of: &Self| {
            let pairs = of.0.iter().flat_map(|(da, db)| [da, db]);
            pairs.flatten().copied().map(f64::from).collect::<Vec<_>>()
        };
        let length =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let (here, there) = (values(self), values(other));
        let difference = length(&mut here.iter().zip(&there).map(|(a, b)| a - b));
        (difference / length(&mut there.iter().copied())) as f32
    }
}

impl GradientView for Gradients {
    fn at(&mut self, site: Site) -> Option<LoraGradient<'_>> {
        let (da, db) = self.0.get_mut(site.index())?;
        Some(LoraGradient { da, db })
    }
}
