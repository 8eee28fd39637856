//! AdamW's moments of every trained array: in memory, in a file, or in memory in 8 bits.

use std::path::PathBuf;

use super::eight_bit::{BLOCK, EightBitMoments};
use super::{OptimizerKind, Place};
use crate::Result;
use crate::memory::{Arena, FloatFile, Floats, MemoryPlan, Part};

/// Values of an array that are in memory at once while they lie elsewhere.
const CHUNK: usize = 64 * 1024;
const _: () = assert!(CHUNK.is_multiple_of(BLOCK), "whole blocks in a chunk");

/// The moments of all arrays.
#[derive(Debug)]
pub struct MomentStore {
    arrays: Arrays,
    /// Means and squares of a piece of an array; empty if they lie in memory as they are.
    piece: [Floats; 2],
}

#[derive(Debug)]
enum Arrays {
    /// Means and squares of each.
    Memory(Vec<[Floats; 2]>),
    /// In a file: of each array all means, then all squares.
    File {
        /// First float of each array, and the end.
        starts: Vec<usize>,
        file: FloatFile,
    },
    EightBit(Vec<EightBitMoments>),
}

/// How moments are kept.
#[derive(Clone, Debug)]
pub struct MomentKind {
    /// As floats or in 8 bits, which always lie in memory.
    pub optimizer: OptimizerKind,
    /// The folder of a file for the floats; in memory without one.
    pub folder: Option<PathBuf>,
}

impl MomentStore {
    /// Zeros for arrays of these lengths.
    ///
    /// # Errors
    /// If the arena or the disk refuses.
    pub fn new(lengths: &[usize], kind: &MomentKind, arena: &Arena) -> Result<Self> {
        let lengths = lengths.iter().copied();
        let (arrays, piece) = match (kind.optimizer, &kind.folder) {
            (OptimizerKind::AdamW8bit, _) => {
                let arrays = lengths.map(|len| EightBitMoments::new(len, arena));
                (Arrays::EightBit(arrays.collect::<Result<_, _>>()?), CHUNK)
            }
            (OptimizerKind::AdamW, None) => {
                let arrays = lengths.map(|len| arena.arrays(Part::Optimizer, [len, len]));
                (Arrays::Memory(arrays.collect::<Result<_, _>>()?), 0)
            }
            (OptimizerKind::AdamW, Some(folder)) => {
                let mut starts = vec![0];
                starts.extend(lengths.scan(0, |end, len| {
                    *end += 2 * len;
                    Some(*end)
                }));
                let floats = starts[starts.len() - 1];
                let file = FloatFile::create(folder, floats)?;
                (Arrays::File { starts, file }, CHUNK)
            }
        };
        let piece = arena.arrays(Part::Optimizer, [piece, piece])?;
        Ok(Self { arrays, piece })
    }

    /// Adds what [`MomentStore::new`] takes from its arena.
    pub fn add_to(
        memory: &mut MemoryPlan,
        lengths: impl Iterator<Item = usize>,
        optimizer: OptimizerKind,
        place: Option<Place>,
    ) {
        let piece = 2 * CHUNK * size_of::<f32>();
        let bytes = match (optimizer, place) {
            (OptimizerKind::AdamW8bit, _) => {
                piece + lengths.map(EightBitMoments::bytes).sum::<usize>()
            }
            (OptimizerKind::AdamW, Some(Place::Disk)) => piece,
            (OptimizerKind::AdamW, _) => 2 * size_of::<f32>() * lengths.sum::<usize>(),
        };
        memory.add(Part::Optimizer, bytes);
    }

    /// Changes the moments of one array: `change` gets its pieces one after the other, as the place of
    /// the first value, the means and the squares.
    ///
    /// # Errors
    /// If the disk or `change` refuses; what was changed before stays changed.
    pub fn update<E: From<crate::Error>>(
        &mut self,
        array: usize,
        mut change: impl FnMut(usize, &mut [f32], &mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let [mean, square] = &mut self.piece;
        match &mut self.arrays {
            Arrays::Memory(all) => {
                let [mean, square] = &mut all[array];
                change(0, mean, square)?;
            }
            Arrays::File { starts, file } => {
                let (start, len) = (starts[array], (starts[array + 1] - starts[array]) / 2);
                for first in (0..len).step_by(CHUNK) {
                    let count = CHUNK.min(len - first);
                    let (mean, square) = (&mut mean[..count], &mut square[..count]);
                    file.read(start + first, mean)?;
                    file.read(start + len + first, square)?;
                    change(first, mean, square)?;
                    file.write(start + first, mean)?;
                    file.write(start + len + first, square)?;
                }
            }
            Arrays::EightBit(all) => {
                let moments = &mut all[array];
                for first in (0..moments.len()).step_by(CHUNK) {
                    let count = CHUNK.min(moments.len() - first);
                    let (mean, square) = (&mut mean[..count], &mut square[..count]);
                    moments.decode(first, mean, square);
                    change(first, mean, square)?;
                    moments.encode(first, mean, square);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some values of each array, which depend on how often they were changed.
    fn changed(kind: &MomentKind) -> Vec<(f32, f32)> {
        let lengths = [7, CHUNK + 3, 1];
        let mut planned = MemoryPlan::default();
        let place = kind.folder.as_ref().map(|_| Place::Disk);
        MomentStore::add_to(&mut planned, lengths.into_iter(), kind.optimizer, place);
        let arena = Arena::new(planned);
        let mut store = MomentStore::new(&lengths, kind, &arena).unwrap();
        assert_eq!(arena.held(), planned, "what was planned is what is taken");
        let mut seen = vec![];
        for round in 1..=3 {
            for (array, &len) in lengths.iter().enumerate() {
                let mut met = 0;
                let change = |first: usize, mean: &mut [f32], square: &mut [f32]| {
                    assert_eq!(first, met);
                    met += mean.len();
                    for (i, (m, v)) in (first..).zip(mean.iter_mut().zip(square)) {
                        *m += (i % 2) as f32 - 0.25;
                        *v += 1.0;
                        if round == 3 && (i < 2 || i + 2 > len) {
                            seen.push((*m, *v));
                        }
                    }
                    Ok::<(), crate::Error>(())
                };
                store.update(array, change).unwrap();
                assert_eq!(met, len);
            }
        }
        seen
    }

    #[test]
    fn every_place_keeps_what_is_put_there() {
        let folder = tempfile::tempdir().unwrap();
        let of = |optimizer, folder| changed(&MomentKind { optimizer, folder });
        let memory = of(OptimizerKind::AdamW, None);
        assert!(memory.contains(&(2.25, 3.0)) && memory.contains(&(-0.75, 3.0)));
        assert_eq!(
            memory,
            of(OptimizerKind::AdamW, Some(folder.path().to_owned()))
        );
        for (got, want) in of(OptimizerKind::AdamW8bit, None).iter().zip(&memory) {
            assert!((got.0 - want.0).abs() < 0.02 && (got.1 - want.1).abs() < 0.02);
        }
    }
}
