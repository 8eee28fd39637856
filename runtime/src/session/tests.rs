//! Sessions on a tiny random model: hot swap, rewinding, the shared beginning.

use std::path::Path;

use super::*;
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
    second.feed(&[7]).unwrap();
    assert_eq!(
        second.logits().unwrap(),
        logits_of(&model, with_a, &[1, 5, 9, 7])
    );
    assert_eq!(first.position(), 3, "the first is where it was");
    second.set_adapters(set(&[])).unwrap();
    assert_eq!(
        second.logits().unwrap(),
        logits_of(&model, set(&[]), &[1, 5, 9, 7])
    );
    let small = SessionOptions::with_context(2);
    let refused = first.fork(&small).unwrap_err().to_string();
    assert!(refused.contains("do not fit 2"), "{refused}");
}
