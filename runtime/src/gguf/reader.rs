//! Header, metadata and tensor directory from bytes. Total: every input gives a value or an error.
//!
//! No allocation is sized by a number from the file before that number was checked against the
//! bytes that are left.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use graft_kernels::QuantType;

use super::mapping::Bytes;
use super::{
    ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, GgufError, MAGIC, MOST_AXES, Metadata, Value,
};

/// Arrays of arrays deeper than this are refused.
const DEEPEST_ARRAY: u32 = 4;

/// An open GGUF file (or all files of a split model). Immutable; share it as `Arc<Gguf>`.
#[derive(Debug)]
pub struct Gguf {
    pub(super) path: Option<PathBuf>,
    pub(super) parts: Vec<Bytes>,
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) places: Vec<(usize, Range<usize>)>,
    pub(super) index: HashMap<String, usize>,
}

/// What the directory says of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// The tensor's name, unique in the model.
    pub name: String,
    /// Lengths of its axes, fastest first: a PyTorch `[out, in]` matrix is `[in, out]` here.
    pub shape: Vec<usize>,
    /// How its elements are stored.
    pub quant_type: QuantType,
    /// Bytes of its data.
    pub bytes: usize,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Length of the fastest axis, and the number of such rows.
    pub fn rows(&self) -> (usize, usize) {
        let width = self.shape[0];
        (width, self.shape[1..].iter().product())
    }
}

/// One tensor: its description and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// What the directory says of it.
    pub info: &'a TensorInfo,
    /// Exactly `info.bytes` bytes.
    pub data: &'a [u8],
}

impl Gguf {
    /// The file it came from: the first part of a split model.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Format version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of the tensor data, in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Number of files: 1 unless the model is split.
    pub fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// Bytes of all files together.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.len() as u64).sum()
    }

    /// The metadata; of a split model, that of its first part.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the directory.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Index in [`Self::tensors`] of the tensor of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The data of the tensor at this index.
    ///
    /// # Panics
    /// If `index` is not below `tensors().len()`.
    pub fn data(&self, index: usize) -> &[u8] {
        let (part, range) = &self.places[index];
        &self.parts[*part][range.clone()]
    }

    /// Asks the system to read bytes of a tensor's data soon, in the background. Only a hint.
    ///
    /// # Panics
    /// If `index` is out of range, or the bytes are not the tensor's.
    pub fn prefetch(&self, index: usize, bytes: Range<usize>) {
        let (part, range) = self.place(index, bytes);
        self.parts[part].prefetch(range);
    }

    /// Lets the memory of all tensors go until they are touched again. Only a hint.
    pub fn release_all(&self) {
        for (index, (_, range)) in self.places.iter().enumerate() {
            self.release(index, 0..range.len());
        }
    }

    /// Lets the memory of bytes of a tensor's data go until they are touched again. Only a hint.
    ///
    /// # Panics
    /// If `index` is out of range, or the bytes are not the tensor's.
    pub fn release(&self, index: usize, bytes: Range<usize>) {
        let (part, range) = self.place(index, bytes);
        self.parts[part].release(range);
    }

    /// Where bytes of a tensor's data are.
    fn place(&self, index: usize, bytes: Range<usize>) -> (usize, Range<usize>) {
        let (part, range) = &self.places[index];
        let fits = bytes.start <= bytes.end && bytes.end <= range.len();
        assert!(fits, "bytes {bytes:?} of {}", range.len());
        (*part, range.start + bytes.start..range.start + bytes.end)
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.position(name).map(|i| Tensor {
            info: &self.tensors[i],
            data: self.data(i),
        })
    }

    pub(super) fn parse(bytes: Bytes) -> Result<Self, GgufError> {
        let mut cursor = Cursor {
            bytes: &bytes,
            at: 0,
        };
        let magic = cursor.take(4.min(bytes.len()), || "the header".into())?;
        if magic != MAGIC {
            return Err(GgufError::Magic {
                found: magic.to_vec(),
            });
        }
        let version = cursor.u32(|| "the header".into())?;
        if !matches!(version, 2 | 3) {
            return Err(match version.swap_bytes() {
                1..=3 => GgufError::BigEndian,
                _ => GgufError::Version { version },
            });
        }
        let at = cursor.at;
        let tensor_count = cursor.u64(|| "the header".into())?;
        // The shortest directory entry: empty name, one axis, type and offset.
        cursor.check_count(tensor_count, 32, at, || "the tensor directory".into())?;
        let at = cursor.at;
        let key_count = cursor.u64(|| "the header".into())?;
        // The shortest metadata entry: empty key, type, one byte.
        cursor.check_count(key_count, 13, at, || "the metadata".into())?;
        let metadata = read_metadata(&mut cursor, key_count)?;
        let alignment = metadata
            .opt_u64(ALIGNMENT_KEY)?
            .unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() || !(8..=1 << 20).contains(&alignment) {
            return Err(GgufError::Alignment { found: alignment });
        }
        let directory = read_directory(&mut cursor, tensor_count)?;
        let data_start = (cursor.at as u64).next_multiple_of(alignment);
        let placed = place(directory, data_start, alignment, bytes.len() as u64)?;
        let index = placed
            .iter()
            .enumerate()
            .map(|(i, (info, _))| (info.name.clone(), i))
            .collect();
        let (tensors, ranges): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
        Ok(Self {
            path: None,
            version,
            alignment,
            metadata,
            tensors,
            places: ranges.into_iter().map(|r| (0, r)).collect(),
            index,
            parts: vec![bytes],
        })
    }
}

