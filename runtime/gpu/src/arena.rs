//! Where arrays come from: one run of device memory for each [`Part`], cut at offsets.
//!
//! An arena's memory is taken when it is made and no more is taken later, so what fits when work begins
//! fits until it ends. What is dropped goes back to its arena. That is safe while the device still
//! works on it, because a device does what it is given in order, and a [`crate::Recorder`] keeps what
//! it uses until it is submitted.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use graft_kernels::QuantType;

use crate::device::HeldBuffer;
use crate::tensor::{Ids, Matrix, Piece, Tensor};
use crate::{Device, GpuError, Part, Result};

/// Memory for one part; clones are the same memory.
#[derive(Clone, Debug)]
pub struct Arena(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    device: Device,
    part: Part,
    buffers: Vec<HeldBuffer>,
    /// Free ranges of each buffer, in order, no two adjacent.
    free: Mutex<Vec<Vec<Range<u64>>>>,
}

impl Device {
    /// Sets `bytes` aside for a part; zeros at first.
    ///
    /// # Errors
    /// If the budget or the device has not as many, or the device is lost.
    pub fn arena(&self, part: Part, bytes: u64) -> Result<Arena> {
        self.arena_of(part, [bytes])
    }

    /// Sets memory aside for arrays that come in runs of so many bytes, taken in this order; zeros at first. What is
    /// larger than the device's buffers lies in several of them, and no array lies in two: a run is in
    /// one buffer unless it is too large itself.
    ///
    /// # Errors
    /// As [`Device::arena`].
    pub fn arena_of(&self, part: Part, runs: impl IntoIterator<Item = u64>) -> Result<Arena> {
        let most = (self.0.buffer_bytes / self.unit() * self.unit()).max(self.unit());
        let mut sizes: Vec<u64> = vec![];
        let mut bytes = 0_u64;
        for run in runs.into_iter().map(|run| self.rounded(run)) {
            bytes = bytes.saturating_add(run);
            // The whole is asked for before anything is made, so that a refusal names it and not a part.
            self.0.would_hold(part, bytes)?;
            match sizes.last_mut() {
                Some(last) if most - *last >= run => *last += run,
                _ => {
                    sizes.extend((0..run / most).map(|_| most));
                    sizes.extend(Some(run % most).filter(|&rest| rest > 0));
                }
            }
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let buffers = sizes.iter().map(|&size| self.0.buffer(part, size, usage));
        let buffers = buffers.collect::<Result<_>>()?;
        let free = sizes.iter().map(|&size| std::iter::once(0..size).collect());
        Ok(Arena(Arc::new(Memory {
            device: self.clone(),
            part,
            buffers,
            free: Mutex::new(free.collect()),
        })))
    }

    /// What sizes in an arena are rounded up to, in bytes; at most 256.
    pub fn unit(&self) -> u64 {
        self.0.alignment.max(8)
    }

    /// Bytes that [`Arena::tensor`] takes for `rows` of `width` floats.
    pub fn tensor_bytes(&self, rows: usize, width: usize) -> u64 {
        let bytes = 4_u64.saturating_mul(rows as u64);
        self.rounded(bytes.saturating_mul(width as u64))
    }

    /// Bytes that [`Arena::matrix`] takes; `None` if rows are no whole blocks.
    pub fn matrix_bytes(&self, ty: QuantType, rows: usize, inputs: usize) -> Option<u64> {
        let row = ty.row_bytes(inputs)?;
        let pieces = self.0.pieces(rows, row as u64)?;
        let bytes = pieces.map(|rows| self.rounded(rows.len() as u64 * row as u64));
        Some(bytes.sum())
    }

    fn rounded(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.unit()).saturating_mul(self.unit())
    }
}

impl crate::device::Inner {
    /// How rows are cut so that a kernel can see each piece whole; `None` if it cannot see one row.
    fn pieces(&self, rows: usize, row_bytes: u64) -> Option<impl Iterator<Item = Range<usize>>> {
        let most = usize::try_from(self.binding_bytes.checked_div(row_bytes)?).ok()?;
        let most = Some(most).filter(|&most| most > 0)?;
        let starts = (0..rows).step_by(most);
        Some(starts.map(move |start| start..rows.min(start.saturating_add(most))))
    }
}

impl Arena {
    /// What it is for.
    pub fn part(&self) -> Part {
        self.0.part
    }

    /// All its bytes.
    pub fn bytes(&self) -> u64 {
        self.0.buffers.iter().map(|held| held.buffer.size()).sum()
    }

    /// Bytes in use.
    pub fn held(&self) -> u64 {
        let free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        self.bytes() - free.iter().flatten().map(|r| r.end - r.start).sum::<u64>()
    }

