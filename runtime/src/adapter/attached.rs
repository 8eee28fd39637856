//! An ordered set of adapters with strengths, as a session holds it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use graft_kernels::ops::dropout::Dropout;

use super::Adapter;
use crate::kv_cache::MadeBy;
use crate::model::{AdapterView, LoraRef, Site};

/// Adapters attached together; their terms add up. Strength 0 is the same as not being there.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    entries: Vec<(Arc<Adapter>, f32)>,
}

impl Attached {
    /// The set of these adapters at these strengths.
    pub fn new(entries: impl IntoIterator<Item = (Arc<Adapter>, f32)>) -> Self {
        let present = entries.into_iter().filter(|&(_, strength)| strength != 0.0);
        Self {
            entries: present.collect(),
        }
    }

    /// The adapters and their strengths.
    pub fn entries(&self) -> &[(Arc<Adapter>, f32)] {
        &self.entries
    }

    /// Whether the base model runs alone.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Tells this set apart from others in a KV cache. Adapters are immutable and compared by
    /// identity: while the set is held, no other adapter can take an address in it.
    pub fn made_by(&self) -> MadeBy {
        if self.entries.is_empty() {
            return MadeBy::BASE;
        }
        let mut hash = DefaultHasher::new();
        for (adapter, strength) in &self.entries {
            (Arc::as_ptr(adapter) as usize, strength.to_bits()).hash(&mut hash);
        }
        MadeBy(hash.finish() | 1)
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
}
