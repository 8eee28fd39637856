//! Public names for adapters that change while sessions run.
//!
//! An *alias* names a *generation*: one immutable version. Publishing under an alias again changes
//! what the next lease gets, and nothing else: a session keeps the generation it leased until it
//! asks for another. The bytes of a generation count against the registry's budget until the last
//! hold on it is gone: that of the alias, of a lease, or of a session it is attached to. Equal
//! content is held once, whatever the aliases. Where room is needed, what came from files and only its aliases
//! hold leaves memory, least recently used first, and is read again when it is leased; pinned ones stay.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use super::{Adapter, AdapterError, Generation, companion, folder};
use crate::Result;
use crate::gguf::Gguf;
use crate::memory::{Budget, Reservation};
use crate::model::Model;

/// When publishing is allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Publish {
    /// Only under an alias that is free.
    Create,
    /// Under any alias; what it named is retired.
    Replace,
    /// Only if the alias names this generation: for several writers that must not undo each other.
    Swap(Generation),
}

/// A hold on one generation. Attach its adapter to as many sessions as you like.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Which version it is.
    pub generation: Generation,
    /// The adapter itself; whoever holds it keeps the generation in memory.
    pub adapter: Arc<Adapter>,
}

/// What a registry says of an alias.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// The alias.
    pub alias: String,
    /// What it names.
    pub generation: Generation,
    /// Whether it stays in memory.
    pub pinned: bool,
    /// Whether it is in memory now.
    pub in_memory: bool,
}

/// How much a registry may hold in memory at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of all generations together.
    pub bytes: u64,
    /// Generations.
    pub generations: usize,
}

impl From<u64> for Limits {
    /// So many bytes, any number of generations.
    fn from(bytes: u64) -> Self {
        Self {
            bytes,
            generations: usize::MAX,
        }
    }
}

/// The adapters of one model by name, shared by any number of threads; clones are the same
/// registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    model: Arc<Model>,
    budget: Budget,
    generations: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    aliases: BTreeMap<String, Entry>,
    /// Everything that may still be in memory, named or not.
    resident: Vec<Resident>,
    /// Counts uses: tells which entry was used longest ago.
    clock: u64,
}

/// What the aliases of one generation that is in memory say about it together.
#[derive(Debug)]
struct Kept {
    /// Holds that are not theirs.
    others: usize,
    may_leave: bool,
    used: u64,
}

/// What an alias names.
#[derive(Debug)]
struct Entry {
    generation: Generation,
    /// `None` while only the file has it.
    adapter: Option<Arc<Adapter>>,
    /// Where it can be read again; nowhere if it was published from memory.
    file: Option<Source>,
    pinned: bool,
    used: u64,
}

/// A file or a folder.
#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    /// Of the file and of its companion, where there is one; folders have none, since their files can change.
    stamp: Option<(Stamp, Option<Stamp>)>,
}

/// Length of a file, and when it was last written.
type Stamp = (u64, SystemTime);

impl Source {
    fn of(path: &Path) -> Self {
        let stamp = |path: &Path| {
            let file = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
            Some((file.len(), file.modified().ok()?))
        };
        Self {
            path: path.to_owned(),
            stamp: stamp(path).map(|own| (own, stamp(&companion::path_of(path)))),
        }
    }

    /// Whether what was read then is certainly what is there now.
    fn is_unchanged(&self, now: &Self) -> bool {
        self.stamp.is_some() && self.stamp == now.stamp
    }
}

#[derive(Debug)]
struct Resident {
    generation: Generation,
    adapter: Weak<Adapter>,
    bytes: Reservation,
}

impl State {
    /// Gives back the bytes of generations that nobody holds.
    fn sweep(&mut self) {
        self.resident.retain(|r| r.adapter.strong_count() > 0);
    }

    fn admit(&self, alias: &str, publish: Publish) -> Result<(), AdapterError> {
        let found = self.aliases.get(alias).map(|entry| entry.generation);
        let alias = alias.to_owned();
        match (publish, found) {
            (Publish::Create, Some(found)) => Err(AdapterError::AliasTaken { alias, found }),
            (Publish::Swap(_), None) => Err(AdapterError::NoAlias { alias }),
            (Publish::Swap(expected), Some(found)) if expected != found => {
                Err(AdapterError::AliasMoved {
                    alias,
                    expected,
                    found,
                })
            }
            _ => Ok(()),
        }
    }

    fn entry(&mut self, alias: &str) -> Result<&mut Entry, AdapterError> {
        self.clock += 1;
        let clock = self.clock;
        let entry = self.aliases.get_mut(alias);
        let entry = entry.ok_or_else(|| AdapterError::NoAlias {
            alias: alias.to_owned(),
        })?;
        entry.used = clock;
        Ok(entry)
    }

