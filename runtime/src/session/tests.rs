//! Sessions on a tiny random model: hot swap, rewinding, the shared beginning.

use std::path::Path;

use std::ops::ControlFlow;
use std::time::Instant;

use super::*;
use crate::Error;
use crate::adapter::{Adapter, BaseIdentity, LoraPair};
use crate::model::{ModelOptions, Site};

fn model() -> Arc<Model> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/llama/grouped_heads.gguf");
    Model::open(
        &path,
        &ModelOptions {
            threads: 1,
            ..ModelOptions::default()
        },
    )
    .unwrap()
}

fn session(model: &Arc<Model>) -> Session {
    Session::new(Arc::clone(model), &SessionOptions::with_context(24)).unwrap()
}

/// An adapter that changes the answers: B is not zero.
fn adapter(model: &Model, seed: u64) -> Arc<Adapter> {
    let shape = model.llama().shape();
    let pairs = Site::of_layers(shape.layers).map(|site| {
        let mut pair = LoraPair::begin(site, shape.sizes(site).unwrap(), 2, 1.0, seed);
        pair.b
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v = ((i + seed as usize) % 5) as f32 * 0.1);
        (site, pair)
    });
    Arc::new(Adapter::new("a", BaseIdentity::default(), 2.0, pairs).unwrap())
}

fn set(entries: &[(&Arc<Adapter>, f32)]) -> Attached {
    Attached::new(entries.iter().map(|&(a, s)| (Arc::clone(a), s)))
}

fn logits_of(model: &Arc<Model>, adapters: Attached, tokens: &[u32]) -> Vec<f32> {
    let mut session = session(model);
    session.set_adapters(adapters).unwrap();
    session.feed(tokens).unwrap();
    session.logits().unwrap().to_vec()
}

#[test]
fn a_swap_in_the_middle_equals_a_fresh_session_with_that_history() {
    let model = model();
    let (a, b) = (adapter(&model, 1), adapter(&model, 2));
    let mut live = session(&model);
    live.feed(&[1, 5, 9]).unwrap();
    let base = live.logits().unwrap().to_vec();
    assert_eq!(base, logits_of(&model, set(&[]), &[1, 5, 9]));
    live.set_adapters(set(&[(&a, 1.0)])).unwrap();
    let swapped = live.logits().unwrap().to_vec();
    assert_ne!(swapped, base);
    assert_eq!(swapped, logits_of(&model, set(&[(&a, 1.0)]), &[1, 5, 9]));
    live.feed(&[7]).unwrap();
    live.set_adapters(set(&[(&a, 0.5), (&b, 1.0)])).unwrap();
    let both = live.logits().unwrap().to_vec();
    assert_eq!(
        both,
        logits_of(&model, set(&[(&a, 0.5), (&b, 1.0)]), &[1, 5, 9, 7])
    );
    live.set_adapters(set(&[(&a, 0.0)])).unwrap();
    let detached = live.logits().unwrap().to_vec();
    assert_eq!(
        detached,
        logits_of(&model, set(&[]), &[1, 5, 9, 7]),
        "strength 0 is the base, bit for bit"
    );
}

#[test]
fn an_adapter_that_is_gone_leaves_nothing_to_one_that_takes_its_place_in_memory() {
    let model = model();
    let mut live = session(&model);
    for seed in 1..20 {
        live.reset();
        let a = adapter(&model, seed);
        live.set_adapters(set(&[(&a, 1.0)])).unwrap();
        live.feed(&[1, 5, 9]).unwrap();
        live.set_adapters(set(&[])).unwrap();
        drop(a);
        let b = adapter(&model, seed + 100);
        live.set_adapters(set(&[(&b, 1.0)])).unwrap();
        let afresh = logits_of(&model, set(&[(&b, 1.0)]), &[1, 5, 9]);
        assert_eq!(live.logits().unwrap(), afresh);
    }
}

