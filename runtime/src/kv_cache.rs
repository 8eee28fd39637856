//! Keys and values of past positions, each run of positions marked with the adapter
//! set that made it. Per layer, keys and values are `[capacity, K * D]`.

use std::ops::Range;
use std::sync::Arc;

use crate::Result;
use crate::memory::{Arena, ArenaError, Floats, Part};
use crate::model::{DeviceKv, LlamaShape};

/// The adapter set that computed some positions, as a number that differs between sets.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct MadeBy(pub u64);

impl MadeBy {
    /// The base model without adapters.
    pub const BASE: Self = Self(0);
}

/// Keys and values of one sequence.
///
/// Its first positions may be [`shared`](KvCache::share) with other sequences, which then read one piece of
/// memory; those after them are its own.
#[derive(Debug)]
pub struct KvCache {
    /// What it shares, one piece behind the other, and how many positions of each it has kept.
    shared: Vec<(Arc<SharedKv>, usize)>,
    own: LayerArrays,
    /// Those of the layers that a device runs.
    device: Option<Box<dyn DeviceKv>>,
    capacity: usize,
    /// Ends of the runs of positions, ascending, and who made each; the last end is the length.
    runs: Vec<(usize, MadeBy)>,
}

/// Keys and values that nobody writes any more.
#[derive(Debug)]
struct SharedKv(LayerArrays);

impl KvCache {
    /// An empty cache for `capacity` positions of a model of this shape.
    ///
    /// # Errors
    /// If the system has no memory left.
    pub fn new(shape: &LlamaShape, capacity: usize) -> Result<Self, ArenaError> {
        Self::of_layers(shape.layers, shape, capacity)
    }

    /// The same for the first layers alone.
    ///
    /// # Errors
    /// As [`KvCache::new`].
    pub fn of_layers(
        layers: usize,
        shape: &LlamaShape,
        capacity: usize,
    ) -> Result<Self, ArenaError> {
        Ok(Self {
            shared: Vec::new(),
            own: LayerArrays::new(layers, capacity, shape.kv_width())?,
            device: None,
            capacity,
            runs: Vec::with_capacity(16),
        })
    }

    /// Bytes that [`KvCache::new`] allocates.
    pub fn bytes(shape: &LlamaShape, capacity: usize) -> usize {
        Self::bytes_of_layers(shape.layers, shape, capacity)
    }

    /// Bytes that [`KvCache::of_layers`] allocates.
    pub fn bytes_of_layers(layers: usize, shape: &LlamaShape, capacity: usize) -> usize {
        2 * layers * capacity.saturating_mul(shape.kv_width()) * size_of::<f32>()
    }

    /// The same cache, with what a device keeps of the layers that it runs.
    pub fn with_device(self, device: Box<dyn DeviceKv>) -> Self {
        Self {
            device: Some(device),
            ..self
        }
    }