    /// Takes the generation that was used longest ago away from its aliases, among those that nobody else holds and
    /// that can be read again under every alias. `None` if there is none.
    ///
    /// Its room is free from here on. What is given must be dropped, and better without the lock: its file is
    /// unmapped then.
    fn evict(&mut self) -> Option<Vec<Adapter>> {
        let mut kept: BTreeMap<Generation, Kept> = BTreeMap::new();
        for entry in self.aliases.values() {
            let Some(adapter) = &entry.adapter else {
                continue;
            };
            let kept = kept.entry(entry.generation).or_insert_with(|| Kept {
                others: Arc::strong_count(adapter),
                may_leave: true,
                used: 0,
            });
            kept.others -= 1;
            kept.may_leave &= !entry.pinned && entry.file.is_some();
            kept.used = kept.used.max(entry.used);
        }
        let idle = kept
            .into_iter()
            .filter(|(_, kept)| kept.others == 0 && kept.may_leave);
        let (oldest, _) = idle.min_by_key(|(_, kept)| kept.used)?;
        let entries = self.aliases.values_mut();
        let named = entries.filter(|entry| entry.generation == oldest);
        let holds = named.filter_map(|entry| entry.adapter.take());
        Some(holds.filter_map(Arc::into_inner).collect())
    }

    /// A generation that is in memory already.
    fn held(&self, generation: Generation) -> Option<Arc<Adapter>> {
        let mut same = self.resident.iter().filter(|r| r.generation == generation);
        same.find_map(|r| r.adapter.upgrade())
    }
}

impl Registry {
    /// An empty registry for adapters of `model`, which may take so much together.
    pub fn new(model: Arc<Model>, limits: impl Into<Limits>) -> Self {
        let limits = limits.into();
        Self(Arc::new(Shared {
            model,
            budget: Budget::new(limits.bytes),
            generations: limits.generations,
            state: Mutex::default(),
        }))
    }

    /// Reads an adapter file or a PEFT folder and publishes it. Its bytes are reserved before it is read; where
    /// they do not fit, those that were used longest ago leave memory, to be read again when they are leased.
    ///
    /// # Errors
    /// As [`Adapter::open`] and [`Registry::publish`]; the alias then names what it named.
    pub fn load(&self, alias: &str, path: &Path, publish: Publish) -> Result<Generation> {
        self.state().admit(alias, publish)?;
        let source = Source::of(path);
        let reservation = self.reserve(resident_bytes(path)?)?;
        let adapter = Adapter::open(path, &self.0.model)?;
        self.insert(alias, adapter, publish, reservation, Some(source))
    }

    /// Publishes an adapter, such as one that was just trained. From now on the alias leases it; it stays in
    /// memory until it is retired or replaced.
    ///
    /// # Errors
    /// If it was made for another model, `publish` does not allow it, or its bytes do not fit beside
    /// the generations still in use; the alias then names what it named.
    pub fn publish(
        &self,
        alias: &str,
        adapter: Arc<Adapter>,
        publish: Publish,
    ) -> Result<Generation> {
        adapter.check_base(&self.0.model)?;
        self.state().admit(alias, publish)?;
        let reservation = self.reserve(0)?;
        self.insert(alias, adapter, publish, reservation, None)
    }

    /// Takes the alias away. Sessions keep what they hold; the bytes come back with the last hold.
    ///
    /// # Errors
    /// If there is no such alias.
    pub fn retire(&self, alias: &str) -> Result<Generation> {
        let removed = self.state().aliases.remove(alias);
        let entry = removed.ok_or_else(|| AdapterError::NoAlias {
            alias: alias.to_owned(),
        })?;
        Ok(entry.generation)
    }

    /// A hold on what the alias names now; what has left memory is read again.
    ///
    /// # Errors
    /// If there is no such alias, or its file can no longer be read, has other content, or does not fit beside
    /// the generations in use.
    pub fn lease(&self, alias: &str) -> Result<Lease> {
        let (generation, source) = {
            let mut state = self.state();
            let entry = state.entry(alias)?;
            let generation = entry.generation;
            if let Some(adapter) = entry.adapter.clone() {
                return Ok(Lease {
                    generation,
                    adapter,
                });
            }
            let source = entry.file.clone().expect("only files leave memory");
            if let Some(adapter) = state.held(generation) {
                state.entry(alias)?.adapter = Some(Arc::clone(&adapter));
                return Ok(Lease {
                    generation,
                    adapter,
                });
            }
            (generation, source)
        };
        let reservation = self.reserve(resident_bytes(&source.path)?)?;
        let now = Source::of(&source.path);
        let adapter = Adapter::open(&source.path, &self.0.model)?;
        if !source.is_unchanged(&now) && adapter.generation() != generation {
            let (alias, path) = (alias.to_owned(), source.path);
            return Err(AdapterError::FileChanged { alias, path }.into());
        }
        let (adapter, mut state) = self.keep(generation, &adapter, reservation)?;
        // The alias may have moved on meanwhile; the lease is of what it named when it was asked for.
        if let Some(entry) = state.aliases.get_mut(alias)
            && entry.generation == generation
        {
            entry.adapter = Some(Arc::clone(&adapter));
            entry.file = Some(now);
        }
        Ok(Lease {
            generation,
            adapter,
        })
    }