#[test]
fn an_adapter_of_another_shape_is_refused_and_the_old_set_stays() {
    let model = model();
    let good = adapter(&model, 1);
    let mut live = session(&model);
    live.set_adapters(set(&[(&good, 1.0)])).unwrap();
    let pair = LoraPair::begin(Site::parse("blk.0.attn_q").unwrap(), (3, 3), 1, 1.0, 1);
    let bad = Adapter::new(
        "bad",
        BaseIdentity::default(),
        1.0,
        [(Site::parse("blk.0.attn_q").unwrap(), pair)],
    );
    let error = live
        .set_adapters(set(&[(&Arc::new(bad.unwrap()), 1.0)]))
        .unwrap_err();
    assert!(error.to_string().contains("bad"), "{error}");
    assert_eq!(live.adapters().entries().len(), 1);
    let other = BaseIdentity {
        fingerprint: Some("0".into()),
        name: Some("another".into()),
    };
    let pairs = good.iter().map(|(s, p)| (s, p.clone()));
    let other = Arc::new(Adapter::new("theirs", other, 2.0, pairs).unwrap());
    let error = live
        .set_adapters(set(&[(&other, 1.0)]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("another") && error.contains(&model.name()),
        "{error}"
    );
}

#[test]
fn rewinding_and_feeding_again_gives_the_same_answer() {
    let model = model();
    let mut live = session(&model);
    live.feed(&[1, 5, 9, 3]).unwrap();
    let want = live.logits().unwrap().to_vec();
    live.feed(&[8, 8]).unwrap();
    live.rewind(4);
    assert_eq!(live.position(), 4);
    assert_eq!(live.logits().unwrap(), want);
    live.rewind(1);
    live.feed(&[5, 9, 3]).unwrap();
    assert_eq!(live.logits().unwrap(), want);
    live.reset();
    assert!(live.logits().is_err());
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let model = model();
    let mut live = session(&model);
    live.feed(&[1; 20]).unwrap();
    let error = live.feed(&[2; 5]).unwrap_err().to_string();
    assert!(error.contains("context is full"), "{error}");
    assert_eq!(live.position(), 20);
    assert!(live.feed(&[u32::MAX]).is_err());
    assert!(live.feed_rows(Arc::new(vec![0.0; 3])).is_err());
    live.feed(&[2; 4]).unwrap();
    assert_eq!((live.position(), live.capacity()), (24, 24));
}

#[test]
fn rows_are_positions_like_tokens() {
    let model = model();
    let width = model.llama().shape().width;
    let mut rows = vec![0.0; 2 * width];
    model.llama().embed(&mut rows, &[4, 6]).unwrap();
    let mut live = session(&model);
    live.feed_items(vec![
        Item::Token(1),
        Item::Rows(Arc::new(rows)),
        Item::Token(7),
    ])
    .unwrap();
    assert_eq!(live.position(), 4);
    assert_eq!(
        live.logits().unwrap(),
        logits_of(&model, set(&[]), &[1, 4, 6, 7])
    );
}

#[test]
fn a_past_that_is_kept_by_name_is_the_old_sets_and_the_next_token_the_new_ones() {
    let model = model();
    let (a, b) = (adapter(&model, 1), adapter(&model, 2));
    let (with_a, with_b) = (set(&[(&a, 1.0)]), set(&[(&b, 1.0)]));
    let mut live = session(&model);
    live.set_adapters(with_a.clone()).unwrap();
    live.feed(&[1, 5, 9]).unwrap();
    let before = live.logits().unwrap().to_vec();
    live.set_adapters_keeping_history(with_b.clone()).unwrap();
    assert_eq!(live.logits().unwrap(), before, "nothing was run again");
    live.feed(&[7]).unwrap();
    let mixed = live.logits().unwrap().to_vec();
    assert_ne!(mixed, logits_of(&model, with_a.clone(), &[1, 5, 9, 7]));
    assert_ne!(mixed, logits_of(&model, with_b.clone(), &[1, 5, 9, 7]));
    // Any other change computes everything again.
    live.set_adapters(with_a.clone()).unwrap();
    live.set_adapters(with_b.clone()).unwrap();
    assert_eq!(
        live.logits().unwrap(),
        logits_of(&model, with_b, &[1, 5, 9, 7])
    );
}

/// A past that is shared is summed over in another order.
fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{a} and {b}");
    }
}

