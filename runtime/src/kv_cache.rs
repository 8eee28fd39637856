//! Keys and values of past positions, each run of positions marked with the adapter
//! set that made it. Per layer, keys and values are `[capacity, K * D]`.

use crate::memory::{Arena, ArenaError, Floats, Part};
use crate::model::LlamaShape;

/// The adapter set that computed some positions, as a number that differs between sets.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct MadeBy(pub u64);

impl MadeBy {
    /// The base model without adapters.
    pub const BASE: Self = Self(0);
}

/// Keys and values of one sequence.
#[derive(Debug)]
pub struct KvCache {
    keys: Floats,
    values: Floats,
    layer_floats: usize,
    capacity: usize,
    /// Ends of the runs of positions, ascending, and who made each; the last end is the length.
    runs: Vec<(usize, MadeBy)>,
}

impl KvCache {
    /// An empty cache for `capacity` positions of a model of this shape.
    ///
    /// # Errors
    /// If the system has no memory left.
    pub fn new(shape: &LlamaShape, capacity: usize) -> Result<Self, ArenaError> {
        let layer_floats = Self::layer_floats(shape, capacity);
        let len = shape.layers.saturating_mul(layer_floats);
        let [keys, values] = Arena::unlimited().arrays(Part::KeysAndValues, [len, len])?;
        Ok(Self {
            keys,
            values,
            layer_floats,
            capacity,
            runs: Vec::with_capacity(16),
        })
    }

    /// Bytes that [`KvCache::new`] allocates.
    pub fn bytes(shape: &LlamaShape, capacity: usize) -> usize {
        2 * shape.layers * Self::layer_floats(shape, capacity) * size_of::<f32>()
    }

    fn layer_floats(shape: &LlamaShape, capacity: usize) -> usize {
        capacity.saturating_mul(shape.kv_width())
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.runs.last().map_or(0, |&(end, _)| end)
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Most positions it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets every position from `len` on; no effect if there are fewer.
    pub fn rewind(&mut self, len: usize) {
        while let Some((end, made_by)) = self.runs.pop() {
            let start = self.len();
            if start < len {
                self.runs.push((end.min(len), made_by));
                return;
            }
        }
    }

    /// How many positions from the first on were made by this set: only those may be reused.
    pub fn valid_prefix(&self, by: MadeBy) -> usize {
        self.runs
            .iter()
            .take_while(|(_, made_by)| *made_by == by)
            .last()
            .map_or(0, |&(end, _)| end)
    }

    /// Marks the `tokens` positions after the last as written, by this set.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn advance(&mut self, tokens: usize, by: MadeBy) {
        let end = self.len() + tokens;
        assert!(end <= self.capacity, "the caller checked the capacity");
        match self.runs.last_mut() {
            Some((last, made_by)) if *made_by == by => *last = end,
            _ if tokens > 0 => self.runs.push((end, by)),
            _ => {}
        }
    }

    /// Counts every position as made by this set, whoever made it: only for a caller who wants that.
    pub fn attribute(&mut self, by: MadeBy) {
        let len = self.len();
        self.runs.clear();
        if len > 0 {
            self.runs.push((len, by));
        }
    }

    /// Takes the positions of another cache of the same model in place of its own.
    ///
    /// # Panics
    /// If there is no room for them, or it is another model's.
    pub fn copy_from(&mut self, other: &Self) {
        let positions = other.len();
        assert!(
            positions <= self.capacity,
            "the caller checked the capacity"
        );
        let layers = |cache: &Self| cache.keys.len() / cache.layer_floats.max(1);
        assert_eq!(layers(self), layers(other), "layers");
        let width = other.layer_floats / other.capacity.max(1);
        assert_eq!(self.layer_floats, width * self.capacity, "widths");
        let floats = positions * width;
        for (to, from) in [
            (&mut self.keys, &other.keys),
            (&mut self.values, &other.values),
        ] {
            let layers = to.chunks_exact_mut(self.layer_floats);
            for (to, from) in layers.zip(from.chunks_exact(other.layer_floats)) {
                to[..floats].copy_from_slice(&from[..floats]);
            }
        }
        self.runs.clone_from(&other.runs);
    }

    /// One layer's keys and values.
    pub fn layer(&mut self, layer: usize) -> KvSlice<'_> {
        let range = layer * self.layer_floats..(layer + 1) * self.layer_floats;
        KvSlice {
            keys: &mut self.keys[range.clone()],
            values: &mut self.values[range],
        }
    }
}

/// One layer's keys and values.
#[derive(Debug)]
pub struct KvSlice<'a> {
    /// `[capacity, K * D]`, after rotation.
    pub keys: &'a mut [f32],
    /// `[capacity, K * D]`.
    pub values: &'a mut [f32],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(capacity: usize) -> KvCache {
        KvCache::new(&LlamaShape::tiny(), capacity).unwrap()
    }

    #[test]
    fn positions_of_another_adapter_set_are_never_valid() {
        let (a, b) = (MadeBy(1), MadeBy(2));
        let mut kv = cache(20);
        kv.advance(5, a);
        kv.advance(3, a);
        kv.advance(2, b);
        kv.advance(4, a);
        assert_eq!(
            (kv.len(), kv.valid_prefix(a), kv.valid_prefix(b)),
            (14, 8, 0)
        );
        kv.rewind(9);
        assert_eq!((kv.len(), kv.valid_prefix(a)), (9, 8));
        kv.rewind(12);
        assert_eq!(kv.len(), 9, "rewinding never adds positions");
        kv.rewind(6);
        assert_eq!((kv.len(), kv.valid_prefix(a)), (6, 6));
        kv.advance(1, a);
        assert_eq!(kv.valid_prefix(a), 7);
        kv.rewind(0);
        assert!(kv.is_empty());
        kv.advance(1, b);
        assert_eq!((kv.valid_prefix(b), kv.valid_prefix(MadeBy::BASE)), (1, 0));
    }
}
