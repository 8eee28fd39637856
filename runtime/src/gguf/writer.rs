//! The reverse of the reader: version 3, tensor data streamed in the order of the declarations.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use graft_kernels::QuantType;

use super::{
    ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, GgufError, MAGIC, MOST_AXES, Metadata, Value,
};
use crate::Result;
use crate::atomic_file::AtomicFile;

/// A tensor that will be written: what the directory says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDeclaration {
    /// Unique name.
    pub name: String,
    /// Lengths of its axes, fastest first.
    pub shape: Vec<usize>,
    /// How its elements are stored.
    pub quant_type: QuantType,
}

impl TensorDeclaration {
    /// Bytes of its data.
    ///
    /// # Errors
    /// If the shape is empty, too large, or its rows are not whole blocks.
    pub fn bytes(&self) -> Result<usize, GgufError> {
        let wrong = || GgufError::Shape {
            tensor: self.name.clone(),
            offset: 0,
            shape: self.shape.iter().map(|&n| n as u64).collect(),
        };
        if self.shape.is_empty() || self.shape.len() > MOST_AXES || self.shape.contains(&0) {
            return Err(wrong());
        }
        let width = self.shape[0];
        let row = self
            .quant_type
            .row_bytes(width)
            .ok_or_else(|| GgufError::PartialBlock {
                tensor: self.name.clone(),
                width,
                quant_type: self.quant_type,
                block: self.quant_type.block_len(),
            })?;
        let rows = self.shape[1..].iter();
        rows.copied()
            .try_fold(row, usize::checked_mul)
            .ok_or_else(wrong)
    }
}

/// Writes a GGUF file: metadata and directory at once, then one tensor after the other. The file
/// appears under its name only when [`Writer::finish`] succeeds.
#[derive(Debug)]
pub struct Writer {
    out: BufWriter<AtomicFile>,
    tensors: Vec<(String, usize)>,
    written: usize,
    /// Bytes of the next tensor that were already written.
    part: usize,
    alignment: usize,
}

impl Writer {
    /// Starts a file with this metadata and directory.
    ///
    /// # Errors
    /// If the file cannot be created, a tensor's shape is impossible, or a name stands twice.
    pub fn create(path: &Path, metadata: &Metadata, tensors: &[TensorDeclaration]) -> Result<Self> {
        let Head {
            bytes,
            sizes,
            alignment,
        } = Head::new(metadata, tensors)?;
        let mut writer = Self {
            out: BufWriter::with_capacity(1 << 20, AtomicFile::create(path)?),
            tensors: sizes,
            written: 0,
            part: 0,
            alignment,
        };
        writer.put(&bytes)?;
        Ok(writer)
    }

    /// Writes the data of the next declared tensor.
    ///
    /// # Errors
    /// If it is not as long as declared, or the disk refuses it.
    pub fn write_tensor(&mut self, data: &[u8]) -> Result<()> {
        if let Some((_, expected)) = self.tensors.get(self.written)
            && (self.part > 0 || data.len() != *expected)
        {
            return Err(self.other_length(self.part + data.len()));
        }
        self.write_part(data)
    }

    /// Writes more data of the next declared tensor, which is done when all its bytes are there.
    ///
    /// # Errors
    /// If it becomes longer than declared, or the disk refuses it.
    pub fn write_part(&mut self, data: &[u8]) -> Result<()> {
        let Some(&(_, expected)) = self.tensors.get(self.written) else {
            return Err(GgufError::Unfinished {
                written: self.written + 1,
                declared: self.tensors.len(),
            }
            .into());
        };
        if data.len() > expected - self.part {
            return Err(self.other_length(self.part + data.len()));
        }
        self.put(data)?;
        self.part += data.len();
        if self.part == expected {
            let padding = expected.next_multiple_of(self.alignment) - expected;
            self.put(&vec![0; padding])?;
            self.written += 1;
            self.part = 0;
        }
        Ok(())
    }

