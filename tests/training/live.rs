//! What a trainer has learned so far, in a live session: no file between them.

#[path = "../model/golden.rs"]
#[allow(dead_code)] // only the models are of use here
mod golden;

use std::sync::Arc;

use golden::open;
use graft::adapter::{Adapter, Attached, gguf_file};
use graft::model::llava::splice;
use graft::session::{Session, SessionOptions};
use graft::train::{Example, TrainOptions, Trainer};

const PROMPT: [u32; 3] = [1, 5, 9];

fn trainer() -> Trainer {
    let ids: Vec<i32> = (0..12).map(|t| t * 7 % 60 + 1).collect();
    let example = Example {
        id: "sample".into(),
        sequence: splice(&ids, &ids, 0, 64),
        features: Vec::new(),
    };
    let options = TrainOptions {
        rank: 8,
        lr: 1e-2,
        steps: Some(4),
        ..TrainOptions::default()
    };
    Trainer::new(open("grouped_heads", 2), options, vec![example], None).unwrap()
}

#[test]
fn what_is_learned_is_used_at_once_and_does_not_move_under_who_uses_it() {
    let mut trainer = trainer();
    let options = SessionOptions::with_context(8);
    let mut session = Session::new(Arc::clone(trainer.model()), &options).unwrap();
    session.feed(&PROMPT).unwrap();
    let base = session.logits().unwrap().to_vec();
    let mut logits_with = |adapter: &Arc<Adapter>| {
        let set = Attached::new([(Arc::clone(adapter), 1.0)]);
        session.set_adapters(set).unwrap();
        session.logits().unwrap().to_vec()
    };
    // The first update has a rate of 0.
    trainer.step().unwrap();
    trainer.step().unwrap();
    let first = trainer.adapter();
    let after_one = logits_with(&first);
    assert_ne!(after_one, base);
    trainer.step().unwrap();
    let second = trainer.adapter();
    let after_two = logits_with(&second);
    assert_ne!(after_two, after_one);
    assert_eq!(logits_with(&first), after_one);

    // By way of a file it is the same, but for the order of sums.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    gguf_file::write(&path, &second).unwrap();
    let read = Adapter::open(&path, trainer.model()).unwrap();
    assert_eq!(read.generation(), second.generation());
    for (a, b) in logits_with(&read).iter().zip(&after_two) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}
