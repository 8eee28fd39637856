//! Samples that run together compute what they compute alone.

#[path = "../model/closeness.rs"]
mod closeness;
#[path = "../model/golden.rs"]
#[allow(dead_code)] // only the models are of use here
mod golden;

mod lora;

use closeness::relative_error;
use golden::open;
use graft::model::Model;
use graft::model::llava::splice;
use graft::train::{
    Example, Levers, Place, StepReport, TrainOptions, Trainer, Workload, checkpoint, plan,
};
use lora::{Lora, Outcome, differentiate, differentiate_packed};

/// Few and many rows are summed in other orders, each off by some 1e-6 of the largest value at most.
const WITHIN: f32 = 3e-6;
const SHAPES: [&str; 2] = ["grouped_heads", "wide_heads"];
/// Of the sequences of a pack: more and fewer than the rows that threads take at once.
const LENGTHS: [usize; 5] = [7, 40, 1, 19, 3];

fn ends() -> Vec<usize> {
    let mut end = 0;
    let grow = |len| {
        end += len;
        end
    };
    LENGTHS.into_iter().map(grow).collect()
}

/// Embeddings of a sequence: `[len, W]`.
fn rows(model: &Model, len: usize, seed: usize) -> Vec<f32> {
    let ids: Vec<u32> = (0..len)
        .map(|t| ((t * 7 + seed * 5) % 60 + 1) as u32)
        .collect();
    let mut rows = vec![0.0; len * model.llama().shape().width];
    model.llama().embed(&mut rows, &ids).unwrap();
    rows
}

fn dlogits(model: &Model, len: usize, seed: usize) -> Vec<f32> {
    let n = len * model.llama().shape().vocabulary;
    let wave = (0..n).map(|i| ((i * 31 + seed * 17) % 103) as f32 / 103.0 - 0.5);
    wave.collect()
}

/// One pack of sequences with these seeds.
fn packed(model: &Model, lora: &Lora, seeds: [usize; 5], kept: usize) -> Outcome {
    let each = || LENGTHS.into_iter().zip(seeds);
    let all: Vec<f32> = each().flat_map(|(n, s)| rows(model, n, s)).collect();
    let d: Vec<f32> = each().flat_map(|(n, s)| dlogits(model, n, s)).collect();
    differentiate_packed(model, (&all, &ends()), &d, lora, kept)
}

/// Where the numbers of sequence `i` are in an array with `width` numbers a row.
fn part(i: usize, width: usize) -> std::ops::Range<usize> {
    let end = ends()[i];
    (end - LENGTHS[i]) * width..end * width
}

#[test]
fn a_pack_has_the_logits_and_gradients_of_its_sequences() {
    for name in SHAPES {
        let model = open(name, 2);
        let (width, vocabulary) = {
            let shape = model.llama().shape();
            (shape.width, shape.vocabulary)
        };
        let lora = Lora::random(&model, 0.0);
        let together = packed(&model, &lora, [0, 1, 2, 3, 4], 1);
        let mut sums: Vec<(Vec<f32>, Vec<f32>)> = vec![];
        for (i, len) in LENGTHS.into_iter().enumerate() {
            let (x, d) = (rows(&model, len, i), dlogits(&model, len, i));
            let alone = differentiate(&model, &x, &d, &lora, 1);
            let logits = relative_error(&together.logits[part(i, vocabulary)], &alone.logits);
            let drows = relative_error(&together.drows[part(i, width)], &alone.drows);
            println!("{name} {len}: logits {logits:.1e}, rows {drows:.1e}");
            assert!(logits < WITHIN && drows < WITHIN, "{name} {len}");
            if i == 0 {
                sums = alone.gradients.0;
                continue;
            }
            for (sum, pair) in sums.iter_mut().zip(alone.gradients.0) {
                let add =
                    |a: &mut Vec<f32>, b: Vec<f32>| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                add(&mut sum.0, pair.0);
                add(&mut sum.1, pair.1);
            }
        }
        for (got, want) in together.gradients.0.iter().zip(&sums) {
            let error = relative_error(&got.0, &want.0).max(relative_error(&got.1, &want.1));
            assert!(error < WITHIN, "{name}: {error:e}");
        }
    }
}