    fn other_length(&self, found: usize) -> crate::Error {
        let (tensor, expected) = &self.tensors[self.written];
        GgufError::WrittenBytes {
            tensor: tensor.clone(),
            expected: *expected,
            found,
        }
        .into()
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// If tensors are missing or the disk refuses; nothing is left behind then.
    pub fn finish(self) -> Result<()> {
        if self.written != self.tensors.len() {
            return Err(GgufError::Unfinished {
                written: self.written,
                declared: self.tensors.len(),
            }
            .into());
        }
        let path = self.out.get_ref().path().to_owned();
        let file = self.out.into_inner().map_err(|e| GgufError::Io {
            action: "write",
            path,
            source: e.into_error(),
        })?;
        file.commit()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.out.get_ref().path().to_owned();
        let io = |source: io::Error| GgufError::Io {
            action: "write",
            path,
            source,
        };
        Ok(self.out.write_all(bytes).map_err(io)?)
    }
}

/// Everything before the data.
struct Head {
    bytes: Vec<u8>,
    /// Name and bytes of each tensor.
    sizes: Vec<(String, usize)>,
    alignment: usize,
}

impl Head {
    fn new(metadata: &Metadata, tensors: &[TensorDeclaration]) -> Result<Self> {
        let alignment = metadata
            .opt_u64(ALIGNMENT_KEY)?
            .unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() || !(8..=1 << 20).contains(&alignment) {
            return Err(GgufError::Alignment { found: alignment }.into());
        }
        let mut head = Vec::new();
        head.extend(MAGIC);
        head.extend(3u32.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            put_string(&mut head, key);
            put_value(&mut head, value);
        }
        let mut offset = 0u64;
        let mut sizes = Vec::with_capacity(tensors.len());
        let mut names = std::collections::HashSet::new();
        for tensor in tensors {
            if !names.insert(&tensor.name) {
                return Err(GgufError::DuplicateTensor {
                    tensor: tensor.name.clone(),
                    offset: 0,
                }
                .into());
            }
            let bytes = tensor.bytes()?;
            put_string(&mut head, &tensor.name);
            head.extend((tensor.shape.len() as u32).to_le_bytes());
            for &axis in &tensor.shape {
                head.extend((axis as u64).to_le_bytes());
            }
            head.extend(tensor.quant_type.gguf_id().to_le_bytes());
            head.extend(offset.to_le_bytes());
            offset += (bytes as u64).next_multiple_of(alignment);
            sizes.push((tensor.name.clone(), bytes));
        }
        head.resize(head.len().next_multiple_of(alignment as usize), 0);
        Ok(Self {
            bytes: head,
            sizes,
            alignment: alignment as usize,
        })
    }
}

/// A whole file in memory whose every byte of data is `fill`.
///
/// # Errors
/// If a tensor's shape is impossible, or a name stands twice.
pub(crate) fn whole_file(
    metadata: &Metadata,
    tensors: &[TensorDeclaration],
    fill: u8,
) -> Result<Vec<u8>> {
    let Head {
        mut bytes,
        sizes,
        alignment,
    } = Head::new(metadata, tensors)?;
    let padded = sizes
        .iter()
        .map(|(_, size)| size.next_multiple_of(alignment));
    bytes.resize(bytes.len() + padded.sum::<usize>(), fill);
    Ok(bytes)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    macro_rules! put {
        ($id:literal, $bytes:expr) => {{
            out.extend(u32::to_le_bytes($id));
            out.extend($bytes);
        }};
    }
    match value {
        Value::U8(v) => put!(0, [*v]),
        Value::I8(v) => put!(1, v.to_le_bytes()),
        Value::U16(v) => put!(2, v.to_le_bytes()),
        Value::I16(v) => put!(3, v.to_le_bytes()),
        Value::U32(v) => put!(4, v.to_le_bytes()),
        Value::I32(v) => put!(5, v.to_le_bytes()),
        Value::F32(v) => put!(6, v.to_le_bytes()),
        Value::Bool(v) => put!(7, [u8::from(*v)]),
        Value::String(v) => {
            out.extend(8u32.to_le_bytes());
            put_string(out, v);
        }
        Value::Array(v) => {
            out.extend(9u32.to_le_bytes());
            put_array(out, v);
        }
        Value::U64(v) => put!(10, v.to_le_bytes()),
        Value::I64(v) => put!(11, v.to_le_bytes()),
        Value::F64(v) => put!(12, v.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    macro_rules! numbers {
        ($id:literal, $values:expr) => {{
            out.extend(u32::to_le_bytes($id));
            out.extend(($values.len() as u64).to_le_bytes());
            out.extend($values.iter().flat_map(|v| v.to_le_bytes()));
        }};
    }
    match array {
        Array::U8(v) => numbers!(0, v),
        Array::I8(v) => numbers!(1, v),
        Array::U16(v) => numbers!(2, v),
        Array::I16(v) => numbers!(3, v),
        Array::U32(v) => numbers!(4, v),
        Array::I32(v) => numbers!(5, v),
        Array::F32(v) => numbers!(6, v),
        Array::Bool(v) => {
            let bytes: Vec<u8> = v.iter().map(|&b| b.into()).collect();
            numbers!(7, bytes);
        }
        Array::U64(v) => numbers!(10, v),
        Array::I64(v) => numbers!(11, v),
        Array::F64(v) => numbers!(12, v),
        Array::String(v) => {
            out.extend(8u32.to_le_bytes());
            out.extend((v.len() as u64).to_le_bytes());
            v.iter().for_each(|text| put_string(out, text));
        }
        Array::Array(v) => {
            out.extend(9u32.to_le_bytes());
            out.extend((v.len() as u64).to_le_bytes());
            v.iter().for_each(|array| put_array(out, array));
        }
    }
}
