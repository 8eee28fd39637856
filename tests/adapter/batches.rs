//! Sessions with different adapters in one batch answer as each would alone.

#[allow(dead_code)] // only the opening of models is of use here
mod answers;
#[path = "../model/closeness.rs"]
mod closeness;
#[path = "../model/random.rs"]
mod random;
#[path = "../evaluate/sight.rs"]
mod sight;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use closeness::relative_error;
use graft::adapter::{Adapter, Attached, BaseIdentity, LoraPair};
use graft::cancel::Cancel;
use graft::model::{LlamaShape, Model, Site};
use graft::session::{
    Batch, BatchOptions, Finish, GenerateOptions, Given, Item, Session, SessionOptions,
};
use graft_kernels::QuantType;
use random::{Sizes, uniform};

const CONTEXT: usize = 64;

fn model(folder: &Path, ty: QuantType) -> Arc<Model> {
    let sizes = Sizes {
        width: 256,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        feed_forward: 512,
        vocabulary: 64,
    };
    let path = folder.join("base.gguf");
    random::write(&[&path], &sizes, &[&|_| ty]);
    answers::open(&path)
}

/// Random pairs at those sites that `seed` picks.
fn adapter(shape: &LlamaShape, seed: u64) -> Arc<Adapter> {
    let mut state = seed;
    let rank = 1 + seed as usize % 9;
    let sites = Site::of_layers(shape.layers)
        .filter(|site| !(site.index() as u64 + seed).is_multiple_of(3));
    let pairs = sites.map(|site| {
        let (outputs, inputs) = shape.sizes(site).unwrap();
        let mut values =
            |count: usize| -> Vec<f32> { (0..count).map(|_| 0.1 * uniform(&mut state)).collect() };
        let (a, b) = (values(rank * inputs), values(outputs * rank));
        (site, LoraPair::new(a, b, rank, 0.7).unwrap())
    });
    Arc::new(Adapter::new(format!("{seed}"), BaseIdentity::default(), 0.0, pairs).unwrap())
}

/// Sets of which some are equal, one is empty, and some share an adapter.
fn sets(model: &Model, count: usize) -> Vec<Attached> {
    let shape = model.llama().shape();
    let adapters: Vec<_> = (1..6).map(|seed| adapter(shape, seed)).collect();
    let set = |entries: &[(usize, f32)]| {
        let entries = entries.iter().map(|&(n, s)| (Arc::clone(&adapters[n]), s));
        Attached::new(entries)
    };
    (0..count)
        .map(|n| match n % 6 {
            0 => set(&[(0, 1.0)]),
            1 => Attached::default(),
            2 => set(&[(1, 1.0), (0, -0.5)]),
            3 => set(&[(2, 2.0)]),
            4 => set(&[(0, 1.0)]),
            _ => set(&[(3, 1.0), (4, 0.25), (2, 1.0)]),
        })
        .collect()
}

fn session(model: &Arc<Model>, set: &Attached) -> Session {
    let options = SessionOptions {
        chunk: 1,
        ..SessionOptions::with_context(CONTEXT)
    };
    let mut session = Session::new(Arc::clone(model), &options).unwrap();
    session.set_adapters(set.clone()).unwrap();
    session
}

fn alone(model: &Arc<Model>, set: &Attached, tokens: &[u32]) -> Vec<f32> {
    let options = SessionOptions::with_context(CONTEXT);
    let mut session = Session::new(Arc::clone(model), &options).unwrap();
    session.set_adapters(set.clone()).unwrap();
    session.feed(tokens).unwrap();
    session.logits().unwrap().to_vec()
}

fn batch(model: &Arc<Model>, sessions: usize) -> Batch {
    let options = BatchOptions {
        sessions,
        context_length: CONTEXT,
        chunk: 24,
    };
    Batch::new(Arc::clone(model), &options).unwrap()
}

fn words(seed: usize, count: usize) -> Vec<u32> {
    (0..count)
        .map(|i| ((i * 13 + seed * 7) % 64) as u32)
        .collect()
}