#[test]
fn neighbours_change_no_bit_of_a_sequence() {
    for name in SHAPES {
        let model = open(name, 2);
        let lora = Lora::random(&model, 0.0);
        let first = packed(&model, &lora, [0, 1, 2, 3, 4], 2);
        let second = packed(&model, &lora, [0, 11, 2, 13, 4], 2);
        let shape = model.llama().shape();
        for i in 0..LENGTHS.len() {
            let same = i % 2 == 0;
            let logits = part(i, shape.vocabulary);
            assert_eq!(first.logits[logits.clone()] == second.logits[logits], same);
            let rows = part(i, shape.width);
            assert_eq!(first.drows[rows.clone()] == second.drows[rows], same);
        }
    }
}

#[test]
fn threads_and_recomputation_change_no_bit_of_a_pack() {
    for name in SHAPES {
        for dropout in [0.0, 0.3] {
            let outcome = |threads, kept| {
                let model = open(name, threads);
                packed(
                    &model,
                    &Lora::random(&model, dropout),
                    [0, 1, 2, 3, 4],
                    kept,
                )
            };
            let want = outcome(1, usize::MAX);
            let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
            assert!(finite(&want.logits) && finite(&want.drows));
            for (threads, kept) in [(1, 1), (2, 1), (3, 2)] {
                assert!(outcome(threads, kept) == want, "{name} {threads} {kept}");
            }
        }
    }
}

fn examples() -> Vec<Example> {
    let example = |i: i32| {
        let ids: Vec<i32> = (0..3 + i * i % 11)
            .map(|t| (t * 7 + i * 3) % 60 + 1)
            .collect();
        Example {
            id: format!("sample {i}"),
            sequence: splice(&ids, &ids, 0, 64),
            features: Vec::new(),
        }
    };
    (0..23).map(example).collect()
}

fn options() -> TrainOptions {
    TrainOptions {
        rank: 4,
        epochs: 4,
        batch: 2,
        lr: 1e-2,
        max_len: 24,
        packing: true,
        ..TrainOptions::default()
    }
}

fn trainer(threads: usize, options: TrainOptions) -> Trainer {
    Trainer::new(open("grouped_heads", threads), options, examples(), None).unwrap()
}

fn finish(trainer: &mut Trainer) -> Vec<StepReport> {
    std::iter::from_fn(|| trainer.step().unwrap()).collect()
}

fn bits(trainer: &Trainer) -> Vec<u32> {
    let arrays = trainer.parameters().arrays();
    let values = arrays.iter().flat_map(|a| a.iter());
    values.map(|v| v.to_bits()).collect()
}

/// One update of all samples, so that both ways see the same.
#[test]
fn an_update_of_packs_is_that_of_their_samples() {
    let update = |packing, batch| {
        let mut trainer = trainer(
            2,
            TrainOptions {
                packing,
                batch,
                ..options()
            },
        );
        let report = trainer.step().unwrap().unwrap();
        let gradients = trainer.gradients().arrays().concat();
        (report, gradients, trainer.packs().len())
    };
    let (alone, gradients, samples) = update(false, 100);
    let (together, same, packs) = update(true, 100);
    assert_eq!(samples, 23);
    assert!(packs < 12, "{packs} packs");
    assert_eq!(
        (alone.tokens, alone.learned_tokens),
        (together.tokens, together.learned_tokens)
    );
    let loss = (alone.loss / together.loss - 1.0).abs();
    let error = relative_error(&same, &gradients);
    println!("loss {loss:.1e}, gradients {error:.1e}");
    assert!(loss < 1e-6 && error < WITHIN, "{loss:e} {error:e}");
}