/// A tensor as the directory has it, before its place was checked.
struct Entry {
    info: TensorInfo,
    offset: u64,
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, GgufError> {
    let mut metadata = Metadata::new();
    for i in 0..count {
        let offset = cursor.at as u64;
        let key = cursor.string(|| format!("metadata key {i}"))?;
        let value = cursor.value(&key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(GgufError::DuplicateKey { key, offset });
        }
    }
    Ok(metadata)
}

fn read_directory(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Entry>, GgufError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut names = std::collections::HashSet::new();
    for i in 0..count {
        let offset = cursor.at as u64;
        let tensor = cursor.string(|| format!("the name of tensor {i}"))?;
        let entry = || format!("the directory entry of tensor `{tensor}`");
        let axes = cursor.u32(entry)?;
        if axes == 0 || axes as usize > MOST_AXES {
            return Err(GgufError::Axes {
                tensor,
                offset,
                axes,
            });
        }
        let mut shape = Vec::with_capacity(MOST_AXES);
        for _ in 0..axes {
            shape.push(cursor.u64(entry)?);
        }
        let type_id = cursor.u32(entry)?;
        let data_offset = cursor.u64(entry)?;
        let Some(quant_type) = QuantType::from_gguf(type_id) else {
            return Err(GgufError::TensorType {
                tensor,
                offset,
                found: type_id,
            });
        };
        let Some((sizes, bytes)) = sizes(&shape, quant_type) else {
            if let Ok(width) = usize::try_from(shape[0])
                && !width.is_multiple_of(quant_type.block_len())
            {
                let block = quant_type.block_len();
                return Err(GgufError::PartialBlock {
                    tensor,
                    width,
                    quant_type,
                    block,
                });
            }
            return Err(GgufError::Shape {
                tensor,
                offset,
                shape,
            });
        };
        if !names.insert(tensor.clone()) {
            return Err(GgufError::DuplicateTensor { tensor, offset });
        }
        entries.push(Entry {
            info: TensorInfo {
                name: tensor,
                shape: sizes,
                quant_type,
                bytes,
            },
            offset: data_offset,
        });
    }
    Ok(entries)
}

/// The axes as `usize` and the bytes of the data; `None` if empty, too large or in partial blocks.
fn sizes(shape: &[u64], quant_type: QuantType) -> Option<(Vec<usize>, usize)> {
    let axes: Vec<usize> = shape
        .iter()
        .map(|&n| usize::try_from(n).ok().filter(|&n| n > 0))
        .collect::<Option<_>>()?;
    let row = quant_type.row_bytes(axes[0])?;
    axes.iter()
        .try_fold(1usize, |n, &axis| n.checked_mul(axis))?;
    let bytes = axes[1..]
        .iter()
        .try_fold(row, |n, &axis| n.checked_mul(axis))?;
    Some((axes, bytes))
}

/// Checks where the tensors lie: aligned, inside the file, no two on the same bytes.
fn place(
    entries: Vec<Entry>,
    data_start: u64,
    alignment: u64,
    length: u64,
) -> Result<Vec<(TensorInfo, Range<usize>)>, GgufError> {
    let mut placed = Vec::with_capacity(entries.len());
    for Entry { info, offset } in entries {
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned {
                tensor: info.name,
                found: offset,
                alignment,
            });
        }
        let start = data_start.checked_add(offset);
        let end = start.and_then(|s| s.checked_add(info.bytes as u64));
        match (start, end) {
            (Some(start), Some(end)) if end <= length => {
                placed.push((info, start as usize..end as usize));
            }
            _ => {
                return Err(GgufError::TensorBeyondEnd {
                    tensor: info.name,
                    start: start.unwrap_or(u64::MAX),
                    end: end.unwrap_or(u64::MAX),
                    length,
                });
            }
        }
    }
    let mut order: Vec<usize> = (0..placed.len()).collect();
    order.sort_by_key(|&i| placed[i].1.start);
    for pair in order.windows(2) {
        let (first, second) = (&placed[pair[0]], &placed[pair[1]]);
        if first.1.end > second.1.start {
            return Err(GgufError::Overlap {
                first: first.0.name.clone(),
                second: second.0.name.clone(),
                offset: second.1.start as u64,
            });
        }
    }
    Ok(placed)
}