#[test]
fn a_forked_session_goes_on_as_the_first_would() {
    let model = model();
    let with_a = set(&[(&adapter(&model, 1), 1.0)]);
    let mut first = session(&model);
    first.set_adapters(with_a.clone()).unwrap();
    first.feed(&[1, 5, 9]).unwrap();
    let options = SessionOptions::with_context(8);
    let mut second = first.fork(&options).unwrap();
    assert_eq!(second.logits().unwrap(), first.logits().unwrap());
    assert_eq!(
        (first.shared_positions(), second.shared_positions()),
        (3, 3)
    );
    second.feed(&[7]).unwrap();
    let alone = logits_of(&model, with_a.clone(), &[1, 5, 9, 7]);
    assert_close(second.logits().unwrap(), &alone);
    assert_eq!(first.position(), 3, "the first is where it was");
    first.feed(&[2, 4]).unwrap();
    let alone = logits_of(&model, with_a.clone(), &[1, 5, 9, 2, 4]);
    assert_close(first.logits().unwrap(), &alone);
    // Each has what both saw and what it saw itself.
    let mut third = second.fork(&options).unwrap();
    assert_eq!(third.shared_positions(), 4);
    third.feed(&[3, 3, 8]).unwrap();
    let alone = logits_of(&model, with_a.clone(), &[1, 5, 9, 7, 3, 3, 8]);
    assert_close(third.logits().unwrap(), &alone);
    // Going back into what is shared changes it for nobody.
    third.truncate(2);
    third.feed(&[6, 6]).unwrap();
    let alone = logits_of(&model, with_a.clone(), &[1, 5, 6, 6]);
    assert_close(third.logits().unwrap(), &alone);
    second.set_adapters(set(&[])).unwrap();
    assert_eq!(second.shared_positions(), 0);
    assert_eq!(
        second.logits().unwrap(),
        logits_of(&model, set(&[]), &[1, 5, 9, 7])
    );
    let alone = logits_of(&model, with_a, &[1, 5, 9, 2, 4]);
    first.feed(&[9]).unwrap();
    first.rewind(5);
    assert_close(first.logits().unwrap(), &alone);
    let small = SessionOptions::with_context(2);
    let refused = first.fork(&small).unwrap_err().to_string();
    assert!(refused.contains("do not fit 2"), "{refused}");
}

/// A session that runs four positions at once.
fn slow(model: &Arc<Model>) -> Session {
    let options = SessionOptions {
        context_length: 24,
        chunk: 4,
    };
    Session::new(Arc::clone(model), &options).unwrap()
}

fn items(tokens: &[u32]) -> Vec<Item> {
    tokens.iter().map(|&id| Item::Token(id)).collect()
}

