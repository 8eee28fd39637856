//! Whole runs: what they write, and that stopping and going on changes no bit.

#[path = "../model/golden.rs"]
#[allow(dead_code)] // only the models are of use here
mod golden;

use std::path::Path;
use std::sync::Arc;

use golden::open;
use graft::cancel::Cancel;
use graft::model::llava::splice;
use graft::train::{
    EarlyStop, Evaluation, Example, Levers, Place, Run, RunEnd, RunEvent, RunFolder, TrainOptions,
    Trainer, Workload, checkpoint, plan,
};

fn examples() -> Vec<Example> {
    let example = |i: i32| {
        let ids: Vec<i32> = (0..6 + i % 3).map(|t| (t * 7 + i * 3) % 60 + 1).collect();
        Example {
            id: format!("sample {i}"),
            sequence: splice(&ids, &ids, 0, 64),
            features: Vec::new(),
        }
    };
    (0..7).map(example).collect()
}

fn options() -> TrainOptions {
    TrainOptions {
        rank: 4,
        dropout: 0.1,
        epochs: 2,
        batch: 2,
        grad_accum: 2,
        lr: 1e-2,
        weight_decay: 0.01,
        save_every: 1,
        ..TrainOptions::default()
    }
}

fn trainer(options: TrainOptions) -> Trainer {
    Trainer::new(open("grouped_heads", 2), options, examples(), None).unwrap()
}

fn bits(trainer: &Trainer) -> Vec<u32> {
    let arrays = trainer.parameters().arrays();
    arrays
        .iter()
        .flat_map(|a| a.iter().map(|v| v.to_bits()))
        .collect()
}

fn steps_of(folder: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let step =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64();
    text.lines().map(|line| step(line).unwrap()).collect()
}

#[test]
fn a_run_that_was_stopped_goes_on_as_if_it_had_not_been() {
    let whole = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(whole.path(), &options()).unwrap();
    let mut uninterrupted = Run::new(trainer(options()), Some(folder), None).unwrap();
    let end = uninterrupted.to_end(&Cancel::new(), &mut |_| {}).unwrap();
    assert_eq!(end, RunEnd::Done);
    assert_eq!(steps_of(whole.path()), [1, 2, 3, 4]);
    assert_eq!(
        checkpoint::all(whole.path()).unwrap().len(),
        2,
        "the default keeps two"
    );

    let parts = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(parts.path(), &options()).unwrap();
    let mut stopped = Run::new(trainer(options()), Some(folder), None).unwrap();
    let cancel = Cancel::new();
    let end = stopped.to_end(&cancel, &mut |event| {
        if let RunEvent::Step { report, .. } = event
            && report.step == 2
        {
            cancel.raise();
        }
    });
    let RunEnd::Interrupted(Some(saved)) = end.unwrap() else {
        panic!("the flag was raised");
    };
    assert_eq!(checkpoint::latest(parts.path()).unwrap(), saved);
    drop(stopped);

    // One more step that no checkpoint knows of: as after a crash.
    std::fs::write(
        parts.path().join("metrics.jsonl"),
        std::fs::read_to_string(parts.path().join("metrics.jsonl")).unwrap()
            + "{\"step\":3}\n{\"st",
    )
    .unwrap();
    let mut resumed = trainer(options());
    resumed.resume(&saved).unwrap();
    assert_eq!(resumed.done(), 2);
    let folder = RunFolder::reopen(parts.path(), resumed.done()).unwrap();
    let mut resumed = Run::new(resumed, Some(folder), None).unwrap();
    resumed.to_end(&Cancel::new(), &mut |_| {}).unwrap();
    assert_eq!(bits(resumed.trainer()), bits(uninterrupted.trainer()));
    assert_eq!(steps_of(parts.path()), [1, 2, 3, 4]);
    assert_eq!(
        std::fs::read(parts.path().join("adapter.gguf")).unwrap(),
        std::fs::read(whole.path().join("adapter.gguf")).unwrap()
    );
}

#[test]
fn an_update_that_is_cancelled_changes_nothing() {
    let mut whole = trainer(options());
    while whole.step().unwrap().is_some() {}
    let mut cancelled = trainer(options());
    cancelled.step().unwrap();
    let before = bits(&cancelled);
    let cancel = Cancel::new();
    cancel.raise();
    cancelled.heed(&cancel);
    let refused = cancelled.step().unwrap_err();
    assert!(matches!(refused, graft::Error::Cancelled), "{refused}");
    assert_eq!((bits(&cancelled), cancelled.done()), (before, 1));
    // Looking at other data is no update.
    assert!(cancelled.evaluate(&examples()).unwrap() > 0.0);
    cancelled.heed(&Cancel::new());
    while cancelled.step().unwrap().is_some() {}
    assert_eq!(bits(&cancelled), bits(&whole));
}

