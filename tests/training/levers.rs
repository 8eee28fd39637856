//! What a run does to need less memory: exact where it says so, close where it does not, and every
//! buffer as large as planned.

#[path = "../model/golden.rs"]
#[allow(dead_code)] // only the models are of use here
mod golden;

use golden::open;
use graft::memory::{MemoryPlan, Part};
use graft::model::llava::splice;
use graft::train::{
    Example, GradientPlace, Levers, OptimizerKind, Place, SavedKind, TrainOptions, Trainer,
};

const STEPS: u64 = 6;

fn examples() -> Vec<Example> {
    let example = |i: i32| {
        let ids: Vec<i32> = (0..9 + i % 4).map(|t| (t * 7 + i * 3) % 60 + 1).collect();
        Example {
            id: format!("sample {i}"),
            sequence: splice(&ids, &ids, 0, 64),
            features: Vec::new(),
        }
    };
    (0..5).map(example).collect()
}

fn options() -> TrainOptions {
    TrainOptions {
        rank: 4,
        dropout: 0.1,
        steps: Some(STEPS),
        clip: 0.0,
        lr: 1e-2,
        weight_decay: 0.01,
        ..TrainOptions::default()
    }
}

/// What a run reports, and what it has learned.
#[derive(Debug, PartialEq)]
struct Course {
    losses: Vec<f64>,
    norms: Vec<f64>,
    values: Vec<Vec<f32>>,
}

fn trainer(options: TrainOptions) -> Trainer {
    Trainer::new(open("grouped_heads", 2), options, examples(), None).unwrap()
}

fn finish(mut trainer: Trainer) -> Course {
    let (mut losses, mut norms) = (vec![], vec![]);
    while let Some(report) = trainer.step().unwrap() {
        losses.push(report.loss);
        norms.push(report.grad_norm);
    }
    let values = trainer.parameters().arrays();
    Course {
        losses,
        norms,
        values: values.into_iter().map(<[f32]>::to_vec).collect(),
    }
}

fn course(options: TrainOptions) -> Course {
    finish(trainer(options))
}

/// Each lever alone, and all together.
fn positions() -> Vec<Levers> {
    let disk = Some(Place::Disk);
    let alone = [
        Levers {
            kept_layers: Some(1),
            ..Levers::default()
        },
        Levers {
            weights: disk,
            ..Levers::default()
        },
        Levers {
            inputs: disk,
            ..Levers::default()
        },
        Levers {
            gradients: Some(GradientPlace::Layer),
            ..Levers::default()
        },
        Levers {
            moments: disk,
            ..Levers::default()
        },
    ];
    let all = Levers {
        kept_layers: Some(1),
        weights: disk,
        inputs: disk,
        gradients: Some(GradientPlace::Layer),
        moments: disk,
        ..Levers::default()
    };
    alone.into_iter().chain([all]).collect()
}

#[test]
fn every_lever_gives_the_same_bits() {
    let free = course(options());
    assert_eq!(free.losses.len(), STEPS as usize);
    for levers in positions() {
        let with = course(TrainOptions {
            levers: levers.clone(),
            ..options()
        });
        assert!(with == free, "{levers:?}");
    }
}

#[test]
fn gradients_by_layer_need_an_update_of_one_pack_and_no_norm() {
    for change in [
        |o: &mut TrainOptions| o.clip = 1.0,
        |o: &mut TrainOptions| o.batch = 2,
        |o: &mut TrainOptions| o.grad_accum = 2,
    ] {
        let mut options = options();
        options.levers.gradients = Some(GradientPlace::Layer);
        change(&mut options);
        let refused = Trainer::new(open("grouped_heads", 1), options, examples(), None);
        let sentence = refused.unwrap_err().to_string();
        assert!(sentence.contains("--gradients is layer"), "{sentence}");
    }
}

/// What is held once a run has begun is what the plan says, part by part.
#[test]
fn every_buffer_is_as_large_as_planned() {
    let kinds = [OptimizerKind::AdamW, OptimizerKind::AdamW8bit];
    for levers in positions().into_iter().chain([Levers::default()]) {
        for optimizer in kinds {
            for saved in [SavedKind::F32, SavedKind::Bf16] {
                if optimizer == OptimizerKind::AdamW8bit && levers.moments == Some(Place::Disk) {
                    continue;
                }
                let trainer = trainer(TrainOptions {
                    levers: levers.clone(),
                    optimizer,
                    saved,
                    ..options()
                });
                let (planned, held) = (trainer.plan().memory, trainer.arena().held());
                let mut allocated = MemoryPlan::default();
                for (part, bytes) in planned.parts() {
                    // What is no buffer, and what threads and samples take at most.
                    let other = matches!(part, Part::Program | Part::Attention | Part::Samples);
                    if !other && !part.is_mapped() {
                        allocated.add(part, bytes as usize);
                    }
                }
                assert!(held.bytes(Part::Samples) <= planned.bytes(Part::Samples));
                let mut held_without_samples = MemoryPlan::default();
                for (part, bytes) in held.parts().filter(|&(part, _)| part != Part::Samples) {
                    held_without_samples.add(part, bytes as usize);
                }
                assert_eq!(held_without_samples, allocated, "{levers:?} {optimizer:?}");
            }
        }
    }
}

/// Rounded to bf16, gradients are close; and where the inputs lie, or how many layers are computed
/// twice, still makes no difference.
#[test]
fn inputs_in_bf16_are_close_and_the_levers_stay_exact() {
    let rounded = |levers| TrainOptions {
        saved: SavedKind::Bf16,
        levers,
        ..options()
    };
    let (exact, half) = (course(options()), course(rounded(Levers::default())));
    assert_eq!(
        exact.losses[0], half.losses[0],
        "the first forward is exact"
    );
    let off = (half.norms[0] / exact.norms[0] - 1.0).abs();
    assert!(off > 0.0 && off < 4e-3, "{off}");
    let last = STEPS as usize - 1;
    let off = (half.losses[last] / exact.losses[last] - 1.0).abs();
    assert!(off < 1e-2, "{off}");
    for levers in positions() {
        assert!(course(rounded(levers.clone())) == half, "{levers:?}");
    }
}

/// In 8 bits, AdamW takes nearly the same course, and one that is stopped goes on with the same bits.
#[test]
fn moments_in_8_bits_are_close_and_are_saved_exactly() {
    let eight = || TrainOptions {
        optimizer: OptimizerKind::AdamW8bit,
        ..options()
    };
    let (exact, coarse) = (course(options()), course(eight()));
    assert!(exact.losses[0] == coarse.losses[0] && exact.values != coarse.values);
    let last = STEPS as usize - 1;
    let off = (coarse.losses[last] / exact.losses[last] - 1.0).abs();
    assert!(off < 2e-2, "{off}: {:?} {:?}", coarse.losses, exact.losses);

    let folder = tempfile::tempdir().unwrap();
    let mut stopped = trainer(eight());
    for _ in 0..3 {
        stopped.step().unwrap();
    }
    let saved = stopped.save(folder.path()).unwrap();
    let mut resumed = trainer(eight());
    resumed.resume(&saved).unwrap();
    let rest = finish(resumed);
    assert_eq!(rest.losses, coarse.losses[3..]);
    assert!(rest.values == coarse.values);
    let other = trainer(options()).resume(&saved).unwrap_err().to_string();
    assert!(other.contains("the options changed"), "{other}");
}
