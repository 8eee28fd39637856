//! A training step inside a budget: what the plan says, and what it took.
//!
//! `bench-memory plan|run <folder> <shape> <quant type> <tokens> <learned tokens> <images>
//! <budget in MiB, 0 for none> [steps] [name=value ...]` on a model with random weights, LoRA of rank
//! 16 on every linear layer. `plan` says what an update will take, bytes and seconds, and `run` does
//! some: two processes, so that the one does not count in the other's peak. With images, the sequence
//! begins with them, 576 positions each, and they go through a vision tower of CLIP-L's size first. The
//! last line is JSON. `budgets.py` runs this with limits that the system enforces.

use std::time::Instant;

use graft::image::RgbImage;
use graft::memory::{Arena, anonymous_bytes, peak_bytes};
use graft::model::llava::{Sequence, Span};
use graft::model::{Model, VisionWork};
use graft::tokenizer::IGNORED;
use graft::train::{
    Example, Extent, Features, GradientPlace, Levers, OptimizerKind, Place, TrainOptions,
    TrainPlan, Trainer, Workload, pace, plan,
};
use graft_benches::random_model;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .expect("one more word: see the first lines")
    };
    let (what, folder, shape, ty) = (next(), next(), next(), next());
    let mut number = || next().parse::<usize>().expect("a number");
    let (tokens, learned, images, mib) = (number(), number(), number(), number());
    let steps = arguments.next().map_or(1, |n| n.parse().expect("steps"));
    let mut options = TrainOptions {
        steps: Some(steps),
        warmup_ratio: 0.0,
        ..TrainOptions::default()
    };
    arguments.for_each(|word| set(&mut options, &word));
    let (_, model) = random_model::open_with_vision(&folder, &shape, &ty, 0, images > 0)?;
    let extent = Extent {
        tokens,
        learned,
        image: images > 0,
    };
    let work = Workload::new([extent], images);
    let budget = (mib > 0).then_some((mib as u64) << 20);
    options.levers.folder = Some(folder.into());
    let planned = plan(&model, &options, &work, None, budget)?;
    show(&planned);
    if what == "plan" {
        let pace = pace(&model, &options, &work, &planned)?;
        for part in &pace.parts {
            println!("{:44} {:9.2} s", part.name, part.seconds);
        }
        println!(
            "{{\"planned_mib\": {:.1}, \"seconds\": {:.3}, \"image_seconds\": {:.3}, \"smallest_mib\": {:.1}}}",
            as_mib(planned.peak_bytes),
            pace.seconds_per_step,
            pace.seconds_per_image,
            as_mib(planned.smallest_bytes),
        );
        return Ok(());
    }
    options.levers = planned.levers.clone();
    let begun = Instant::now();
    let features = see(&model, &planned, images)?;
    let image_seconds = begun.elapsed().as_secs_f64() / images.max(1) as f64;
    let example = example(tokens, learned, features);
    let mut trainer = Trainer::new(model, options, vec![example], None)?;
    let mut took = vec![];
    while let Some(report) = trainer.step()? {
        let seconds = report.duration.as_secs_f64();
        println!(
            "step {}: {seconds:.2} s, loss {:.6}, gradient {:.6}",
            report.step, report.loss, report.grad_norm
        );
        took.push(format!("{seconds:.3}"));
    }
    println!(
        "{{\"planned_mib\": {:.1}, \"peak_mib\": {:.1}, \"planned_anonymous_mib\": {:.1}, \"anonymous_mib\": {:.1}, \"image_seconds\": {image_seconds:.3}, \"seconds\": [{}]}}",
        as_mib(planned.peak_bytes),
        as_mib(peak_bytes().unwrap_or(0)),
        as_mib(planned.memory.anonymous_peak()),
        as_mib(anonymous_bytes().unwrap_or(0)),
        took.join(", "),
    );
    Ok(())
}

/// One option by hand, such as `kept=1` or `weights=disk`.
fn set(options: &mut TrainOptions, word: &str) {
    let (name, value) = word.split_once('=').expect("name=value");
    let place = match value {
        "disk" => Some(Place::Disk),
        _ => Some(Place::Memory),
    };
    let Levers {
        kept_layers,
        weights,
        inputs,
        gradients,
        moments,
        ..
    } = &mut options.levers;
    match name {
        "kept" => *kept_layers = Some(value.parse().expect("layers")),
        "weights" => *weights = place,
        "inputs" => *inputs = place,
        "moments" => *moments = place,
        "gradients" => *gradients = (value == "layer").then_some(GradientPlace::Layer),
        "clip" => options.clip = value.parse().expect("a norm"),
        "optimizer" if value == "adamw8bit" => options.optimizer = OptimizerKind::AdamW8bit,
        _ => panic!("{word} is no option"),
    }
}

/// The features of some images, all different, with the tower's memory given back.
fn see(model: &Model, planned: &TrainPlan, images: usize) -> graft::Result<Vec<Features>> {
    let Some(vision) = model.vision().filter(|_| images > 0) else {
        return Ok(vec![]);
    };
    let side = vision.tower().shape().image_size;
    let arena = Arena::new(planned.memory);
    let mut work = VisionWork::new(vision.tower(), &arena)?;
    let features = (0..images).map(|image| {
        let pixels = (0..3 * side * side).map(|i| (i * 31 + image * 7) as u8);
        let image = RgbImage::new(side, side, pixels.collect()).expect("a whole image");
        let pool = model.llama().pool();
        Features::new(pool.run(|| vision.features(&image, &mut work)))
    });
    let features = features.collect();
    vision.release();
    Ok(features)
}

/// Images first, then text, whose last tokens are learned.
fn example(tokens: usize, learned: usize, features: Vec<Features>) -> Example {
    const PATCHES: usize = 576;
    let shown = features.len() * PATCHES;
    let ids: Vec<u32> = (shown..tokens)
        .map(|i| (3 + i * 7919 % 31_000) as u32)
        .collect();
    let label = |position: usize| match position + learned >= tokens {
        true => ids[position - shown] as i32,
        false => IGNORED,
    };
    let labels = (0..tokens).map(label).collect();
    let images = (0..features.len()).map(|image| Span::Image {
        image,
        rows: PATCHES,
    });
    let mut spans: Vec<Span> = images.collect();
    spans.push(Span::Tokens(ids));
    Example {
        id: "random".into(),
        sequence: Sequence { labels, spans },
        features,
    }
}

fn show(planned: &TrainPlan) {
    for (part, bytes) in planned.memory.parts() {
        println!("{:44} {:9.1} MiB", part.name(), as_mib(bytes));
    }
    for (name, bytes) in [
        ("planned peak", planned.peak_bytes),
        ("smallest budget", planned.smallest_bytes),
    ] {
        println!("{name:44} {:9.1} MiB", as_mib(bytes));
    }
    println!("{:?}", planned.levers);
}

fn as_mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
