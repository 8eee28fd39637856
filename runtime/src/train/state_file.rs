//! Named arrays of f32 in a safetensors file, written and read piece by piece: a checkpoint of a run
//! that fits its budget must not need twice the memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

/// Values that are converted at once.
const CHUNK: usize = 16 * 1024;
/// The header of a checkpoint is no longer than this for each array.
const MOST_HEADER_BYTES: usize = 1024;

/// A file whose arrays are written in the order in which they were announced.
pub(super) struct StateWriter(BufWriter<File>);

impl StateWriter {
    /// Begins a file of arrays with these names and lengths.
    pub fn create(path: &Path, arrays: &[(String, usize)]) -> Result<Self> {
        let mut end = 0;
        let tensors = arrays.iter().map(|(name, len)| {
            let start = end;
            end += 4 * len;
            let info = TensorInfo {
                dtype: Dtype::F32,
                shape: vec![*len],
                data_offsets: (start, end),
            };
            (name.clone(), info)
        });
        let metadata = Metadata::new(None, tensors.collect()).map_err(Error::other)?;
        let mut header = serde_json::to_vec(&metadata)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        Ok(Self(file))
    }

    /// Writes the next values.
    pub fn write(&mut self, values: &[f32]) -> Result<()> {
        let mut bytes = [0; 4 * CHUNK];
        for values in values.chunks(CHUNK) {
            let bytes = &mut bytes[..4 * values.len()];
            for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
            self.0.write_all(bytes)?;
        }
        Ok(())
    }

    /// Makes sure that everything is on the disk.
    pub fn finish(self) -> Result<()> {
        self.0.into_inner().map_err(|e| e.into_error())?.sync_all()
    }
}

/// A file whose arrays are read in any order.
pub(super) struct StateReader {
    file: BufReader<File>,
    metadata: Metadata,
    data: u64,
}

impl StateReader {
    /// Opens a file that should hold `arrays` arrays of `values` values in all.
    pub fn open(path: &Path, arrays: usize, values: usize) -> Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let most = MOST_HEADER_BYTES * (arrays + 1);
        let mut file = BufReader::new(file);
        let mut start = [0; 8];
        file.read_exact(&mut start)?;
        let header = u64::from_le_bytes(start);
        if header > most as u64 || bytes != 8 + header + 4 * values as u64 {
            return Err(invalid(format!(
                "it has {bytes} bytes, {header} of them a header"
            )));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text)?;
        let metadata = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
        Ok(Self {
            file,
            metadata,
            data: 8 + header,
        })
    }

    /// Makes sure that an array has `len` finite values.
    pub fn check(&mut self, name: &str, len: usize) -> Result<()> {
        let Some(info) = self.metadata.info(name) else {
            return Err(invalid(format!("it has no array {name}")));
        };
        let (start, end) = info.data_offsets;
        if info.dtype != Dtype::F32 || end.checked_sub(start) != Some(4 * len) {
            return Err(invalid(format!("{name} is not {len} values of f32")));
        }
        let mut piece = [0.0; CHUNK];
        for first in (0..len).step_by(CHUNK) {
            let piece = &mut piece[..CHUNK.min(len - first)];
            self.read(name, first, piece)?;
            if !piece.iter().all(|v| v.is_finite()) {
                return Err(invalid(format!("{name} is not finite")));
            }
        }
        Ok(())
    }

    /// Reads some values of an array that was found sound, from number `first` on.
    pub fn read(&mut self, name: &str, first: usize, out: &mut [f32]) -> Result<()> {
        let Some(info) = self.metadata.info(name) else {
            return Err(invalid(format!("it has no array {name}")));
        };
        let start = self.data + (info.data_offsets.0 + 4 * first) as u64;
        self.file.seek(SeekFrom::Start(start))?;
        let mut bytes = [0; 4 * CHUNK];
        for out in out.chunks_mut(CHUNK) {
            let bytes = &mut bytes[..4 * out.len()];
            self.file.read_exact(bytes)?;
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }
}

fn invalid(reason: String) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}