#[test]
fn an_epoch_counts_packs_and_sees_every_sample() {
    let mut trainer = trainer(2, options());
    let packs = trainer.packs().len();
    let updates = packs.div_ceil(2);
    assert_eq!(trainer.steps(), 4 * updates as u64);
    let all: u64 = examples().iter().map(|e| e.sequence.len() as u64).sum();
    let reports = finish(&mut trainer);
    for epoch in reports.chunks(updates) {
        assert_eq!(epoch.iter().map(|r| r.tokens).sum::<u64>(), all);
    }
    let [first, last] = [0, 3].map(|n| {
        let epoch = &reports[n * updates..][..updates];
        epoch.iter().map(|r| r.loss).sum::<f64>()
    });
    assert!(last < 0.9 * first, "{last} {first}");
}

#[test]
fn a_packed_run_repeats_with_any_threads_and_goes_on_from_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    for (dropout, group_by_modality_length, levers) in [
        (0.0, false, Levers::default()),
        (
            0.1,
            true,
            Levers {
                kept_layers: Some(1),
                weights: Some(Place::Disk),
                inputs: Some(Place::Disk),
                folder: Some(folder.path().to_owned()),
                ..Levers::default()
            },
        ),
    ] {
        let options = TrainOptions {
            dropout,
            group_by_modality_length,
            ..options()
        };
        let mut whole = trainer(1, options.clone());
        let losses: Vec<u64> = finish(&mut whole)
            .iter()
            .map(|r| r.loss.to_bits())
            .collect();
        let run = tempfile::tempdir().unwrap();
        let lean = TrainOptions { levers, ..options };
        let mut stopped = trainer(2, lean.clone());
        for want in &losses[..7] {
            assert_eq!(stopped.step().unwrap().unwrap().loss.to_bits(), *want);
        }
        stopped.save(run.path()).unwrap();
        drop(stopped);
        let mut resumed = trainer(3, lean.clone());
        resumed
            .resume(&checkpoint::latest(run.path()).unwrap())
            .unwrap();
        for want in &losses[7..] {
            assert_eq!(resumed.step().unwrap().unwrap().loss.to_bits(), *want);
        }
        assert_eq!(bits(&resumed), bits(&whole));
        // Packs are part of the course.
        let unpacked = TrainOptions {
            packing: false,
            ..lean
        };
        let refused = trainer(1, unpacked).resume(&checkpoint::latest(run.path()).unwrap());
        assert!(refused.unwrap_err().to_string().contains("the options"));
    }
}

#[test]
fn looking_at_other_samples_is_the_same_in_packs() {
    let loss = |packing| {
        let mut trainer = trainer(
            2,
            TrainOptions {
                packing,
                ..options()
            },
        );
        trainer.evaluate(&examples()).unwrap()
    };
    let (alone, together) = (loss(false), loss(true));
    assert!((alone / together - 1.0).abs() < 1e-6, "{alone} {together}");
}

#[test]
fn the_plan_knows_packs() {
    let model = open("grouped_heads", 2);
    let work = Workload::of(&examples());
    let options = options();
    let alone = TrainOptions {
        packing: false,
        ..options.clone()
    };
    let trainer = trainer(2, options.clone());
    let packed = plan(&model, &options, &work, None, None).unwrap();
    let unpacked = plan(&model, &alone, &work, None, None).unwrap();
    let longest = trainer.packs().iter().map(|p| p.rows()).max().unwrap();
    assert_eq!(
        (packed.packs, packed.rows),
        (trainer.packs().len(), longest)
    );
    assert_eq!(packed.steps, trainer.steps());
    assert_eq!((unpacked.packs, unpacked.rows), (23, work.longest));
    assert!(packed.peak_bytes > unpacked.peak_bytes, "more rows at once");
    // An epoch is the same arithmetic.
    let flops = |plan: &graft::train::TrainPlan| plan.flops_per_step * plan.packs as f64;
    let ratio = flops(&packed) / flops(&unpacked);
    assert!((ratio - 1.0).abs() < 1e-9, "{ratio}");
}
