//! The registry: swaps under load change the next lease and nothing else, and bytes come back
//! exactly when the last hold is gone.

mod answers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use answers::{golden, logits, open};
use graft::adapter::{Adapter, Attached, Lease, Publish, Registry};
use graft::model::Model;
use graft::session::{Session, SessionOptions};

const TOKENS: [u32; 6] = [1, 5, 70, 33, 2, 60];

fn base() -> Arc<Model> {
    open(&golden().join("llama/grouped_heads.gguf"))
}

fn folder(name: &str) -> PathBuf {
    golden().join("peft").join(name)
}

fn registry(limit: u64) -> Registry {
    Registry::new(base(), limit)
}

fn set(lease: &Lease) -> Attached {
    Attached::new([(Arc::clone(&lease.adapter), 1.0)])
}

#[test]
fn a_swap_changes_the_next_lease_and_no_other() {
    let registry = registry(1 << 20);
    let first = registry
        .load("a", &folder("plain"), Publish::Create)
        .unwrap();
    let old = registry.lease("a").unwrap();
    let second = registry
        .load("a", &folder("patterned"), Publish::Replace)
        .unwrap();
    let new = registry.lease("a").unwrap();
    assert_ne!(first, second);
    assert_eq!((old.generation, new.generation), (first, second));
    assert_eq!(old.adapter.generation(), first);
    assert_eq!(registry.aliases(), [("a".to_owned(), second)]);
    assert_eq!(registry.resident().len(), 2);
    registry.retire("a").unwrap();
    assert!(registry.lease("a").is_err());
    assert_eq!(registry.resident().len(), 2);
    drop((old, new));
    assert_eq!(registry.bytes(), (0, 1 << 20));
}

#[test]
fn a_session_keeps_its_generation_in_memory_after_everyone_else_let_go() {
    let registry = registry(1 << 20);
    registry
        .load("a", &folder("plain"), Publish::Create)
        .unwrap();
    let mut session = Session::new(base(), &SessionOptions::default()).unwrap();
    session
        .set_adapters(set(&registry.lease("a").unwrap()))
        .unwrap();
    registry.retire("a").unwrap();
    let held = session.adapters().entries()[0].0.bytes();
    assert_eq!(registry.bytes().0, held);
    session.set_adapters(Attached::default()).unwrap();
    assert_eq!(registry.bytes().0, 0);
}

#[test]
fn equal_content_is_held_once_whatever_its_name() {
    let registry = registry(1 << 20);
    let one = registry
        .load("one", &folder("llava"), Publish::Create)
        .unwrap();
    let bytes = registry.bytes().0;
    let two = registry
        .load("two", &folder("llava_before_452"), Publish::Create)
        .unwrap();
    assert_eq!(one, two);
    assert_eq!(one.to_string().len(), 64);
    assert_eq!(registry.bytes().0, bytes);
    let (one, two) = (
        registry.lease("one").unwrap(),
        registry.lease("two").unwrap(),
    );
    assert!(Arc::ptr_eq(&one.adapter, &two.adapter));
}

#[test]
fn the_policy_decides_and_a_refusal_changes_nothing() {
    let registry = registry(1 << 20);
    let (plain, patterned) = (folder("plain"), folder("patterned"));
    let text = |r: graft::Result<_>| r.unwrap_err().to_string();
    let first = registry.load("a", &plain, Publish::Create).unwrap();
    let says = text(registry.load("a", &patterned, Publish::Create));
    assert!(says.contains("already names"), "{says}");
    let second = registry
        .load("a", &patterned, Publish::Swap(first))
        .unwrap();
    let says = text(registry.load("a", &plain, Publish::Swap(first)));
    assert!(says.contains("someone else"), "{says}");
    let says = text(registry.load("b", &plain, Publish::Swap(first)));
    assert!(says.contains("no adapter"), "{says}");
    let says = text(registry.load("a", &golden().join("llama"), Publish::Replace));
    assert!(says.contains("adapter_model.safetensors"), "{says}");
    assert_eq!(registry.lease("a").unwrap().generation, second);
    assert_eq!(registry.resident().len(), 1);
    let foreign = Registry::new(open(&golden().join("llama/wide_heads.gguf")), 1 << 20);
    let adapter = registry.lease("a").unwrap().adapter;
    assert!(foreign.publish("a", adapter, Publish::Create).is_err());
    assert!(text(registry.retire("b")).contains("b"));
}

#[test]
fn what_does_not_fit_the_budget_is_refused_until_something_is_let_go() {
    let model = base();
    let sizes = ["plain", "patterned"].map(|name| {
        let adapter = Adapter::open(&folder(name), &model).unwrap();
        adapter.bytes()
    });
    // A byte too little for both.
    let registry = registry(sizes[0] + sizes[1] - 1);
    registry
        .load("a", &folder("plain"), Publish::Create)
        .unwrap();
    let held = registry.lease("a").unwrap();
    for publish in [Publish::Create, Publish::Replace] {
        let refused = registry.load("b", &folder("patterned"), publish);
        assert!(refused.unwrap_err().to_string().contains("do not fit"));
        assert_eq!(registry.bytes().0, sizes[0]);
    }
    registry.retire("a").unwrap();
    let still_held = registry.load("b", &folder("patterned"), Publish::Create);
    assert!(still_held.is_err());
    drop(held);
    registry
        .load("b", &folder("patterned"), Publish::Create)
        .unwrap();
    assert_eq!(registry.bytes().0, sizes[1]);
}

#[test]
fn answers_under_load_are_always_those_of_one_generation() {
    let model = base();
    let folders = ["plain", "patterned"];
    let adapters = folders.map(|name| Adapter::open(&folder(name), &model).unwrap());
    let expected = adapters.each_ref().map(|adapter| {
        let attached = Attached::new([(Arc::clone(adapter), 1.0)]);
        (adapter.generation(), logits(&model, &attached, &TOKENS))
    });
    let registry = Registry::new(Arc::clone(&model), 1 << 20);
    let start = Arc::clone(&adapters[0]);
    registry.publish("a", start, Publish::Create).unwrap();
    let done = AtomicBool::new(false);
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let lease = registry.lease("a").unwrap();
                    let found = logits(&model, &set(&lease), &TOKENS);
                    let which = expected.iter().position(|(g, _)| *g == lease.generation);
                    let which = which.expect("a generation that was published");
                    assert!(found == expected[which].1);
                    seen[which].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Until both were seen often, each time from the disk.
        let enough = || seen.iter().all(|n| n.load(Ordering::Relaxed) > 20);
        for turn in 0.. {
            if enough() || turn > 100_000 {
                break;
            }
            let path = folder(folders[turn % 2]);
            registry.load("a", &path, Publish::Replace).unwrap();
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        assert!(enough());
    });
    drop(adapters);
    registry.retire("a").unwrap();
    assert_eq!(registry.bytes().0, 0);
}
