//! AdamW's moments of every trained array, in memory or in a file.

use std::path::Path;

use crate::Result;
use crate::memory::FloatFile;

/// Values of an array that are in memory at once while they lie in a file.
const CHUNK: usize = 64 * 1024;

/// Moments of one array, or of a piece of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub mean: Vec<f32>,
    /// Running mean of its square.
    pub square: Vec<f32>,
}

impl Moments {
    /// Zeros for `len` parameters.
    pub fn new(len: usize) -> Self {
        Self {
            mean: vec![0.0; len],
            square: vec![0.0; len],
        }
    }
}

/// The moments of all arrays.
#[derive(Debug)]
pub enum MomentStore {
    /// In memory.
    Memory(Vec<Moments>),
    /// In a file: of each array all means, then all squares.
    File {
        /// First float of each array, and the end.
        starts: Vec<usize>,
        /// The file.
        file: FloatFile,
        /// A piece of an array.
        piece: Moments,
    },
}

impl MomentStore {
    /// Zeros for arrays of these lengths, in a file in `folder` or in memory.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn new(lengths: &[usize], folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else {
            return Ok(Self::Memory(
                lengths.iter().map(|&len| Moments::new(len)).collect(),
            ));
        };
        let mut starts = vec![0];
        for len in lengths {
            starts.push(starts[starts.len() - 1] + 2 * len);
        }
        Ok(Self::File {
            file: FloatFile::create(folder, starts[lengths.len()])?,
            starts,
            piece: Moments::new(CHUNK),
        })
    }

    /// Bytes in memory for `parameters` values in all.
    pub fn bytes(parameters: usize, on_disk: bool) -> usize {
        8 * if on_disk { CHUNK } else { parameters }
    }

    /// Changes the moments of one array: `change` gets its pieces one after the other, as the place of
    /// the first value, the means and the squares.
    ///
    /// # Errors
    /// If the disk refuses; what was changed before stays changed.
    pub fn update(
        &mut self,
        array: usize,
        mut change: impl FnMut(usize, &mut [f32], &mut [f32]),
    ) -> Result<()> {
        match self {
            Self::Memory(all) => {
                let Moments { mean, square } = &mut all[array];
                change(0, mean, square);
            }
            Self::File {
                starts,
                file,
                piece,
            } => {
                let (start, len) = (starts[array], (starts[array + 1] - starts[array]) / 2);
                for first in (0..len).step_by(CHUNK) {
                    let count = CHUNK.min(len - first);
                    let (mean, square) = (&mut piece.mean[..count], &mut piece.square[..count]);
                    file.read(start + first, mean)?;
                    file.read(start + len + first, square)?;
                    change(first, mean, square);
                    file.write(start + first, mean)?;
                    file.write(start + len + first, square)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_what_memory_does() {
        let lengths = [3, CHUNK + 5, 1];
        let folder = tempfile::tempdir().unwrap();
        let mut memory = MomentStore::new(&lengths, None).unwrap();
        let mut file = MomentStore::new(&lengths, Some(folder.path())).unwrap();
        for round in 1..3 {
            for array in 0..3 {
                let change = |first: usize, mean: &mut [f32], square: &mut [f32]| {
                    for (i, (mean, square)) in mean.iter_mut().zip(square).enumerate() {
                        *mean += ((first + i) * round) as f32;
                        *square += *mean * 0.5;
                    }
                };
                memory.update(array, change).unwrap();
                file.update(array, change).unwrap();
            }
        }
        for (array, len) in lengths.iter().enumerate() {
            let all = |store: &mut MomentStore| {
                let mut all = Moments::new(*len);
                let read = |first: usize, mean: &mut [f32], square: &mut [f32]| {
                    all.mean[first..][..mean.len()].copy_from_slice(mean);
                    all.square[first..][..square.len()].copy_from_slice(square);
                };
                store.update(array, read).unwrap();
                all
            };
            assert_eq!(all(&mut memory), all(&mut file), "array {array}");
        }
    }
}