/// Prompts of very different lengths, then single tokens, then a change of sets.
fn agrees(ty: QuantType, count: usize, tolerance: f32) {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), ty);
    let vocabulary = model.llama().shape().vocabulary;
    let mut sets = sets(&model, count);
    let mut batch = batch(&model, count);
    let mut sessions: Vec<_> = sets.iter().map(|set| session(&model, set)).collect();
    let mut said: Vec<Vec<u32>> = vec![Vec::new(); count];
    for turn in 0..4 {
        if turn == 2 {
            sets.rotate_left(1);
            for (session, set) in sessions.iter_mut().zip(&sets) {
                session.set_adapters(set.clone()).unwrap();
            }
        }
        let lengths = |n: usize| if turn == 0 { 1 + n * 17 % 41 } else { 1 };
        let new: Vec<_> = (0..count).map(|n| words(n + turn, lengths(n))).collect();
        for (said, new) in said.iter_mut().zip(&new) {
            said.extend(new);
        }
        let new: Vec<_> = new.iter().map(Vec::as_slice).collect();
        let mut lanes: Vec<_> = sessions.iter_mut().collect();
        batch.feed(&mut lanes, &new).unwrap();
        let logits = batch.logits(&mut lanes).unwrap().to_vec();
        for (n, got) in logits.chunks_exact(vocabulary).enumerate() {
            let want = alone(&model, &sets[n], &said[n]);
            let error = relative_error(got, &want);
            assert!(
                error <= tolerance,
                "{ty}, turn {turn}, session {n} of {count}: {error}"
            );
        }
    }
}

#[test]
fn a_batch_of_floats_answers_as_its_sessions_would_alone() {
    for count in [1, 2, 5, 8, 13] {
        agrees(QuantType::F32, count, 2e-5);
    }
}

/// Activations are rounded to 8 bits here, and a sum that comes out differently in its last bit may round
/// the other way.
#[test]
fn a_batch_on_quantized_weights_answers_as_its_sessions_would_alone() {
    for ty in [QuantType::Q4K, QuantType::Q8_0] {
        for count in [3, 8, 11] {
            agrees(ty, count, 2e-2);
        }
    }
}

#[test]
fn answers_end_one_by_one_and_are_those_of_sessions_alone() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let sets = sets(&model, 6);
    let options: Vec<_> = (0..6)
        .map(|n| GenerateOptions {
            max_tokens: 3 * n,
            ..GenerateOptions::default()
        })
        .collect();
    let begin = || -> Vec<Session> {
        let mut sessions: Vec<_> = sets.iter().map(|set| session(&model, set)).collect();
        for (n, session) in sessions.iter_mut().enumerate() {
            session.feed(&words(n, 2 + 5 * n)).unwrap();
        }
        sessions
    };
    let mut together = begin();
    let mut shown = vec![String::new(); 6];
    let mut lanes: Vec<_> = together.iter_mut().collect();
    let generated = batch(&model, 6)
        .generate(&mut lanes, &options, |n, text| {
            shown[n].push_str(text);
            ControlFlow::Continue(())
        })
        .unwrap();
    for (n, mut session) in begin().into_iter().enumerate() {
        let want = session.generate(&options[n], |_| ControlFlow::Continue(()));
        let want = want.unwrap();
        assert_eq!(generated[n], want, "session {n}");
        assert_eq!(shown[n], want.text);
        assert_eq!(together[n].position(), session.position());
    }
    assert_eq!(generated[0].finish, Finish::ContextFull, "0 is no limit");
}

