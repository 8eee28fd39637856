//! A registry in the hands of many threads: what they publish, replace, retire, evict, read again and lease
//! at once, while sessions generate with what they leased. Every answer is that of one generation.
//!
//! `.ci/thread-sanitizer` runs this with every access to memory watched.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use graft::adapter::{
    Adapter, AdapterError, Attached, Generation, Lease, Publish, Registry, gguf_file,
};
use graft::model::{Model, ModelOptions};
use graft::session::{Session, SessionOptions};

const PROMPT: [u32; 5] = [1, 5, 70, 33, 2];
/// Tokens that a session generates with one lease.
const ANSWER: usize = 4;
/// Adapters in files; the registry has room for fewer.
const FILES: usize = 6;
const ROOM: usize = 4;
/// Answers that each session gives.
const TURNS: usize = 400;
/// The alias whose meaning changes all the time.
const LIVE: &str = "live";

/// Files of adapters that answer differently, and what each of them answers.
struct Shelf {
    model: Arc<Model>,
    folder: tempfile::TempDir,
    bytes: u64,
    answers: Vec<(Generation, Vec<u32>, Vec<f32>)>,
}

impl Shelf {
    fn new() -> Self {
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        let options = ModelOptions {
            threads: 2,
            ..ModelOptions::default()
        };
        let model = Model::open(&golden.join("llama/grouped_heads.gguf"), &options).unwrap();
        let plain = Adapter::open(&golden.join("peft/plain"), &model).unwrap();
        let mut shelf = Self {
            folder: tempfile::tempdir().unwrap(),
            bytes: plain.bytes(),
            answers: Vec::new(),
            model,
        };
        let mut session = shelf.session();
        for i in 0..FILES {
            let scaled = Adapter::clone(&plain).scaled(1.0 + 0.5 * i as f32).unwrap();
            gguf_file::write(&shelf.path(i), &scaled).unwrap();
            let adapter = Adapter::open(&shelf.path(i), &shelf.model).unwrap();
            let generation = adapter.generation();
            let (tokens, logits) = answer(&mut session, adapter);
            let known = shelf.answers.iter();
            assert!(known.map(|(_, _, l)| l).all(|l| *l != logits));
            shelf.answers.push((generation, tokens, logits));
        }
        shelf
    }

    fn path(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("{i}.gguf"))
    }

    fn session(&self) -> Session {
        let options = SessionOptions::with_context(16);
        Session::new(Arc::clone(&self.model), &options).unwrap()
    }

    /// Which of the files a generation is.
    fn number(&self, generation: Generation) -> usize {
        let known = self.answers.iter().position(|(g, ..)| *g == generation);
        known.expect("a generation that was published")
    }
}

/// Greedy tokens after the prompt, and the logits of the last.
fn answer(session: &mut Session, adapter: Arc<Adapter>) -> (Vec<u32>, Vec<f32>) {
    session.reset();
    session
        .set_adapters(Attached::new([(adapter, 1.0)]))
        .unwrap();
    session.feed(&PROMPT).unwrap();
    let mut tokens = Vec::new();
    for _ in 0..ANSWER {
        let logits = session.logits().unwrap();
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        tokens.push(best.unwrap() as u32);
        session.feed(&tokens[tokens.len() - 1..]).unwrap();
    }
    (tokens, session.logits().unwrap().to_vec())
}

