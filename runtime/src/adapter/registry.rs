//! Public names for adapters that change while sessions run.
//!
//! An *alias* names a *generation*: one immutable version. Publishing under an alias again changes
//! what the next lease gets, and nothing else: a session keeps the generation it leased until it
//! asks for another. The bytes of a generation count against the registry's budget until the last
//! hold on it is gone: that of the alias, of a lease, or of a session it is attached to. Equal
//! content is held once, whatever the aliases.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Adapter, AdapterError, Generation, folder};
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

/// The adapters of one model by name, shared by any number of threads; clones are the same
/// registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    model: Arc<Model>,
    budget: Budget,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    aliases: BTreeMap<String, Lease>,
    /// Everything that may still be in memory, named or not.
    resident: Vec<Resident>,
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
        let found = self.aliases.get(alias).map(|lease| lease.generation);
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
}

impl Registry {
    /// An empty registry for adapters of `model`, which may take `limit` bytes together.
    pub fn new(model: Arc<Model>, limit: u64) -> Self {
        Self(Arc::new(Shared {
            model,
            budget: Budget::new(limit),
            state: Mutex::default(),
        }))
    }

    /// Reads an adapter file or a PEFT folder and publishes it. Its bytes are reserved before it is
    /// read.
    ///
    /// # Errors
    /// As [`Adapter::open`] and [`Registry::publish`]; the alias then names what it named.
    pub fn load(&self, alias: &str, path: &Path, publish: Publish) -> Result<Generation> {
        self.state().admit(alias, publish)?;
        let reservation = self.reserve(resident_bytes(path)?)?;
        let adapter = Adapter::open(path, &self.0.model)?;
        self.insert(alias, adapter, publish, reservation)
    }

    /// Publishes an adapter, such as one that was just trained. From now on the alias leases it.
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
        let reservation = self.reserve(0)?;
        self.insert(alias, adapter, publish, reservation)
    }

    /// Takes the alias away. Sessions keep what they hold; the bytes come back with the last hold.
    ///
    /// # Errors
    /// If there is no such alias.
    pub fn retire(&self, alias: &str) -> Result<Generation> {
        let removed = self.state().aliases.remove(alias);
        let lease = removed.ok_or_else(|| AdapterError::NoAlias {
            alias: alias.to_owned(),
        })?;
        Ok(lease.generation)
    }

    /// A hold on what the alias names now.
    ///
    /// # Errors
    /// If there is no such alias.
    pub fn lease(&self, alias: &str) -> Result<Lease> {
        let found = self.state().aliases.get(alias).cloned();
        Ok(found.ok_or_else(|| AdapterError::NoAlias {
            alias: alias.to_owned(),
        })?)
    }

    /// The aliases and what they name, in alphabetical order.
    pub fn aliases(&self) -> Vec<(String, Generation)> {
        let state = self.state();
        let entries = state.aliases.iter();
        entries
            .map(|(alias, lease)| (alias.clone(), lease.generation))
            .collect()
    }

    /// Generations in memory and their bytes, retired ones that are still held included.
    pub fn resident(&self) -> Vec<(Generation, u64)> {
        let mut state = self.state();
        state.sweep();
        let entries = state.resident.iter();
        entries.map(|r| (r.generation, r.bytes.bytes())).collect()
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

    fn reserve(&self, bytes: u64) -> Result<Reservation> {
        self.state().sweep();
        Ok(self.0.budget.reserve(bytes)?)
    }

    fn insert(
        &self,
        alias: &str,
        adapter: Arc<Adapter>,
        publish: Publish,
        mut reservation: Reservation,
    ) -> Result<Generation> {
        let generation = adapter.generation();
        let mut state = self.state();
        state.admit(alias, publish)?;
        let same = state.resident.iter().find(|r| r.generation == generation);
        let adapter = match same.and_then(|r| r.adapter.upgrade()) {
            Some(held) => held,
            None => {
                state.sweep();
                reservation.resize(adapter.bytes())?;
                state.resident.push(Resident {
                    generation,
                    adapter: Arc::downgrade(&adapter),
                    bytes: reservation,
                });
                adapter
            }
        };
        let lease = Lease {
            generation,
            adapter,
        };
        let replaced = state.aliases.insert(alias.to_owned(), lease);
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
    let gguf = Gguf::open(path)?;
    let values = gguf.tensors().iter().map(|info| info.elements() as u64);
    Ok(values.sum::<u64>().saturating_mul(size_of::<f32>() as u64))
}