#[test]
fn a_prompt_that_is_stopped_leaves_what_was_run_whole() {
    let model = model();
    let width = model.llama().shape().width;
    let cancel = Cancel::new();
    let mut told = Vec::new();
    let mut stop = |done, of| {
        told.push((done, of));
        match done {
            4 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let mut watch = Watch {
        cancel: &cancel,
        progress: Some(&mut stop),
    };
    let mut live = slow(&model);
    let refused = live.feed_watched(items(&[1, 5, 9, 3, 8, 2, 4]), &mut watch);
    assert!(matches!(refused, Err(Error::Cancelled)));
    assert_eq!(told, [(4, 7)]);
    assert_eq!(live.position(), 4);
    assert_eq!(
        live.logits().unwrap(),
        logits_of(&model, set(&[]), &[1, 5, 9, 3])
    );
    // Rows that were run in part are not there.
    let mut rows = vec![0.0; 5 * width];
    model.llama().embed(&mut rows, &[5, 9, 3, 8, 2]).unwrap();
    let mut live = slow(&model);
    live.feed(&[7]).unwrap();
    let new = vec![Item::Token(1), Item::Rows(Arc::new(rows)), Item::Token(4)];
    let mut stop = |_, _| ControlFlow::Break(());
    let mut watch = Watch {
        cancel: &cancel,
        progress: Some(&mut stop),
    };
    assert!(live.feed_watched(new, &mut watch).is_err());
    assert_eq!(live.position(), 2);
    assert_eq!(live.logits().unwrap(), logits_of(&model, set(&[]), &[7, 1]));
    // A flag that is up, and a deadline that has passed, let nothing be fed and spoil nothing.
    cancel.raise();
    let refused = live.feed_watched(items(&[3]), &mut Watch::of(&cancel));
    assert!(matches!(refused, Err(Error::Cancelled)));
    let late = Cancel::new().until(Instant::now());
    let refused = live.feed_watched(items(&[3]), &mut Watch::of(&late));
    assert!(matches!(refused, Err(Error::TimedOut)));
    live.set_adapters(set(&[(&adapter(&model, 1), 1.0)]))
        .unwrap();
    assert!(live.logits_unless(&late).is_err());
    live.set_adapters(set(&[])).unwrap();
    assert_eq!(live.logits().unwrap(), logits_of(&model, set(&[]), &[7, 1]));
}

#[test]
fn a_history_becomes_another_and_runs_only_what_differs() {
    let model = model();
    let never = Cancel::new();
    let mut live = session(&model);
    live.feed(&[1, 5, 9, 3]).unwrap();
    let reused = live.set_history(items(&[1, 5, 7, 2]), &mut Watch::of(&never));
    // The last token in common is run again, since its row is not kept.
    assert_eq!(reused.unwrap(), 1);
    assert_eq!(
        live.logits().unwrap(),
        logits_of(&model, set(&[]), &[1, 5, 7, 2])
    );
    let reused = live.set_history(items(&[1, 5, 7, 2, 4]), &mut Watch::of(&never));
    assert_eq!(reused.unwrap(), 4);
    let same = live.set_history(items(&[1, 5, 7, 2, 4]), &mut Watch::of(&never));
    assert_eq!(same.unwrap(), 5);
    assert!(
        live.set_history(items(&[1; 25]), &mut Watch::of(&never))
            .is_err()
    );
    assert_eq!(live.position(), 5, "what does not fit changes nothing");
    live.truncate(3);
    assert_eq!(
        live.logits().unwrap(),
        logits_of(&model, set(&[]), &[1, 5, 7])
    );
    live.truncate(0);
    assert_eq!(live.position(), 0);
}

#[test]
fn tokens_are_scored_by_what_stands_before_them() {
    let model = model();
    let tokens = [5, 9, 3, 8, 2, 4];
    let never = Cancel::new();
    let mut live = slow(&model);
    assert!(live.feed_scored(&tokens, &mut Watch::of(&never)).is_err());
    live.feed(&[1]).unwrap();
    let scores = live.feed_scored(&tokens, &mut Watch::of(&never)).unwrap();
    let mut before = vec![1];
    for (token, score) in tokens.into_iter().zip(scores) {
        let logits = logits_of(&model, set(&[]), &before);
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        let expected = f64::from(logits[token as usize]) - total.ln();
        assert!(
            (f64::from(score) - expected).abs() < 1e-4,
            "{score} {expected}"
        );
        before.push(token);
    }
    assert_eq!(live.logits().unwrap(), logits_of(&model, set(&[]), &before));
}