/// What a registry without room may answer, and no other refusal.
fn room<T>(asked: graft::Result<T>) -> Option<T> {
    match asked {
        Ok(given) => Some(given),
        Err(graft::Error::Budget(_) | graft::Error::Adapter(AdapterError::TooMany { .. })) => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn whatever_other_threads_do_an_answer_is_that_of_one_generation() {
    let shelf = Shelf::new();
    let registry = Registry::new(Arc::clone(&shelf.model), ROOM as u64 * shelf.bytes);
    for i in 0..FILES {
        let (alias, path) = (i.to_string(), shelf.path(i));
        registry.load(&alias, &path, Publish::Create).unwrap();
    }
    let path = shelf.path(0);
    registry.load(LIVE, &path, Publish::Create).unwrap();
    let (done, sessions) = (AtomicBool::new(false), AtomicUsize::new(2));
    let seen = [const { AtomicUsize::new(0) }; FILES];
    let swapped = AtomicUsize::new(0);
    let busy = || !done.load(Ordering::Relaxed);
    let lease = |alias: &str| -> Option<Lease> { room(registry.lease(alias)) };
    std::thread::scope(|scope| {
        for first in 0..2 {
            let (shelf, lease, seen) = (&shelf, &lease, &seen);
            let (done, sessions) = (&done, &sessions);
            scope.spawn(move || {
                let mut session = shelf.session();
                let mut turns = 0;
                for turn in first.. {
                    let numbered = (turn % FILES).to_string();
                    let live = turn % 2 == 0;
                    let Some(lease) = lease(if live { LIVE } else { &numbered }) else {
                        session.set_adapters(Attached::default()).unwrap();
                        continue;
                    };
                    let (number, generation) = (shelf.number(lease.generation), lease.generation);
                    assert!(live || number == turn % FILES);
                    // From here on only the session holds it.
                    let (tokens, logits) = answer(&mut session, lease.adapter);
                    assert_eq!((generation, &tokens), {
                        let (generation, tokens, _) = &shelf.answers[number];
                        (*generation, tokens)
                    });
                    assert!(logits == shelf.answers[number].2, "a mix");
                    if live {
                        seen[number].fetch_add(1, Ordering::Relaxed);
                    }
                    turns += 1;
                    if turns == TURNS {
                        break;
                    }
                }
                if sessions.fetch_sub(1, Ordering::Relaxed) == 1 {
                    done.store(true, Ordering::Relaxed);
                }
            });
        }
        // Another meaning, from the disk.
        scope.spawn(|| {
            for turn in (0..).take_while(|_| busy()) {
                room(registry.load(LIVE, &shelf.path(turn % FILES), Publish::Replace));
                std::thread::yield_now();
            }
        });
        // Another meaning, from memory, if nobody was faster.
        scope.spawn(|| {
            let trained = Adapter::open(&shelf.path(FILES - 1), &shelf.model).unwrap();
            while busy() {
                let names = registry.aliases();
                let now = names.iter().find(|(alias, _)| alias == LIVE).unwrap().1;
                let trained = Arc::clone(&trained);
                match registry.publish(LIVE, trained, Publish::Swap(now)) {
                    Err(graft::Error::Adapter(AdapterError::AliasMoved { .. })) => {}
                    other => {
                        let published = room(other).is_some();
                        swapped.fetch_add(usize::from(published), Ordering::Relaxed);
                    }
                }
                std::thread::yield_now();
            }
        });
        // Names that come and go, for content that others hold under names of their own.
        scope.spawn(|| {
            for turn in (0..).take_while(|_| busy()) {
                let path = shelf.path(turn % FILES);
                if room(registry.load("passing", &path, Publish::Create)).is_some() {
                    registry.retire("passing").unwrap();
                }
            }
        });
        // Who looks closely: every value of what was leased, which the first of them decodes for both, and what
        // the registry says of itself.
        for _ in 0..2 {
            scope.spawn(|| {
                for turn in (0..).take_while(|_| busy()) {
                    let alias = (turn % FILES).to_string();
                    room(registry.pin(&alias, true));
                    if let Some(lease) = lease(&alias) {
                        assert_eq!(lease.adapter.generation(), lease.generation);
                        let values = lease.adapter.iter().flat_map(|(_, p)| [&p.a[..], &p.b[..]]);
                        assert!(values.flatten().all(|value| value.is_finite()));
                    }
                    registry.pin(&alias, false).unwrap();
                    let (bytes, limit) = registry.bytes();
                    assert!(bytes <= limit, "{bytes} of {limit}");
                    assert!(registry.resident().len() <= ROOM);
                }
            });
        }
    });
    let seen = seen.map(AtomicUsize::into_inner);
    println!("answers by generation {seen:?}, {swapped:?} swaps from memory");
    assert!(seen.iter().filter(|&&n| n > 0).count() > 1, "{seen:?}");
    assert!(swapped.into_inner() > 0);
    for (alias, _) in registry.aliases() {
        registry.retire(&alias).unwrap();
    }
    assert_eq!(registry.bytes().0, 0);
}
