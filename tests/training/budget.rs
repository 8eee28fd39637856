//! A run takes the memory that its plan says, at every budget, and computes the same. One test in a
//! process of its own, since it looks at what the whole process holds.

#[path = "../model/random.rs"]
mod random;

use graft::memory::anonymous_bytes;
use graft::model::llava::{Sequence, Span};
use graft::model::{Model, ModelOptions};
use graft::train::{Example, PLAN_SLACK, TrainOptions, Trainer, Workload, plan};
use graft_kernels::QuantType;
use random::Sizes;

/// Large enough that keeping or not keeping a layer shows.
const SIZES: Sizes = Sizes {
    width: 512,
    layers: 10,
    heads: 8,
    kv_heads: 4,
    feed_forward: 1536,
    vocabulary: 2048,
};
const TOKENS: u32 = 896;

#[test]
fn every_budget_is_kept_and_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    random::write(&[&path], &SIZES, &[&|_| QuantType::Q4K]);
    let options = ModelOptions {
        threads: 2,
        ..ModelOptions::default()
    };
    let model = Model::open(&path, &options).unwrap();
    let ids: Vec<u32> = (0..TOKENS).map(|i| i * 7919 % 2048).collect();
    let example = Example {
        id: "random".into(),
        sequence: Sequence {
            labels: ids.iter().map(|&id| id as i32).collect(),
            spans: vec![Span::Tokens(ids)],
        },
        features: vec![],
    };
    let examples = [example];
    let work = Workload::of(&examples);
    let options = TrainOptions {
        steps: Some(2),
        ..TrainOptions::default()
    };
    let free = plan(&model, &options, &work, None, None).unwrap();
    let mut outcomes = vec![];
    let half = (free.peak_bytes + free.smallest_bytes) / 2;
    // The least first: what an allocator keeps back must not be counted for a later run.
    for budget in [free.smallest_bytes, half, free.peak_bytes] {
        let planned = plan(&model, &options, &work, None, Some(budget)).unwrap();
        assert!(planned.peak_bytes <= budget);
        let mut options = options.clone();
        options.levers = planned.levers.clone();
        options.levers.folder = Some(folder.path().to_owned());
        let mut trainer = Trainer::new(model.clone(), options, examples.to_vec(), None).unwrap();
        let mut outcome = vec![];
        while let Some(report) = trainer.step().unwrap() {
            outcome.push((report.loss.to_bits(), report.grad_norm.to_bits()));
        }
        outcomes.push((outcome, trainer.parameters().clone()));
        let Some(held) = anonymous_bytes() else {
            // Elsewhere the system does not say.
            continue;
        };
        let most = planned.memory.anonymous_peak() + PLAN_SLACK;
        assert!(
            held <= most,
            "{held} bytes are held, {most} were planned for a budget of {budget}"
        );
    }
    assert!(
        free.peak_bytes - free.smallest_bytes > 4 * PLAN_SLACK,
        "budgets differ visibly"
    );
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
    let refused = plan(
        &model,
        &options,
        &work,
        None,
        Some(free.smallest_bytes * 7 / 10),
    );
    let sentence = refused.unwrap_err().to_string();
    assert!(sentence.contains("smallest"), "{sentence}");
}
