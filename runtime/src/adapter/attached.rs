//! An ordered set of adapters with strengths, as a session holds it.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use graft_kernels::ops::dropout::Dropout;

use super::Adapter;
use crate::kv_cache::MadeBy;
use crate::model::{AdapterView, LoraRef, Site};

/// Adapters attached together; their terms add up. Strength 0 is the same as not being there.
///
/// Two are equal if they hold the very same adapters in the same order at the same strengths.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    entries: Vec<(Arc<Adapter>, f32)>,
    made_by: MadeBy,
}

impl PartialEq for Attached {
    fn eq(&self, other: &Self) -> bool {
        let (mine, others) = (self.entries.iter(), other.entries.iter());
        mine.len() == others.len()
            && mine
                .zip(others)
                .all(|((a, x), (b, y))| Arc::ptr_eq(a, b) && x.to_bits() == y.to_bits())
    }
}

impl Attached {
    /// The set of these adapters at these strengths.
    pub fn new(entries: impl IntoIterator<Item = (Arc<Adapter>, f32)>) -> Self {
        static SETS: AtomicU64 = AtomicU64::new(1);
        let present = entries.into_iter().filter(|&(_, strength)| strength != 0.0);
        let entries: Vec<_> = present.collect();
        let made_by = match entries.is_empty() {
            true => MadeBy::BASE,
            false => MadeBy(SETS.fetch_add(1, Ordering::Relaxed)),
        };
        Self { entries, made_by }
    }

    /// The adapters and their strengths.
    pub fn entries(&self) -> &[(Arc<Adapter>, f32)] {
        &self.entries
    }

    /// Whether the base model runs alone.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What of the set changes image features.
    pub fn vision_part(&self) -> VisionPart {
        let entries = self.entries.iter();
        let seeing = entries.filter(|(adapter, _)| adapter.has_vision());
        let part = seeing.map(|(adapter, strength)| (Arc::downgrade(adapter), strength.to_bits()));
        VisionPart(part.collect())
    }

    /// Tells this set, and clones of it, apart from every other in a KV cache: a number that no other set of
    /// this process has.
    pub fn made_by(&self) -> MadeBy {
        self.made_by
    }
}

/// The adapters of a set that have pairs in the vision half, and their strengths: image features are the same
/// under sets that are equal in it, whatever else they add. Two are equal if they mean the very same adapters;
/// one that is gone is never taken for another, and is not kept in memory.
#[derive(Clone, Debug, Default)]
pub struct VisionPart(Vec<(Weak<Adapter>, u32)>);

impl PartialEq for VisionPart {
    fn eq(&self, other: &Self) -> bool {
        let (mine, others) = (self.0.iter(), other.0.iter());
        mine.len() == others.len()
            && mine
                .zip(others)
                .all(|((a, x), (b, y))| Weak::ptr_eq(a, b) && x == y)
    }
}

impl AdapterView for Attached {
    fn count(&self) -> usize {
        self.entries.len()
    }

    fn term(&self, n: usize, site: Site) -> Option<LoraRef<'_>> {
        let (adapter, strength) = self.entries.get(n)?;
        Some(adapter.pair(site)?.term(*strength, Dropout::NONE))
    }

    fn max_rank(&self) -> usize {
        let ranks = self.entries.iter().map(|(adapter, _)| adapter.max_rank());
        ranks.max().unwrap_or(0)
    }

    fn owner(&self, n: usize) -> Option<Arc<dyn Any + Send + Sync>> {
        let (adapter, _) = self.entries.get(n)?;
        Some(Arc::clone(adapter) as Arc<dyn Any + Send + Sync>)
    }
}