    /// Floats `[rows, width]`. What they are at first is not said: zeros, or what was there before.
    ///
    /// # Errors
    /// If they do not fit, or the arena is for matrices.
    pub fn tensor(&self, rows: usize, width: usize) -> Result<Tensor> {
        if self.0.part.holds_matrices() {
            return Err(self.wrong_kind("floats"));
        }
        let bytes = self.0.device.tensor_bytes(rows, width);
        Ok(Tensor::new(self.take(bytes)?, rows, width))
    }

    /// Row numbers or labels `[len]`.
    ///
    /// # Errors
    /// As [`Arena::tensor`].
    pub fn ids(&self, len: usize) -> Result<Ids> {
        self.tensor(1, len).map(Ids::new)
    }

    /// A stored matrix `[rows, inputs]`, in as many pieces as kernels need.
    ///
    /// # Errors
    /// If it does not fit, a row is no whole blocks or more than a kernel can see, or the arena is not
    /// for matrices.
    pub fn matrix(&self, ty: QuantType, rows: usize, inputs: usize) -> Result<Matrix> {
        if !self.0.part.holds_matrices() {
            return Err(self.wrong_kind("matrices"));
        }
        let inner = &self.0.device.0;
        let shape = |what| GpuError::Shape { op: "matrix", what };
        let row_bytes = ty.row_bytes(inputs).filter(|&bytes| bytes > 0);
        let row_bytes = row_bytes.ok_or_else(|| {
            shape(format!(
                "a row of {inputs} weights is no whole blocks of {ty}"
            ))
        })?;
        let pieces = inner.pieces(rows, row_bytes as u64);
        let pieces = pieces.ok_or_else(|| GpuError::Limit {
            adapter: inner.adapter_name().to_owned(),
            what: "a row of a matrix in bytes",
            needed: row_bytes as u64,
            offered: inner.binding_bytes,
        })?;
        let pieces = pieces.map(|rows| {
            let bytes = rows.len() as u64 * row_bytes as u64;
            let range = self.take(self.0.device.rounded(bytes))?;
            Ok(Piece { rows, range })
        });
        Ok(Matrix {
            ty,
            rows,
            inputs,
            row_bytes,
            pieces: pieces.collect::<Result<_>>()?,
        })
    }

    /// The first free range that is large enough.
    fn take(&self, bytes: u64) -> Result<Arc<ArenaRange>> {
        // An empty array lies somewhere too.
        let bytes = bytes.max(self.0.device.unit());
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        for (buffer, ranges) in free.iter_mut().enumerate() {
            let fits = |range: &Range<u64>| range.end - range.start >= bytes;
            if let Some(at) = ranges.iter().position(fits) {
                let start = ranges[at].start;
                ranges[at].start += bytes;
                if ranges[at].is_empty() {
                    ranges.remove(at);
                }
                return Ok(Arc::new(ArenaRange {
                    arena: self.clone(),
                    buffer,
                    start,
                    bytes,
                }));
            }
        }
        let largest = free.iter().flatten().map(|range| range.end - range.start);
        let largest = largest.max().unwrap_or(0);
        drop(free);
        Err(GpuError::Arena {
            part: self.0.part,
            asked: bytes,
            held: self.held(),
            size: self.bytes(),
            free: largest,
        })
    }

    fn wrong_kind(&self, what: &str) -> GpuError {
        GpuError::Shape {
            op: "arena",
            what: format!("{what} do not belong to {}", self.0.part.name()),
        }
    }
}

/// Bytes of an arena, given back when dropped.
#[derive(Debug)]
pub(crate) struct ArenaRange {
    arena: Arena,
    buffer: usize,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

impl ArenaRange {
    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.arena.0.buffers[self.buffer].buffer
    }

    /// Whether both are of one buffer. (wgpu's buffers of different instances may compare equal.)
    pub(crate) fn shares_buffer(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.arena.0, &other.arena.0) && self.buffer == other.buffer
    }

    pub(crate) fn device(&self) -> &Device {
        &self.arena.0.device
    }
}

impl Drop for ArenaRange {
    fn drop(&mut self) {
        let mut free = self.arena.0.free.lock();
        let free = free.as_mut().unwrap_or_else(|poisoned| poisoned.get_mut());
        let ranges = &mut free[self.buffer];
        let (mut start, mut end) = (self.start, self.start + self.bytes);
        let at = ranges.partition_point(|range| range.start < start);
        if ranges.get(at).is_some_and(|next| next.start == end) {
            end = ranges.remove(at).end;
        }
        if at > 0 && ranges[at - 1].end == start {
            start = ranges.remove(at - 1).start;
        }
        let at = ranges.partition_point(|range| range.start < start);
        ranges.insert(at, start..end);
    }
}
