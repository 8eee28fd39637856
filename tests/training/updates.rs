//! Runs update by update: what a pause, a cancelled evaluation and a way back leave of them.

#[path = "../model/golden.rs"]
#[allow(dead_code)] // only the models are of use here
mod golden;

use std::path::Path;

use golden::open;
use graft::Error;
use graft::cancel::Cancel;
use graft::model::llava::splice;
use graft::train::{
    Advance, EarlyStop, Evaluation, Example, Run, RunEvent, RunFolder, TrainOptions, Trainer,
    checkpoint,
};

fn examples(count: i32) -> Vec<Example> {
    let example = |i: i32| {
        let ids: Vec<i32> = (0..6 + i % 3).map(|t| (t * 7 + i * 3) % 60 + 1).collect();
        Example {
            id: format!("sample {i}"),
            sequence: splice(&ids, &ids, 0, 64),
            features: Vec::new(),
        }
    };
    (0..count).map(example).collect()
}

/// A run of six updates that looks at other examples after every one.
fn run(folder: Option<&Path>) -> Run {
    let options = TrainOptions {
        rank: 4,
        dropout: 0.1,
        steps: Some(6),
        batch: 2,
        lr: 1e-2,
        save_every: 2,
        keep: 0,
        ..TrainOptions::default()
    };
    let model = open("grouped_heads", 2);
    let trainer = Trainer::new(model, options.clone(), examples(5), None).unwrap();
    let evaluation = Evaluation {
        examples: examples(8),
        every: 1,
        stop: Some(EarlyStop {
            after: 100,
            delta: 0.0,
        }),
        keep_best: false,
    };
    let folder = folder.map(|folder| RunFolder::create(folder, &options).unwrap());
    Run::new(trainer, folder, Some(evaluation)).unwrap()
}

/// Losses of the updates and of the evaluations, in the order in which they are told.
fn losses(run: &mut Run, most: usize) -> Vec<f64> {
    let mut losses = Vec::new();
    for _ in 0..most {
        let over = run.advance(&Cancel::new(), &mut |event| match event {
            RunEvent::Step { report, .. } => losses.push(report.loss),
            RunEvent::Evaluated { loss, .. } => losses.push(loss),
            _ => {}
        });
        if over.unwrap() == Advance::Over {
            break;
        }
    }
    losses
}

#[test]
fn an_evaluation_that_was_cancelled_is_done_before_the_next_update() {
    let mut whole = run(None);
    let expected = losses(&mut whole, 9);
    assert_eq!(expected.len(), 12);
    // Raised at a later moment each time, until no update is left to be interrupted.
    let (mut interrupted, mut microseconds) = (0, 0);
    let mut cancelled = run(None);
    let mut found = Vec::new();
    while !cancelled.is_over() {
        let cancel = Cancel::new();
        let raised = cancel.clone();
        let pause = std::time::Duration::from_micros(microseconds);
        microseconds += 50;
        let clock = std::thread::spawn(move || {
            std::thread::sleep(pause);
            raised.raise();
        });
        let advanced = cancelled.advance(&cancel, &mut |event| match event {
            RunEvent::Step { report, .. } => found.push(report.loss),
            RunEvent::Evaluated { loss, .. } => found.push(loss),
            _ => {}
        });
        clock.join().unwrap();
        match advanced {
            Ok(_) => {}
            Err(Error::Cancelled) => interrupted += 1,
            Err(other) => panic!("{other}"),
        }
    }
    // What the last update still owes.
    found.extend(losses(&mut cancelled, 1));
    assert!(interrupted > 0);
    assert_eq!(found, expected);
    assert_eq!(cancelled.trainer().standing(), whole.trainer().standing());
}

#[test]
fn a_run_goes_back_to_a_checkpoint_and_takes_the_same_course() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = run(Some(folder.path()));
    let all = losses(&mut run, 9);
    let recorded = || std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert_eq!(recorded().lines().count(), 6);
    run.resume(&checkpoint::named(folder.path(), 4)).unwrap();
    assert_eq!(recorded().lines().count(), 4);
    assert_eq!(losses(&mut run, 9), all[8..]);
    assert_eq!(recorded().lines().count(), 6);
    // Somebody else's folder is neither a checkpoint nor room for one.
    let taken = folder.path().join("tb");
    assert!(run.save_as(&taken).is_err() && run.resume(&taken).is_err());
    assert!(taken.read_dir().unwrap().next().is_some());
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("kept");
    run.save_as(&target).unwrap();
    run.save_as(&target).unwrap();
    assert_eq!(checkpoint::latest(&target).unwrap(), target);
    assert_eq!(elsewhere.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_run_that_is_told_to_end_writes_what_it_has_learned() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = run(Some(folder.path()));
    losses(&mut run, 3);
    run.end();
    assert!(run.is_over());
    assert!(losses(&mut run, 9).is_empty());
    assert_eq!(run.trainer().done(), 3);
    let last = checkpoint::named(folder.path(), 3).join(checkpoint::ADAPTER);
    let result = folder.path().join(checkpoint::ADAPTER);
    assert_eq!(std::fs::read(last).unwrap(), std::fs::read(result).unwrap());
}