    /// Keeps what the alias names in memory, or lets it leave again when room is needed.
    ///
    /// # Errors
    /// As [`Registry::lease`].
    pub fn pin(&self, alias: &str, pinned: bool) -> Result<()> {
        // What is pinned is in memory from now on.
        let _hold = pinned.then(|| self.lease(alias)).transpose()?;
        self.state().entry(alias)?.pinned = pinned;
        Ok(())
    }

    /// The aliases and what they name, in alphabetical order.
    pub fn aliases(&self) -> Vec<(String, Generation)> {
        let state = self.state();
        let entries = state.aliases.iter();
        entries
            .map(|(alias, entry)| (alias.clone(), entry.generation))
            .collect()
    }

    /// The same with what becomes of them.
    pub fn names(&self) -> Vec<Named> {
        let state = self.state();
        let entries = state.aliases.iter();
        let named = entries.map(|(alias, entry)| Named {
            alias: alias.clone(),
            generation: entry.generation,
            pinned: entry.pinned,
            in_memory: entry.adapter.is_some(),
        });
        named.collect()
    }

    /// Generations in memory and their bytes, retired ones that are still held included.
    pub fn resident(&self) -> Vec<(Generation, u64)> {
        let mut state = self.state();
        state.sweep();
        let entries = state.resident.iter();
        entries.map(|r| (r.generation, r.bytes.bytes())).collect()
    }

    /// How much it may hold.
    pub fn limits(&self) -> Limits {
        Limits {
            bytes: self.0.budget.limit(),
            generations: self.0.generations,
        }
    }

    /// Bytes of all generations in memory, and the most they may be.
    pub fn bytes(&self) -> (u64, u64) {
        self.state().sweep();
        (self.0.budget.reserved(), self.0.budget.limit())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the lock is let go, so a panic elsewhere spoils nothing.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes for a generation, for which others leave memory if they must.
    fn reserve(&self, bytes: u64) -> Result<Reservation> {
        let reserved = self.make_room(|state| {
            self.admits_another(state)?;
            Ok(self.0.budget.reserve(bytes)?)
        });
        reserved.map(|(reservation, _unlocked)| reservation)
    }

    fn admits_another(&self, state: &State) -> Result<(), AdapterError> {
        let most = self.0.generations;
        match state.resident.len() < most {
            true => Ok(()),
            false => Err(AdapterError::TooMany { most }),
        }
    }

    /// What `take` gives, and the lock under which it did. As long as it refuses, others leave memory, one at a
    /// time; nobody waits for the lock while they do.
    fn make_room<T>(
        &self,
        mut take: impl FnMut(&State) -> Result<T>,
    ) -> Result<(T, MutexGuard<'_, State>)> {
        let mut state = self.state();
        loop {
            state.sweep();
            let refused = match take(&state) {
                Ok(taken) => return Ok((taken, state)),
                Err(refused) => refused,
            };
            let evicted = state.evict().ok_or(refused)?;
            drop(state);
            drop(evicted);
            state = self.state();
        }
    }

    /// Counts a generation as in memory, or gives the one that is already.
    fn keep(
        &self,
        generation: Generation,
        adapter: &Arc<Adapter>,
        mut reservation: Reservation,
    ) -> Result<(Arc<Adapter>, MutexGuard<'_, State>)> {
        let (held, mut state) = self.make_room(|state| {
            let held = state.held(generation);
            if held.is_none() {
                self.admits_another(state)?;
                reservation.resize(adapter.bytes())?;
            }
            Ok(held)
        })?;
        if let Some(held) = held {
            return Ok((held, state));
        }
        state.resident.push(Resident {
            generation,
            adapter: Arc::downgrade(adapter),
            bytes: reservation,
        });
        Ok((Arc::clone(adapter), state))
    }

    fn insert(
        &self,
        alias: &str,
        adapter: Arc<Adapter>,
        publish: Publish,
        reservation: Reservation,
        file: Option<Source>,
    ) -> Result<Generation> {
        let generation = adapter.generation();
        let (kept, mut state) = self.keep(generation, &adapter, reservation)?;
        state.admit(alias, publish)?;
        state.clock += 1;
        let entry = Entry {
            generation,
            adapter: Some(kept),
            file,
            pinned: state.aliases.get(alias).is_some_and(|entry| entry.pinned),
            used: state.clock,
        };
        let replaced = state.aliases.insert(alias.to_owned(), entry);
        drop(state);
        // Freeing a large adapter takes a while; nobody waits for it.
        drop(replaced);
        Ok(generation)
    }
}

/// What an adapter file will take in memory: exactly for GGUF, whose directory says it; the file's
/// length for a PEFT folder, corrected once it is read.
fn resident_bytes(path: &Path) -> Result<u64> {
    if path.is_dir() {
        return folder::file_bytes(path);
    }
    let bytes = |gguf: &Gguf| {
        gguf.tensors()
            .iter()
            .map(|info| info.bytes as u64)
            .sum::<u64>()
    };
    let gguf = Gguf::open(path)?;
    let beside = companion::open(path, gguf.metadata())?;
    Ok(bytes(&gguf) + beside.map_or(0, |beside| bytes(&beside)))
}
