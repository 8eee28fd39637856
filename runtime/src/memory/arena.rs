//! Where large buffers come from: an arena knows how many bytes of each part were planned, and hands
//! out no more.
//!
//! Every buffer is an anonymous mapping of its own, so that its bytes go back to the system the moment it
//! is dropped, and a system that has none left gives an error instead of ending the process. Pages
//! count from their first use on.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;
use memmap2::MmapMut;

use super::{MemoryPlan, Part};

/// The buffers of one piece of work; clones are the same arena.
#[derive(Clone, Debug)]
pub struct Arena(Arc<Ledger>);

#[derive(Debug)]
struct Ledger {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    planned: Option<MemoryPlan>,
    parts: MemoryPlan,
    total: u64,
    peak: u64,
}

/// Why a buffer was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum ArenaError {
    #[error(
        "{}: {asked} bytes more than the {held} in use exceed the plan of {planned}; the plan is wrong, please report it",
        part.name()
    )]
    Unplanned {
        part: Part,
        asked: u64,
        held: u64,
        planned: u64,
    },
    #[error("the system has no {asked} bytes of memory left for {}: {source}", part.name())]
    Refused {
        part: Part,
        asked: u64,
        source: std::io::Error,
    },
}

impl Arena {
    /// An arena that hands out what was planned.
    pub fn new(plan: MemoryPlan) -> Self {
        Self::with(Some(plan))
    }

    /// An arena that counts and refuses nothing.
    pub fn unlimited() -> Self {
        Self::with(None)
    }

    fn with(planned: Option<MemoryPlan>) -> Self {
        let held = Held {
            planned,
            ..Held::default()
        };
        Self(Arc::new(Ledger {
            held: Mutex::new(held),
        }))
    }

    /// Hands out what another plan says from now on.
    pub fn replan(&self, plan: MemoryPlan) {
        self.lock().planned = Some(plan);
    }

    /// `len` zeros of any plain type.
    ///
    /// # Errors
    /// If they were not planned, or the system has no memory left.
    pub fn buffer<T: Pod>(&self, part: Part, len: usize) -> Result<Buffer<T>, ArenaError> {
        let bytes = len.saturating_mul(size_of::<T>());
        let hold = self.hold(part, bytes)?;
        let refused = |source| ArenaError::Refused {
            part,
            asked: bytes as u64,
            source,
        };
        let map = match bytes {
            0 => None,
            _ => Some(MmapMut::map_anon(bytes).map_err(refused)?),
        };
        Ok(Buffer {
            map,
            _hold: hold,
            of: PhantomData,
        })
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// As [`Arena::buffer`].
    pub fn floats(&self, part: Part, len: usize) -> Result<Floats, ArenaError> {
        self.buffer(part, len)
    }

    /// One array of zeros for each of `lens`.
    ///
    /// # Errors
    /// As [`Arena::floats`].
    pub fn arrays<const N: usize>(
        &self,
        part: Part,
        lens: [usize; N],
    ) -> Result<[Floats; N], ArenaError> {
        let made: Result<Vec<_>, _> = lens.iter().map(|&len| self.floats(part, len)).collect();
        Ok(made?.try_into().expect("as many as were asked for"))
    }

    /// Counts bytes that lie elsewhere until the hold is dropped.
    ///
    /// # Errors
    /// If they were not planned.
    pub fn hold(&self, part: Part, bytes: usize) -> Result<Hold, ArenaError> {
        let bytes = bytes as u64;
        let mut held = self.lock();
        let now = held.parts.bytes(part);
        if let Some(plan) = &held.planned {
            let planned = plan.bytes(part);
            if bytes > planned.saturating_sub(now) {
                return Err(ArenaError::Unplanned {
                    part,
                    asked: bytes,
                    held: now,
                    planned,
                });
            }
        }
        held.parts.set(part, now + bytes);
        held.total += bytes;
        held.peak = held.peak.max(held.total);
        Ok(Hold {
            arena: self.clone(),
            part,
            bytes,
        })
    }

    /// What is in use now.
    pub fn held(&self) -> MemoryPlan {
        self.lock().parts
    }

    /// Most bytes that were in use at once.
    pub fn peak(&self) -> u64 {
        self.lock().peak
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a part, counted until dropped.
#[derive(Debug)]
pub struct Hold {
    arena: Arena,
    part: Part,
    bytes: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.arena.lock();
        let now = held.parts.bytes(self.part);
        held.parts.set(self.part, now - self.bytes);
        held.total -= self.bytes;
    }
}

/// A buffer from an arena.
#[derive(Debug)]
pub struct Buffer<T> {
    map: Option<MmapMut>,
    _hold: Hold,
    of: PhantomData<T>,
}

/// A buffer of floats.
pub type Floats = Buffer<f32>;

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.map {
            // A mapping begins at a page, so it is aligned for any plain type.
            Some(map) => bytemuck::cast_slice(map),
            None => &[],
        }
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.map {
            Some(map) => bytemuck::cast_slice_mut(map),
            None => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_handed_out_than_was_planned_and_it_comes_back() {
        let mut plan = MemoryPlan::default();
        plan.add(Part::Loss, 100);
        let arena = Arena::new(plan);
        let mut first = arena.floats(Part::Loss, 20).unwrap();
        assert!(first.iter().all(|&v| v == 0.0) && first.len() == 20);
        first[19] = 1.5;
        assert_eq!(first[19], 1.5);
        let refused = arena.floats(Part::Loss, 6).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("24 bytes more than the 80 in use"),
            "{refused}"
        );
        assert!(arena.floats(Part::Optimizer, 1).is_err());
        let hold = arena.hold(Part::Loss, 20).unwrap();
        assert_eq!((arena.held().bytes(Part::Loss), arena.peak()), (100, 100));
        drop(first);
        drop(hold);
        assert_eq!((arena.held(), arena.peak()), (MemoryPlan::default(), 100));
    }

    #[test]
    fn what_no_system_has_is_refused_and_nothing_is() {
        let arena = Arena::unlimited();
        let refused = arena.floats(Part::Weights, usize::MAX / 4);
        assert!(matches!(refused, Err(ArenaError::Refused { .. })));
        assert_eq!(arena.held(), MemoryPlan::default());
        assert!(arena.floats(Part::Weights, 0).unwrap().is_empty());
    }
}
