//! Which adapters of a registry are in memory: limits hold whatever is leased, what is used stays, what left
//! comes back as it was.

#[allow(dead_code)] // only the models are of use here
mod answers;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use answers::{golden, open};
use graft::adapter::{Adapter, AdapterError, Limits, Publish, Registry, gguf_file};
use graft::model::Model;
use graft_kernels::QuantType;

struct Shelf {
    model: Arc<Model>,
    folder: tempfile::TempDir,
    bytes: u64,
}

impl Shelf {
    /// `n` adapters of the same size and different content, in files.
    fn of(n: usize) -> Self {
        let model = open(&golden().join("llama/grouped_heads.gguf"));
        let folder = tempfile::tempdir().unwrap();
        let plain = Adapter::open(&golden().join("peft/plain"), &model).unwrap();
        let shelf = Self {
            bytes: plain.bytes(),
            model,
            folder,
        };
        for i in 0..n {
            let adapter = Adapter::clone(&plain).scaled(1.0 + i as f32).unwrap();
            gguf_file::write(&shelf.path(i), &adapter).unwrap();
        }
        shelf
    }

    fn path(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("{i}.gguf"))
    }

    fn registry(&self, limits: impl Into<Limits>) -> Registry {
        Registry::new(Arc::clone(&self.model), limits)
    }

    fn load(&self, registry: &Registry, i: usize) -> graft::Result<()> {
        registry.load(&i.to_string(), &self.path(i), Publish::Create)?;
        Ok(())
    }
}