    /// What a device keeps of the layers that it runs.
    pub fn device(&mut self) -> Option<&mut (dyn DeviceKv + 'static)> {
        self.device.as_deref_mut()
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

    /// How many of its positions, from the first, lie in memory that others may read too.
    pub fn shared_positions(&self) -> usize {
        self.shared.iter().map(|(_, positions)| positions).sum()
    }

    /// Forgets every position from `len` on; no effect if there are fewer.
    pub fn rewind(&mut self, len: usize) {
        while let Some((end, made_by)) = self.runs.pop() {
            let start = self.len();
            if start < len {
                self.runs.push((end.min(len), made_by));
                break;
            }
        }
        let mut left = self.len();
        self.shared.retain_mut(|(_, positions)| {
            *positions = left.min(*positions);
            left -= *positions;
            *positions > 0
        });
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

    /// Another cache for `capacity` positions that begins with all positions of this one. From now on both read
    /// them from one piece of memory, which stays until the last of its readers is gone or has rewound. What lies
    /// on a device is copied there.
    ///
    /// # Errors
    /// If the system or the device has no memory left; nothing has changed then.
    ///
    /// # Panics
    /// If there are more than `capacity`.
    pub fn share(&mut self, capacity: usize) -> Result<Self> {
        let len = self.len();
        assert!(len <= capacity, "the caller checked the capacity");
        let own = self.own.empty(capacity - len)?;
        let device = self.device.as_ref().map(|kv| kv.fork(len, capacity));
        let device = device.transpose()?;
        self.make_shared()?;
        Ok(Self {
            shared: self.shared.clone(),
            own,
            device,
            capacity,
            runs: self.runs.clone(),
        })
    }

    /// Moves the positions of its own to where others can read them.
    fn make_shared(&mut self) -> Result<(), ArenaError> {
        let before = self.shared_positions();
        let positions = self.len() - before;
        if positions > 0 {
            let rest = self.own.empty(self.capacity - before - positions)?;
            let moved = self.own.first(positions)?;
            self.shared.push((Arc::new(SharedKv(moved)), positions));
            self.own = rest;
        }
        Ok(())
    }

    /// Sees to it that every position up to the capacity can be written. After a [`KvCache::rewind`] into what is
    /// shared there are fewer than that, since what is shared stays as it is.
    ///
    /// # Errors
    /// If the system has no memory left.
    pub fn make_room(&mut self) -> Result<(), ArenaError> {
        let own = self.capacity - self.shared_positions();
        // There is nothing in it: the positions before it were forgotten.
        if self.own.positions < own {
            self.own = self.own.empty(own)?;
        }
        Ok(())
    }

    /// One layer's keys and values.
    pub fn layer(&mut self, layer: usize) -> KvSlice<'_> {
        let (keys, values) = self.own.layer_mut(layer);
        let before = Before {
            pieces: &self.shared,
            layer,
        };
        KvSlice {
            before,
            keys,
            values,
        }
    }
}

/// Keys and values of every layer, `[layers, positions, K * D]` each.
#[derive(Debug)]
struct LayerArrays {
    keys: Floats,
    values: Floats,
    layers: usize,
    positions: usize,
    width: usize,
}

impl LayerArrays {
    fn new(layers: usize, positions: usize, width: usize) -> Result<Self, ArenaError> {
        let len = layers.saturating_mul(positions.saturating_mul(width));
        let [keys, values] = Arena::unlimited().arrays(Part::KeysAndValues, [len, len])?;
        Ok(Self {
            keys,
            values,
            layers,
            positions,
            width,
        })
    }

    /// Zeros for as many positions of the same model.
    fn empty(&self, positions: usize) -> Result<Self, ArenaError> {
        Self::new(self.layers, positions, self.width)
    }

    /// A copy of the first positions.
    fn first(&self, positions: usize) -> Result<Self, ArenaError> {
        let mut copy = self.empty(positions)?;
        for layer in 0..self.layers {
            let (keys, values) = copy.layer_mut(layer);
            let (from_keys, from_values) = self.layer(layer);
            keys.copy_from_slice(&from_keys[..keys.len()]);
            values.copy_from_slice(&from_values[..values.len()]);
        }
        Ok(copy)
    }

    fn floats_of(&self, layer: usize) -> Range<usize> {
        let floats = self.positions * self.width;
        layer * floats..(layer + 1) * floats
    }

    fn layer(&self, layer: usize) -> (&[f32], &[f32]) {
        let floats = self.floats_of(layer);
        (&self.keys[floats.clone()], &self.values[floats])
    }

    fn layer_mut(&mut self, layer: usize) -> (&mut [f32], &mut [f32]) {
        let floats = self.floats_of(layer);
        (&mut self.keys[floats.clone()], &mut self.values[floats])
    }
}

/// One layer's keys and values.
#[derive(Debug)]
pub struct KvSlice<'a> {
    /// Those of the first positions, where they are shared.
    pub before: Before<'a>,
    /// `[capacity, K * D]`, after rotation: of the positions after those.
    pub keys: &'a mut [f32],
    /// `[capacity, K * D]`.
    pub values: &'a mut [f32],
}