#[test]
fn a_batch_refuses_whole_what_does_not_fit_one_of_its_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let first = model(folder.path(), QuantType::F32);
    let sets = sets(&first, 3);
    let mut sessions: Vec<_> = sets.iter().map(|set| session(&first, set)).collect();
    let mut batch = batch(&first, 3);
    let mut lanes: Vec<_> = sessions.iter_mut().collect();
    let long = words(0, CONTEXT + 1);
    let full = batch.feed(&mut lanes, &[&[1], &[2], &long]).unwrap_err();
    assert!(full.to_string().contains("context is full"), "{full}");
    let unknown = batch.feed(&mut lanes, &[&[1], &[64], &[2]]).unwrap_err();
    assert!(unknown.to_string().contains("64"), "{unknown}");
    assert!(lanes.iter().all(|session| session.position() == 0));
    assert!(batch.logits(&mut lanes).is_err(), "nothing was fed");
    batch.feed(&mut lanes, &[&[1], &[2], &[]]).unwrap();
    assert_eq!(lanes[2].position(), 0);

    let second = model(folder.path(), QuantType::F32);
    let mut stranger = session(&second, &Attached::default());
    let other = batch.feed(&mut [&mut stranger], &[&[1]]).unwrap_err();
    assert!(other.to_string().contains("another model"), "{other}");
    let mut more: Vec<_> = (0..4).map(|_| session(&first, &sets[0])).collect();
    let mut more: Vec<_> = more.iter_mut().collect();
    let many = batch.feed(&mut more, &[&[1][..]; 4]).unwrap_err();
    assert!(many.to_string().contains("4 sessions"), "{many}");
    let longer = SessionOptions::with_context(CONTEXT + 1);
    let mut longer = Session::new(Arc::clone(&first), &longer).unwrap();
    let longer = batch.feed(&mut [&mut longer], &[&[1]]).unwrap_err();
    assert!(longer.to_string().contains("at most"), "{longer}");
}

#[test]
fn a_cancelled_batch_keeps_what_was_run_and_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let sets = sets(&model, 3);
    let mut sessions: Vec<_> = sets.iter().map(|set| session(&model, set)).collect();
    let mut lanes: Vec<_> = sessions.iter_mut().collect();
    let (mut batch, cancel) = (batch(&model, 3), Cancel::new());
    let items = |n: usize, count: usize| -> Vec<Item> {
        let words = words(n, count).into_iter();
        words.map(Item::Token).collect()
    };
    let all = |count: usize| (0..3).map(|n| Given::History(items(n, count))).collect();
    cancel.raise();
    let refused = batch.give(&mut lanes, all(9), &cancel);
    assert!(matches!(refused, Err(graft::Error::Cancelled)));
    assert!(lanes.iter().all(|session| session.position() == 0));
    cancel.lower();
    assert_eq!(batch.give(&mut lanes, all(9), &cancel).unwrap(), [0; 3]);
    // All but the last of what is there already; the last is run again, for its row.
    assert_eq!(batch.give(&mut lanes, all(5), &cancel).unwrap(), [4; 3]);
    assert_eq!(batch.give(&mut lanes, all(9), &cancel).unwrap(), [5; 3]);

    let options = vec![GenerateOptions::default(); 3];
    let mut texts = 0;
    let answers = batch.generate_unless(&mut lanes, &options, &cancel, |_, _| {
        texts += 1;
        if texts == 4 {
            cancel.raise();
        }
        ControlFlow::Continue(())
    });
    let answers = answers.unwrap();
    assert!(
        answers
            .iter()
            .all(|answer| answer.finish == Finish::Cancelled)
    );
    cancel.lower();
    for (n, session) in lanes.iter().enumerate() {
        let held = session.history().len() - 9;
        assert!((1..=answers[n].tokens.len()).contains(&held));
    }
    let together = batch.logits_unless(&mut lanes, &cancel).unwrap().to_vec();
    let vocabulary = model.llama().shape().vocabulary;
    for ((session, set), logits) in lanes.iter().zip(&sets).zip(together.chunks(vocabulary)) {
        let tokens = session.history().iter().map(|item| match item {
            Item::Token(id) => *id,
            other => panic!("{other:?}"),
        });
        let alone = alone(&model, set, &tokens.collect::<Vec<_>>());
        assert!(relative_error(logits, &alone) < 1e-5);
    }
}