fn adapter_error(error: graft::Error) -> AdapterError {
    match error {
        graft::Error::Adapter(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn what_was_used_longest_ago_leaves_and_comes_back_as_it_was() {
    let shelf = Shelf::of(3);
    let registry = shelf.registry(2 * shelf.bytes);
    let names = |registry: &Registry| {
        let resident: Vec<_> = registry.resident().into_iter().map(|(g, _)| g).collect();
        let aliases = registry.aliases().into_iter();
        aliases
            .filter(|(_, g)| resident.contains(g))
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    shelf.load(&registry, 0).unwrap();
    let first = registry.lease("0").unwrap().generation;
    shelf.load(&registry, 1).unwrap();
    registry.lease("0").unwrap();
    shelf.load(&registry, 2).unwrap();
    assert_eq!(names(&registry), ["0", "2"], "1 was used longest ago");
    let back = registry.lease("1").unwrap();
    assert_eq!(names(&registry), ["1", "2"]);
    assert_eq!(back.adapter.generation(), back.generation);
    assert_eq!(registry.lease("0").unwrap().generation, first);
    assert_eq!(registry.aliases().len(), 3);
    assert!(registry.bytes().0 <= 2 * shelf.bytes);
}

#[test]
fn aliases_of_equal_content_leave_and_come_back_together() {
    let shelf = Shelf::of(3);
    let registry = shelf.registry(2 * shelf.bytes);
    let generations = |registry: &Registry| -> Vec<_> {
        let resident = registry.resident().into_iter();
        resident.map(|(generation, _)| generation).collect()
    };
    let load = |alias: &str, i: usize| registry.load(alias, &shelf.path(i), Publish::Create);
    let zero = load("a", 0).unwrap();
    assert_eq!(load("b", 0).unwrap(), zero);
    let one = load("c", 1).unwrap();
    // The use of one name is a use of what it names.
    registry.lease("b").unwrap();
    let two = load("d", 2).unwrap();
    assert_eq!(generations(&registry), [zero, two]);
    registry.lease("c").unwrap();
    assert_eq!(generations(&registry), [two, one], "no name held it back");
    let (a, b) = (registry.lease("a").unwrap(), registry.lease("b").unwrap());
    assert!(Arc::ptr_eq(&a.adapter, &b.adapter));
    assert_eq!(generations(&registry), [one, zero]);
    drop((a, b));
    // What is pinned under one name stays under all.
    registry.pin("a", true).unwrap();
    for alias in ["c", "d", "c", "d"] {
        registry.lease(alias).unwrap();
    }
    assert!(generations(&registry).contains(&zero));
    registry.pin("a", false).unwrap();
    for alias in ["c", "d"] {
        registry.lease(alias).unwrap();
    }
    assert_eq!(generations(&registry), [one, two]);
    // So does what one of the names has no file for.
    let trained = Adapter::open(&shelf.path(0), &shelf.model).unwrap();
    registry
        .publish("trained", trained, Publish::Create)
        .unwrap();
    registry.lease("a").unwrap();
    for alias in ["c", "d"] {
        registry.lease(alias).unwrap();
    }
    assert_eq!(generations(&registry), [zero, two]);
}

#[test]
fn what_is_leased_or_pinned_or_only_in_memory_stays() {
    let shelf = Shelf::of(3);
    let registry = shelf.registry(2 * shelf.bytes);
    shelf.load(&registry, 0).unwrap();
    shelf.load(&registry, 1).unwrap();
    registry.pin("0", true).unwrap();
    let lease = registry.lease("1").unwrap();
    let refused = shelf.load(&registry, 2).unwrap_err();
    assert!(matches!(refused, graft::Error::Budget(_)), "{refused}");
    drop(lease);
    shelf.load(&registry, 2).unwrap();
    registry.pin("0", false).unwrap();
    assert!(registry.lease("1").is_ok(), "0 may leave again");

    let registry = shelf.registry(Limits {
        bytes: u64::MAX,
        generations: 1,
    });
    let trained = Adapter::open(&shelf.path(0), &shelf.model).unwrap();
    registry
        .publish("trained", trained, Publish::Create)
        .unwrap();
    let refused = adapter_error(shelf.load(&registry, 1).unwrap_err());
    assert!(
        matches!(refused, AdapterError::TooMany { most: 1 }),
        "{refused}"
    );
    registry.retire("trained").unwrap();
    shelf.load(&registry, 1).unwrap();
    assert!(registry.pin("nobody", true).is_err());
}

#[test]
fn a_file_that_changed_meanwhile_is_not_leased_under_the_old_generation() {
    let shelf = Shelf::of(3);
    let registry = shelf.registry(shelf.bytes);
    shelf.load(&registry, 0).unwrap();
    shelf.load(&registry, 1).unwrap();
    replace(&shelf.path(2), &shelf.path(0));
    let refused = adapter_error(registry.lease("0").unwrap_err());
    assert!(
        matches!(&refused, AdapterError::FileChanged { alias, .. } if alias == "0"),
        "{refused}"
    );
    std::fs::remove_file(shelf.path(0)).unwrap();
    assert!(registry.lease("0").is_err());
    // Written anew with the same content it is the same generation.
    let one = registry.lease("1").unwrap().generation;
    registry.retire("0").unwrap();
    replace(&shelf.path(1), &shelf.path(0));
    registry.load("0", &shelf.path(0), Publish::Create).unwrap();
    assert_eq!(registry.lease("0").unwrap().generation, one);
}

fn replace(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside).unwrap();
    std::fs::rename(beside, to).unwrap();
}

/// Four threads, more adapters than fit: every lease is of what its alias names, and the limit holds. Nothing is
/// refused, down to the limit at which every thread has one adapter in use and no more has room.
#[test]
fn many_threads_share_less_room_than_they_want() {
    const ADAPTERS: usize = 40;
    const THREADS: usize = 4;
    let shelf = Shelf::of(ADAPTERS);
    let room = |generations: usize| Limits {
        bytes: generations as u64 * shelf.bytes,
        generations: usize::MAX,
    };
    let count = |generations| Limits {
        bytes: u64::MAX,
        generations,
    };
    for limits in [room(12), room(THREADS), count(12), count(THREADS)] {
        let registry = shelf.registry(limits);
        for i in 0..ADAPTERS {
            shelf.load(&registry, i).unwrap();
        }
        let names = registry.aliases();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (registry, names) = (&registry, &names);
                scope.spawn(move || {
                    for turn in 0..500 {
                        let (alias, generation) = &names[(turn * 7919 + thread * 31) % ADAPTERS];
                        let lease = registry.lease(alias).unwrap();
                        assert_eq!(lease.generation, *generation);
                        assert!(registry.bytes().0 <= limits.bytes);
                        assert!(registry.resident().len() <= limits.generations);
                    }
                });
            }
        });
        let resident = registry.resident().len() as u64;
        assert!(resident <= limits.generations as u64 && resident <= limits.bytes / shelf.bytes);
    }
}

/// One large adapter leaves for two small ones, that two threads want at once: who comes when it is leaving already
/// is not refused.
#[test]
fn room_that_one_thread_is_making_is_there_for_another() {
    let shelf = Shelf::of(3);
    let small = [shelf.path(1), shelf.path(2)];
    for path in &small {
        let adapter = gguf_file::read(path).unwrap();
        gguf_file::write_as(path, &adapter, QuantType::F16).unwrap();
    }
    let registry = shelf.registry(shelf.bytes);
    shelf.load(&registry, 0).unwrap();
    for i in [1, 2] {
        shelf.load(&registry, i).unwrap();
    }
    assert_eq!(registry.bytes().0, shelf.bytes);
    let turn = Barrier::new(2);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (registry, turn) = (&registry, &turn);
            scope.spawn(move || {
                for _ in 0..3000 {
                    if turn.wait().is_leader() {
                        registry.lease("0").unwrap();
                    }
                    turn.wait();
                    let lease = registry.lease(["1", "2"][thread]);
                    turn.wait();
                    lease.unwrap();
                }
            });
        }
    });
    assert_eq!(registry.resident().len(), 2);
}