#[test]
fn a_folder_belongs_to_one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = RunFolder::create(folder.path(), &options()).unwrap();
    for error in [
        RunFolder::create(folder.path(), &options()).unwrap_err(),
        RunFolder::reopen(folder.path(), 0).unwrap_err(),
    ] {
        assert!(error.to_string().contains("is at work"), "{error}");
    }
    // A run that ended before it saved anything makes room.
    drop(first);
    RunFolder::create(folder.path(), &options()).unwrap();
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = trainer(options());
    first.step().unwrap();
    let saved = first.save(folder.path()).unwrap();
    let refusal = |mut trainer: Trainer| {
        let before = bits(&trainer);
        let error = trainer.resume(&saved).unwrap_err().to_string();
        assert_eq!((bits(&trainer), trainer.done()), (before, 0));
        error
    };
    let other_rate = TrainOptions {
        lr: 0.5,
        ..options()
    };
    assert!(refusal(trainer(other_rate)).contains("the options changed"));
    let mut fewer = examples();
    fewer.pop();
    let other_data = Trainer::new(open("grouped_heads", 2), options(), fewer, None).unwrap();
    assert!(refusal(other_data).contains("the training data changed"));
    let other_base = Trainer::new(open("wide_heads", 2), options(), examples(), None).unwrap();
    assert!(refusal(other_base).contains("the base model changed"));
    let error = RunFolder::create(folder.path(), &options()).unwrap_err();
    assert!(error.to_string().contains("already holds a run"), "{error}");

    // What may change: how often it saves and how much it keeps in memory.
    let mut other_pace = trainer(TrainOptions {
        save_every: 50,
        keep: 9,
        levers: Levers {
            kept_layers: Some(0),
            moments: Some(Place::Disk),
            ..Levers::default()
        },
        ..options()
    });
    other_pace.resume(&saved).unwrap();
    assert_eq!(bits(&other_pace), bits(&first));
}

#[test]
fn damaged_checkpoints_are_refused_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = trainer(options());
    first.step().unwrap();
    let saved = first.save(folder.path()).unwrap();
    let tensors = saved.join("state.safetensors");
    let good = std::fs::read(&tensors).unwrap();
    let mut fresh = trainer(options());
    let before = bits(&fresh);
    let mut refused = |bytes: &[u8]| {
        std::fs::write(&tensors, bytes).unwrap();
        assert!(fresh.resume(&saved).is_err());
        assert_eq!(bits(&fresh), before);
    };
    refused(&[]);
    refused(&good[..good.len() / 2]);
    refused(&[good.as_slice(), &vec![0; 4 << 20]].concat());
    let mut not_a_number = good.clone();
    let end = not_a_number.len();
    not_a_number[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    refused(&not_a_number);
    std::fs::write(saved.join("state.json"), "{").unwrap();
    assert!(fresh.resume(&saved).is_err());
    assert!(checkpoint::latest(&folder.path().join("none")).is_err());
}

#[test]
fn evaluation_looks_and_does_not_learn() {
    let whole = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(whole.path(), &options()).unwrap();
    // Longer than anything the run itself has.
    let ids: Vec<i32> = (1..40).collect();
    let held_out = [Example {
        id: "long".into(),
        sequence: splice(&ids, &ids, 0, 64),
        features: Vec::new(),
    }];
    let mut losses = Vec::new();
    let evaluation = Evaluation {
        examples: held_out.into(),
        every: 2,
        stop: None,
        keep_best: false,
    };
    let mut watched = Run::new(trainer(options()), Some(folder), Some(evaluation)).unwrap();
    let mut watch = |event: RunEvent<'_>| {
        if let RunEvent::Evaluated { loss, .. } = event {
            losses.push(loss);
        }
    };
    watched.to_end(&Cancel::new(), &mut watch).unwrap();
    assert_eq!(losses.len(), 2);
    assert!(losses.iter().all(|l| l.is_finite() && *l > 0.0));
    let mut alone = trainer(options());
    while alone.step().unwrap().is_some() {}
    assert_eq!(bits(&alone), bits(watched.trainer()));
    let model: &Arc<_> = alone.model();
    graft::adapter::Adapter::open(&whole.path().join("adapter.gguf"), model).unwrap();
}

/// A run of 60 updates that looks at other examples after every second one.
fn judged(
    folder: &Path,
    resume: Option<&Path>,
    rule: Option<EarlyStop>,
    keep_best: bool,
    until: u64,
) -> Result<(Trainer, RunEnd), graft::Error> {
    let options = TrainOptions {
        steps: Some(60),
        save_every: 5,
        keep: 1,
        lr: 5e-2,
        ..options()
    };
    let ids: Vec<i32> = (1..9).map(|t| t * 5 % 60 + 1).collect();
    let held_out = [Example {
        id: "held out".into(),
        sequence: splice(&ids, &ids, 0, 64),
        features: Vec::new(),
    }];
    let mut judged = trainer(options.clone());
    let folder = match resume {
        Some(saved) => {
            judged.resume(saved)?;
            RunFolder::reopen(folder, judged.done())?
        }
        None => RunFolder::create(folder, &options)?,
    };
    let cancel = Cancel::new();
    let evaluation = Evaluation {
        examples: held_out.into(),
        every: 2,
        stop: rule,
        keep_best,
    };
    let mut run = Run::new(judged, Some(folder), Some(evaluation))?;
    let end = run.to_end(&cancel, &mut |event| {
        if let RunEvent::Step { report, .. } = event
            && report.step == until
        {
            cancel.raise();
        }
    })?;
    Ok((run.into_trainer(), end))
}

