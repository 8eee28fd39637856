//! Commands on their way to a device: recorded in order, submitted as one, usually a layer at a time.
//!
//! The operators are in `kernels/`, beside the WGSL that each runs.

use std::sync::{Arc, PoisonError};

use graft_kernels::QuantType;

use crate::arena::ArenaRange;
use crate::arithmetic::{Arithmetic, Product, Rounding};
use crate::device::{GROUPS, IMMEDIATE_BYTES};
use crate::download::{Download, Submitted};
use crate::ring::{SLOTS_OF_A_RECORDER, Slot};
use crate::shader::Key;
use crate::tensor::Piece;
use crate::{Device, GpuError, Ids, Matrix, Result, Tensor};

/// Records commands for a device. They run in order, each after the one before it is done, and
/// nothing runs before [`Recorder::submit`] except where many bytes are written (see
/// [`Recorder::write`]). What an error refuses is not recorded; what was recorded before stays.
#[derive(Debug)]
pub struct Recorder {
    device: Device,
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    /// What must not be given to others before it was used.
    kept: Vec<Arc<ArenaRange>>,
    /// Slots written to; the last has room.
    slots: Vec<Slot>,
    submitted: Submitted,
    rounding: Rounding,
    /// The way that a trial tries.
    only: Option<Arithmetic>,
}

/// What was submitted.
#[derive(Clone, Debug)]
pub struct Submission {
    device: Device,
    index: wgpu::SubmissionIndex,
}

impl Submission {
    /// Waits until the device has done it, and all before it.
    ///
    /// # Errors
    /// If the device is lost, or something went wrong on it.
    pub fn wait(&self) -> Result<()> {
        self.device.0.wait_for(Some(&self.index))
    }
}

/// An array that a kernel sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    place: Place<'a>,
    start: u64,
    bytes: u64,
}

/// Where an array lies.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    /// In an arena.
    Range(&'a Arc<ArenaRange>),
    /// In a buffer that the device has for kernels' own use.
    Own(&'a wgpu::Buffer),
}

impl<'a> From<&'a Tensor> for Binding<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self {
            place: Place::Range(&tensor.range),
            start: tensor.at(),
            bytes: tensor.bytes(),
        }
    }
}

impl<'a> From<&'a Ids> for Binding<'a> {
    fn from(ids: &'a Ids) -> Self {
        (&ids.tensor).into()
    }
}

impl<'a> Binding<'a> {
    /// A matrix's piece, whose rows are of `row_bytes`.
    pub(crate) fn piece(piece: &'a Piece, row_bytes: usize) -> Self {
        let bytes = (piece.rows.len() * row_bytes) as u64;
        Self {
            place: Place::Range(&piece.range),
            start: piece.range.start,
            // Kernels read words.
            bytes: bytes.next_multiple_of(4),
        }
    }

    /// The first bytes of a buffer that the device has for kernels' own use.
    pub(crate) fn own(buffer: &'a wgpu::Buffer, bytes: u64) -> Self {
        Self {
            place: Place::Own(buffer),
            start: 0,
            bytes,
        }
    }

    fn buffer(&self) -> &'a wgpu::Buffer {
        match self.place {
            Place::Range(range) => range.buffer(),
            Place::Own(buffer) => buffer,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let shared = match (self.place, other.place) {
            (Place::Range(a), Place::Range(b)) => a.shares_buffer(b),
            // A kernel sees one of those at most.
            _ => false,
        };
        shared && self.start < other.start + other.bytes && other.start < self.start + self.bytes
    }
}

/// One run of a kernel.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The operator, for errors.
    pub(crate) op: &'static str,
    pub(crate) key: Key,
    /// Arrays by their number in the kernel's file; those written first.
    pub(crate) arrays: &'a [(usize, Binding<'a>)],
    /// How many are written.
    pub(crate) written: usize,
    /// What follows the arrays' offsets in the kernel's immediate data.
    pub(crate) words: &'a [u32],
    pub(crate) groups: Groups,
}

/// The groups of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Groups {
    /// So many in a row. The kernel counts them in two dimensions and passes over what is too much, so there
    /// may be more than a device takes in one.
    Line(usize),
    /// In each dimension.
    Grid([usize; 3]),
}