/// A place in the bytes; every read says what it is reading, for the error.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, entry: impl FnOnce() -> String) -> Result<&'a [u8], GgufError> {
        let end = self
            .at
            .checked_add(n)
            .filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(GgufError::Truncated {
                entry: entry(),
                offset: self.at as u64,
                length: self.bytes.len() as u64,
            });
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn fixed<const N: usize>(
        &mut self,
        entry: impl FnOnce() -> String,
    ) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, entry)?);
        Ok(out)
    }

    fn u32(&mut self, entry: impl FnOnce() -> String) -> Result<u32, GgufError> {
        self.fixed(entry).map(u32::from_le_bytes)
    }

    fn u64(&mut self, entry: impl FnOnce() -> String) -> Result<u64, GgufError> {
        self.fixed(entry).map(u64::from_le_bytes)
    }

    /// Refuses a count of things of at least `least` bytes each that the rest of the file cannot hold.
    fn check_count(
        &self,
        count: u64,
        least: u64,
        offset: usize,
        entry: impl FnOnce() -> String,
    ) -> Result<(), GgufError> {
        let left = (self.bytes.len() - self.at) as u64;
        if count.checked_mul(least).is_none_or(|bytes| bytes > left) {
            return Err(GgufError::Count {
                entry: entry(),
                offset: offset as u64,
                count,
                length: self.bytes.len() as u64,
            });
        }
        Ok(())
    }

    fn string(&mut self, entry: impl Fn() -> String) -> Result<String, GgufError> {
        let offset = self.at as u64;
        let length = self.u64(&entry)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = self.take(length, &entry)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| GgufError::Utf8 {
            entry: entry(),
            offset,
        })
    }

    fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let entry = || format!("metadata key `{key}`");
        let offset = self.at as u64;
        Ok(match self.u32(entry)? {
            0 => Value::U8(self.fixed::<1>(entry)?[0]),
            1 => Value::I8(i8::from_le_bytes(self.fixed(entry)?)),
            2 => Value::U16(u16::from_le_bytes(self.fixed(entry)?)),
            3 => Value::I16(i16::from_le_bytes(self.fixed(entry)?)),
            4 => Value::U32(self.u32(entry)?),
            5 => Value::I32(i32::from_le_bytes(self.fixed(entry)?)),
            6 => Value::F32(f32::from_le_bytes(self.fixed(entry)?)),
            7 => Value::Bool(self.boolean(entry)?),
            8 => Value::String(self.string(entry)?),
            9 => Value::Array(self.array(key, 1)?),
            10 => Value::U64(self.u64(entry)?),
            11 => Value::I64(i64::from_le_bytes(self.fixed(entry)?)),
            12 => Value::F64(f64::from_le_bytes(self.fixed(entry)?)),
            found => {
                return Err(GgufError::ValueType {
                    entry: entry(),
                    offset,
                    found,
                });
            }
        })
    }

    fn boolean(&mut self, entry: impl Fn() -> String) -> Result<bool, GgufError> {
        let offset = self.at as u64;
        match self.fixed::<1>(&entry)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(GgufError::Boolean {
                entry: entry(),
                offset,
                found,
            }),
        }
    }

    fn array(&mut self, key: &str, depth: u32) -> Result<Array, GgufError> {
        let entry = || format!("the array under metadata key `{key}`");
        let offset = self.at as u64;
        if depth > DEEPEST_ARRAY {
            return Err(GgufError::Depth {
                entry: entry(),
                offset,
                limit: DEEPEST_ARRAY,
            });
        }
        let element = self.u32(entry)?;
        let count = self.u64(entry)?;
        let least = match element {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            found => {
                return Err(GgufError::ValueType {
                    entry: entry(),
                    offset,
                    found,
                });
            }
        };
        self.check_count(count, least, offset as usize, entry)?;
        // The check above bounds what is reserved below by a small multiple of the file's size.
        let n = count as usize;
        macro_rules! numbers {
            ($type:ty) => {{
                const BYTES: usize = size_of::<$type>();
                let (chunks, _) = self.take(n * BYTES, entry)?.as_chunks::<BYTES>();
                chunks.iter().map(|&b| <$type>::from_le_bytes(b)).collect()
            }};
        }
        Ok(match element {
            0 => Array::U8(self.take(n, entry)?.to_vec()),
            1 => Array::I8(numbers!(i8)),
            2 => Array::U16(numbers!(u16)),
            3 => Array::I16(numbers!(i16)),
            4 => Array::U32(numbers!(u32)),
            5 => Array::I32(numbers!(i32)),
            6 => Array::F32(numbers!(f32)),
            7 => Array::Bool(
                (0..n)
                    .map(|_| self.boolean(entry))
                    .collect::<Result<_, _>>()?,
            ),
            8 => Array::String(
                (0..n)
                    .map(|_| self.string(entry))
                    .collect::<Result<_, _>>()?,
            ),
            10 => Array::U64(numbers!(u64)),
            11 => Array::I64(numbers!(i64)),
            12 => Array::F64(numbers!(f64)),
            _ => Array::Array(
                (0..n)
                    .map(|_| self.array(key, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
        })
    }
}
