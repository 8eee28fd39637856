//! One pass over the model: what every layer is told about the rows, and which of them are read at the end.

use std::ops::Range;

use graft_kernels::ops::rope::RopeTable;

use super::AdapterView;

/// Which rows a caller reads when all layers are through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// Each.
    All,
    /// The last one; the others are left meaningless. In the last layer they get keys and values only.
    Last,
}

/// What is the same for every layer of one pass over the model.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// Position of the first token of a sequence that has none in `starts`.
    pub start: usize,
    /// If the rows are several sequences, one behind the other: the row at which each ends, the last
    /// one's being T. Attention never looks across an end. Empty for one sequence.
    pub ends: &'a [usize],
    /// Position of the first row of each sequence; empty if all begin at `start`.
    pub starts: &'a [usize],
    /// Angles of every position reached.
    pub rope: &'a RopeTable,
    /// The attached adapters.
    pub adapters: &'a dyn AdapterView,
}

impl Pass<'_> {
    /// Cuts `rows` where sequences end: each part, counted from the first of them, and the position of
    /// its first row.
    pub(super) fn parts(&self, rows: Range<usize>) -> impl Iterator<Item = (Range<usize>, usize)> {
        let mut sequence = self.ends.partition_point(|&end| end <= rows.start);
        let (first, mut next) = (rows.start, rows.start);
        std::iter::from_fn(move || {
            if next >= rows.end {
                return None;
            }
            let begin = match sequence {
                0 => 0,
                n => self.ends[n - 1],
            };
            let end = self
                .ends
                .get(sequence)
                .map_or(rows.end, |&e| e.min(rows.end));
            let start = self.starts.get(sequence).unwrap_or(&self.start);
            let part = (next - first..end - first, start + next - begin);
            (next, sequence) = (end, sequence + 1);
            Some(part)
        })
    }
}