impl<'a> KvSlice<'a> {
    /// Keys and values of positions from the first on.
    pub fn of(keys: &'a mut [f32], values: &'a mut [f32]) -> Self {
        Self {
            before: Before::default(),
            keys,
            values,
        }
    }
}

/// One layer's keys and values of positions that are shared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Before<'a> {
    pieces: &'a [(Arc<SharedKv>, usize)],
    layer: usize,
}

impl<'a> Before<'a> {
    /// How many positions they are.
    pub fn positions(self) -> usize {
        self.pieces.iter().map(|(_, positions)| positions).sum()
    }

    /// Keys and values, `[positions, K * D]`, of each piece.
    pub fn pieces(self) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
        self.pieces.iter().map(move |(piece, positions)| {
            let (keys, values) = piece.0.layer(self.layer);
            let floats = positions * piece.0.width;
            (&keys[..floats], &values[..floats])
        })
    }
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

    /// Writes positions `from..to` of every layer, each with its own number plus `mark`.
    fn write(kv: &mut KvCache, positions: Range<usize>, mark: f32) {
        kv.make_room().unwrap();
        let width = LlamaShape::tiny().kv_width();
        for layer in 0..LlamaShape::tiny().layers {
            let slice = kv.layer(layer);
            let first = slice.before.positions();
            for position in positions.clone() {
                let row = (position - first) * width..(position - first + 1) * width;
                slice.keys[row.clone()].fill(position as f32 + mark);
                slice.values[row].fill(-(position as f32) - mark);
            }
        }
        kv.advance(positions.len(), MadeBy::BASE);
    }

    /// What each position holds in the last layer.
    fn contents(kv: &mut KvCache) -> Vec<f32> {
        let (len, width) = (kv.len(), LlamaShape::tiny().kv_width());
        let slice = kv.layer(LlamaShape::tiny().layers - 1);
        let own = len - slice.before.positions();
        let shared = slice.before.pieces().flat_map(|(keys, values)| {
            assert!(keys.iter().zip(values).all(|(k, v)| *k == -*v));
            keys.chunks(width).map(|row| row[width - 1])
        });
        let own = slice.keys.chunks(width).map(|row| row[width - 1]).take(own);
        shared.chain(own).collect()
    }

    #[test]
    fn what_is_shared_is_one_piece_of_memory_and_nobody_changes_it_for_others() {
        let mut first = cache(8);
        write(&mut first, 0..4, 0.0);
        let mut second = first.share(6).unwrap();
        assert_eq!(contents(&mut second), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(
            (first.shared_positions(), second.shared_positions()),
            (4, 4)
        );
        let address = |kv: &mut KvCache| {
            let slice = kv.layer(1);
            slice
                .before
                .pieces()
                .map(|(keys, _)| keys.as_ptr())
                .collect::<Vec<_>>()
        };
        assert_eq!(address(&mut first), address(&mut second));

        // Both go on, and a third takes the second's past, of which two pieces are shared now.
        write(&mut first, 4..8, 0.5);
        write(&mut second, 4..6, 0.25);
        let mut third = second.share(9).unwrap();
        write(&mut third, 6..9, 0.125);
        assert_eq!(address(&mut third).len(), 2);
        assert_eq!(address(&mut third)[0], address(&mut first)[0]);
        // One that goes back into what is shared writes elsewhere.
        second.rewind(3);
        assert_eq!(second.shared_positions(), 3);
        write(&mut second, 3..6, 0.75);
        assert_eq!(
            contents(&mut first),
            [0.0, 1.0, 2.0, 3.0, 4.5, 5.5, 6.5, 7.5]
        );
        assert_eq!(contents(&mut second), [0.0, 1.0, 2.0, 3.75, 4.75, 5.75]);
        assert_eq!(
            contents(&mut third),
            [0.0, 1.0, 2.0, 3.0, 4.25, 5.25, 6.125, 7.125, 8.125]
        );
        third.rewind(0);
        assert_eq!(third.shared_positions(), 0);
        write(&mut third, 0..9, 0.0);
        assert_eq!(contents(&mut third).len(), 9);
    }
}