#[test]
fn a_run_ends_early_with_its_best_and_stopping_it_on_the_way_changes_nothing() {
    let rule = Some(EarlyStop {
        after: 3,
        delta: 0.0,
    });
    let whole = tempfile::tempdir().unwrap();
    let (uninterrupted, end) = judged(whole.path(), None, rule, true, 0).unwrap();
    assert_eq!(end, RunEnd::Done);
    let standing = uninterrupted.standing().clone();
    let best = standing.best.unwrap();
    assert_eq!(standing.since, 3);
    assert_eq!(
        uninterrupted.done(),
        best.step + 6,
        "three evaluations later"
    );
    assert!(uninterrupted.done() < 60);
    let adapter = |folder: &Path| std::fs::read(folder.join("adapter.gguf")).unwrap();
    let kept = checkpoint::named(whole.path(), best.step);
    assert_eq!(adapter(whole.path()), adapter(&kept));
    let last = checkpoint::latest(whole.path()).unwrap();
    assert_ne!(adapter(whole.path()), adapter(&last));
    assert_eq!(
        checkpoint::all(whole.path()).unwrap().len(),
        2,
        "the best and the latest"
    );

    // Stopped before the best, after it, and when it is over.
    let parts = tempfile::tempdir().unwrap();
    let mut saved: Option<std::path::PathBuf> = None;
    for until in [best.step - 1, best.step + 3, 0, 0] {
        let (at, end) = judged(parts.path(), saved.as_deref(), rule, true, until).unwrap();
        assert_eq!(end == RunEnd::Done, until == 0);
        saved = Some(checkpoint::latest(parts.path()).unwrap());
        if until == 0 {
            assert_eq!(*at.standing(), standing);
        }
    }
    assert_eq!(adapter(parts.path()), adapter(whole.path()));
    assert_eq!(steps_of(parts.path()), steps_of(whole.path()));

    // With more patience it goes on; without the best it must not.
    std::fs::rename(
        checkpoint::named(parts.path(), best.step),
        parts.path().join("gone"),
    )
    .unwrap();
    let patient = Some(EarlyStop {
        after: 5,
        delta: 0.0,
    });
    let error = judged(parts.path(), saved.as_deref(), patient, true, 0).unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
    std::fs::rename(
        parts.path().join("gone"),
        checkpoint::named(parts.path(), best.step),
    )
    .unwrap();
    let (longer, _) = judged(parts.path(), saved.as_deref(), patient, true, 0).unwrap();
    assert!(longer.done() > uninterrupted.done());
    let fresh = tempfile::tempdir().unwrap();
    let (patient_from_the_start, _) = judged(fresh.path(), None, patient, true, 0).unwrap();
    assert_eq!(bits(&longer), bits(&patient_from_the_start));
    assert_eq!(adapter(parts.path()), adapter(fresh.path()));
}

#[test]
fn numbers_of_a_run_come_back_from_its_folder_bit_for_bit() {
    for i in 1..20_000_u32 {
        let options = TrainOptions {
            lr: f64::from(i).sqrt() * 1e-6,
            ..options()
        };
        let text = serde_json::to_string(&options).unwrap();
        let read: TrainOptions = serde_json::from_str(&text).unwrap();
        assert_eq!(read.lr.to_bits(), options.lr.to_bits(), "{text}");
    }
}

#[test]
fn a_budget_decides_how_much_is_computed_twice() {
    let model = open("grouped_heads", 2);
    let work = Workload::of(&examples());
    assert_eq!((work.examples, work.longest, work.images), (7, 8, 0));
    let layers = model.llama().shape().layers;
    let free = plan(&model, &options(), &work, None, None).unwrap();
    assert_eq!((free.kept_layers, free.steps), (layers, 4));
    assert_eq!(free.parameters, trainer(options()).parameters().len());
    let least = plan(&model, &options(), &work, None, Some(free.smallest_bytes)).unwrap();
    assert_eq!(least.peak_bytes, free.smallest_bytes);
    assert!(least.peak_bytes < free.peak_bytes);
    assert_ne!(least.levers, free.levers);
    // A lever that somebody has set stays where it is.
    let mut fixed = options();
    fixed.levers.kept_layers = Some(layers);
    fixed.levers.weights = Some(Place::Memory);
    let kept = plan(&model, &fixed, &work, None, Some(free.peak_bytes)).unwrap();
    assert_eq!(kept.kept_layers, layers);
    assert!(kept.smallest_bytes > free.smallest_bytes);
    let refused = plan(
        &model,
        &options(),
        &work,
        None,
        Some(free.smallest_bytes - 1),
    );
    let sentence = refused.unwrap_err().to_string();
    assert!(sentence.contains("MiB"), "{sentence}");
}