impl Recorder {
    /// Begins to record.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub fn new(device: &Device) -> Result<Self> {
        device.check()?;
        Ok(Self {
            device: device.clone(),
            encoder: encoder(device),
            pass: None,
            kept: vec![],
            slots: vec![],
            submitted: Submitted::default(),
            rounding: Rounding::default(),
            only: None,
        })
    }

    /// The device it records for.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Lets products recorded from here on round their terms so far, where the device is faster for it.
    pub fn round(&mut self, rounding: Rounding) {
        self.rounding = rounding;
    }

    /// Has products computed so, whatever the device takes.
    pub(crate) fn only(&mut self, arithmetic: Arithmetic) {
        self.only = Some(arithmetic);
    }

    /// How a product with weights of a type is computed.
    pub(crate) fn arithmetic(&self, product: Product, ty: QuantType) -> Arithmetic {
        match (self.only, self.device.0.taken.get()) {
            (Some(only), _) => only,
            (None, Some(taken)) => taken.of(product, ty, self.rounding),
            (None, None) => Arithmetic::F32,
        }
    }

    /// Gives the device what was recorded.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub fn submit(mut self) -> Result<Submission> {
        let index = self.flush()?;
        Ok(Submission {
            device: self.device.clone(),
            index,
        })
    }

    /// Writes floats, in the order of commands.
    ///
    /// They are copied at once, so `values` may change afterwards. Where staging memory runs out, what
    /// was recorded so far is submitted.
    ///
    /// # Errors
    /// If `values` is not as long as `to`, other recorders hold all staging memory, or the device is
    /// lost.
    pub fn write(&mut self, to: &Tensor, values: &[f32]) -> Result<()> {
        same("write", "floats", values.len(), to.len())?;
        self.upload("write", &to.range, to.at(), bytemuck::cast_slice(values))
    }

    /// Writes row numbers or labels, as [`Recorder::write`]. Each is below `below` or
    /// [`crate::IGNORED`].
    ///
    /// # Errors
    /// As [`Recorder::write`]; if a value is neither.
    pub fn write_ids(&mut self, to: &Ids, values: &[i32], below: usize) -> Result<()> {
        same("write_ids", "numbers", values.len(), to.len())?;
        let known = |&&v: &&i32| v == crate::IGNORED || usize::try_from(v).is_ok_and(|v| v < below);
        if let Some(bad) = values.iter().find(|v| !known(v)) {
            return Err(GpuError::Shape {
                op: "write_ids",
                what: format!("{bad} is not below {below}"),
            });
        }
        let to = &to.tensor;
        self.upload(
            "write_ids",
            &to.range,
            to.at(),
            bytemuck::cast_slice(values),
        )
    }

    /// Writes a matrix's blocks, as [`Recorder::write`].
    ///
    /// # Errors
    /// As [`Recorder::write`].
    pub fn write_matrix(&mut self, to: &Matrix, blocks: &[u8]) -> Result<()> {
        same("write_matrix", "bytes", blocks.len(), to.bytes())?;
        for piece in &to.pieces {
            let bytes = piece.rows.start * to.row_bytes..piece.rows.end * to.row_bytes;
            self.upload(
                "write_matrix",
                &piece.range,
                piece.range.start,
                &blocks[bytes],
            )?;
        }
        Ok(())
    }

    /// Copies an array down, to be waited for after it was submitted.
    ///
    /// # Errors
    /// If not enough staging memory is free (see [`Device::read`] for arrays of any size), or the
    /// device is lost.
    pub fn read(&mut self, from: &Tensor) -> Result<Download> {
        self.owns("read", &from.range)?;
        self.device.check()?;
        let downloads = &self.device.0.downloads;
        let slots = downloads.take(from.bytes());
        let slots = slots.ok_or(GpuError::StagingBusy { op: "read" })?;
        self.pass = None;
        for (i, slot) in slots.iter().enumerate() {
            let done = i as u64 * downloads.slot_bytes();
            let bytes = (from.bytes() - done).min(downloads.slot_bytes());
            let (from, start) = (from.range.buffer(), from.at() + done);
            self.encoder
                .copy_buffer_to_buffer(from, start, &slot.buffer, 0, bytes);
        }
        self.keep(&from.range);
        Ok(Download {
            device: self.device.clone(),
            slots,
            mapped: false,
            floats: from.len(),
            submitted: self.submitted.clone(),
        })
    }

    /// Records a run of a kernel; nothing if it has no groups.
    pub(crate) fn run(&mut self, call: &Call<'_>) -> Result<()> {
        let groups = call.groups.dimensions();
        if groups.contains(&0) || call.arrays.iter().any(|(_, array)| array.bytes == 0) {
            return Ok(());
        }
        let inner = self.device.0.clone();
        let mut words = [0_u32; IMMEDIATE_BYTES as usize / 4];
        let mut entries = Vec::with_capacity(call.arrays.len());
        for (i, (number, array)) in call.arrays.iter().enumerate() {
            if let Place::Range(range) = array.place {
                self.owns(call.op, range)?;
            }
            let clash = |other: &(usize, Binding<'_>)| array.overlaps(&other.1);
            if i < call.written && call.arrays[i + 1..].iter().any(clash) {
                return Err(GpuError::Shape {
                    op: call.op,
                    what: "an array that is written overlaps another".to_owned(),
                });
            }
            let start = array.start / inner.alignment * inner.alignment;
            words[*number] = ((array.start - start) / 4) as u32;
            let size = array.bytes + array.start - start;
            if size > inner.binding_bytes {
                return Err(GpuError::Limit {
                    adapter: inner.adapter_name().to_owned(),
                    what: "an array of a kernel in bytes",
                    needed: size,
                    offered: inner.binding_bytes,
                });
            }
            entries.push(wgpu::BindGroupEntry {
                binding: *number as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: array.buffer(),
                    offset: start,
                    size: std::num::NonZeroU64::new(size),
                }),
            });
        }
        let arrays = call.key.file.arrays();
        let used = arrays + call.words.len();
        words[arrays..used].copy_from_slice(call.words);
        let [x, y, z] = taken(call.op, groups)?;
        let pipeline = inner.pipeline(call.key)?;
        let group = inner.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        let pass = self.pass.get_or_insert_with(|| {
            let pass = self.encoder.begin_compute_pass(&Default::default());
            pass.forget_lifetime()
        });
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.set_immediates(0, bytemuck::cast_slice(&words[..used]));
        pass.dispatch_workgroups(x, y, z);
        for (_, array) in call.arrays {
            if let Place::Range(range) = array.place {
                self.keep(range);
            }
        }
        Ok(())
    }

    /// Rows of `width` floats that a kernel can see at once, at least one.
    pub(crate) fn rows_at_once(&self, width: usize) -> usize {
        let inner = &self.device.0;
        let floats = inner.binding_bytes.saturating_sub(inner.alignment) / 4;
        usize::try_from(floats / width.max(1) as u64).map_or(usize::MAX, |rows| rows.max(1))
    }

    fn upload(
        &mut self,
        op: &'static str,
        to: &Arc<ArenaRange>,
        mut start: u64,
        bytes: &[u8],
    ) -> Result<()> {
        self.owns(op, to)?;
        self.device.check()?;
        let inner = self.device.0.clone();
        let slot_bytes = inner.uploads.slot_bytes();
        let mut left = bytes;
        while !left.is_empty() {
            if self.slots.last().is_none_or(|slot| slot.used == slot_bytes) {
                self.next_slot(op)?;
            }
            let Some(slot) = self.slots.last_mut() else {
                return Err(GpuError::StagingBusy { op });
            };
            let room = usize::try_from(slot_bytes - slot.used).unwrap_or(usize::MAX);
            let (now, later) = left.split_at(room.min(left.len()));
            // Copies are of whole words; what is between an array's end and the next belongs to it.
            let size = (now.len() as u64).next_multiple_of(4);
            let range = slot.used..slot.used + size;
            let view = slot.held.buffer.slice(range).get_mapped_range_mut();
            let mut view = view.map_err(|e| inner.failure.internal(e.to_string()))?;
            view.slice(..now.len()).copy_from_slice(now);
            drop(view);
            self.pass = None;
            self.encoder.copy_buffer_to_buffer(
                &slot.held.buffer,
                slot.used,
                to.buffer(),
                start,
                size,
            );
            slot.used = (slot.used + size).next_multiple_of(8);
            start += size;
            left = later;
        }
        self.keep(to);
        Ok(())
    }

    fn next_slot(&mut self, op: &'static str) -> Result<()> {
        let inner = self.device.0.clone();
        if self.slots.len() == SLOTS_OF_A_RECORDER {
            self.flush()?;
        }
        let slot = inner.uploads.take(&inner)?;
        self.slots.push(slot.ok_or(GpuError::StagingBusy { op })?);
        Ok(())
    }

    /// Submits what was recorded and begins anew.
    fn flush(&mut self) -> Result<wgpu::SubmissionIndex> {
        self.pass = None;
        self.device.check()?;
        let inner = &self.device.0;
        let encoder = std::mem::replace(&mut self.encoder, encoder(&self.device));
        for slot in &self.slots {
            slot.held.buffer.unmap();
        }
        let index = inner.queue.submit([encoder.finish()]);
        for slot in self.slots.drain(..) {
            inner.uploads.submitted(slot, &index);
        }
        let submitted = std::mem::take(&mut self.submitted);
        *submitted.lock().unwrap_or_else(PoisonError::into_inner) = Some(index.clone());
        self.kept.clear();
        self.device.check()?;
        Ok(index)
    }

    /// # Errors
    /// If an array is of another device.
    fn owns(&self, op: &'static str, range: &ArenaRange) -> Result<()> {
        match Arc::ptr_eq(&range.device().0, &self.device.0) {
            true => Ok(()),
            false => Err(GpuError::Shape {
                op,
                what: "an array is on another device".to_owned(),
            }),
        }
    }

    fn keep(&mut self, range: &Arc<ArenaRange>) {
        if !self
            .kept
            .iter()
            .rev()
            .take(16)
            .any(|kept| Arc::ptr_eq(kept, range))
        {
            self.kept.push(range.clone());
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.pass = None;
        for slot in self.slots.drain(..) {
            self.device.0.uploads.give_back(slot);
        }
    }
}

/// # Errors
/// If a size of an operator's array is not what others make it.
pub(crate) fn same(op: &'static str, what: &str, got: usize, wanted: usize) -> Result<()> {
    match got == wanted {
        true => Ok(()),
        false => Err(GpuError::Shape {
            op,
            what: format!("{got} {what} where {wanted} belong"),
        }),
    }
}

/// # Errors
/// If an array is not `[rows, width]`.
pub(crate) fn shaped(
    op: &'static str,
    name: &str,
    tensor: &Tensor,
    [rows, width]: [usize; 2],
) -> Result<()> {
    let got = [tensor.rows(), tensor.width()];
    match got == [rows, width] {
        true => Ok(()),
        false => Err(GpuError::Shape {
            op,
            what: format!("{name} is {got:?} where [{rows}, {width}] belongs"),
        }),
    }
}

fn encoder(device: &Device) -> wgpu::CommandEncoder {
    let inner = &device.0;
    inner.device.create_command_encoder(&Default::default())
}

impl Groups {
    fn dimensions(self) -> [usize; 3] {
        let most = GROUPS as usize;
        match self {
            Self::Line(count) if count > most => [most, count.div_ceil(most), 1],
            Self::Line(count) => [count, 1, 1],
            Self::Grid(dimensions) => dimensions,
        }
    }
}

/// # Errors
/// If a device does not take so many groups.
fn taken(op: &'static str, groups: [usize; 3]) -> Result<[u32; 3]> {
    let fit = |n: usize| u32::try_from(n).ok().filter(|&n| n <= GROUPS);
    let [x, y, z] = groups;
    match (fit(x), fit(y), fit(z)) {
        (Some(x), Some(y), Some(z)) => Ok([x, y, z]),
        _ => Err(GpuError::Shape {
            op,
            what: format!("{x} x {y} x {z} groups are more than a device takes"),
        }),
    }
}
