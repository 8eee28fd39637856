//! A device opened for work: its limits, its budget, and what became of it.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::adapter::{AdapterKind, AdapterReport, enumerate};
use crate::arithmetic::{Arithmetic, KernelChoice, Rounding, Taken, Trial};
use crate::cache::Cache;
use crate::compiled::Compiled;
use crate::download::Downloads;
use crate::failure::Failure;
use crate::ledger::{Hold, Ledger, MemoryReport};
use crate::matrix_units::{self, Units};
use crate::ring::Ring;
use crate::shader::{Key, Pipeline};
use crate::{GpuError, Part, Result};

/// Most bytes of one array that a kernel sees. WebGPU guarantees as much, some phones lose the device
/// above it whatever they report, and the software driver has this very limit.
const BINDING_BYTES: u64 = 128 << 20;

/// The budget of a device that does not say how much memory it has.
const UNKNOWN_MEMORY: u64 = 1 << 30;

/// Bytes of immediate data that a kernel may have.
pub(crate) const IMMEDIATE_BYTES: u32 = 128;

/// What is used where it is there.
const OPTIONAL: wgpu::Features = wgpu::Features::PIPELINE_CACHE
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// Most tokens of a product in f16 at once.
pub(crate) const SCALED_TOKENS: usize = 4096;

/// Groups of a dispatch in one dimension.
pub(crate) const GROUPS: u32 = 65_535;

/// Which device to open.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Choice {
    /// The first that is no software.
    #[default]
    Best,
    /// By its place in [`crate::adapters`], software or not.
    Index(usize),
    /// The first whose name contains this, in any case of letters, software or not.
    Name(String),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Index(index) => write!(f, "number {index}"),
            Self::Name(name) => write!(f, "named {name:?}"),
        }
    }
}

/// How a device is opened.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// Which.
    pub choice: Choice,
    /// Whether [`Choice::Best`] may be software where there is nothing else.
    pub software: bool,
    /// Most bytes to allocate, staging included; `None`: four fifths of its memory.
    pub budget: Option<u64>,
    /// Most bytes of one array that a kernel sees, if less than the device's and 128 MiB.
    pub binding_bytes: Option<u64>,
    /// Most bytes of one buffer, if less than the device's. Larger arenas lie in several.
    pub buffer_bytes: Option<u64>,
    /// Whether kernels check every index. Slower by up to a quarter on some devices.
    pub checked: bool,
    /// Which ways of computing products it takes.
    pub kernels: KernelChoice,
    /// A folder where compiled kernels and what a trial found are kept from start to start; `None`: nowhere. It
    /// is made if it is not there, and not used if others than this user can write to it.
    pub cache: Option<PathBuf>,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            choice: Choice::Best,
            software: false,
            budget: None,
            binding_bytes: None,
            buffer_bytes: None,
            checked: cfg!(debug_assertions),
            kernels: KernelChoice::Best,
            cache: None,
        }
    }
}

/// An open device; clones are the same device.
#[derive(Clone, Debug)]
pub struct Device(pub(crate) Arc<Inner>);

/// What all handles of a device share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    /// Most bytes of a binding.
    pub(crate) binding_bytes: u64,
    /// Most bytes of a buffer.
    pub(crate) buffer_bytes: u64,
    /// What offsets of bindings are multiples of.
    pub(crate) alignment: u64,
    pub(crate) checked: bool,
    /// A scale for each token of a product in f16, where those may be used.
    pub(crate) scales: OnceLock<HeldBuffer>,
    /// Its matrix units, where it was opened to use them.
    pub(crate) units: Option<Units>,
    /// Set when it was opened, after a trial if there is one.
    pub(crate) taken: OnceLock<Taken>,
    pub(crate) failure: Arc<Failure>,
    pub(crate) pipelines: Mutex<HashMap<Key, Arc<Pipeline>>>,
    pub(crate) compiled: Option<Compiled>,
    pub(crate) uploads: Ring,
    pub(crate) downloads: Downloads,
    ledger: Ledger,
    report: AdapterReport,
    /// Last, because the device was made by it.
    _instance: wgpu::Instance,
}

impl Device {
    /// Opens a device.
    ///
    /// # Errors
    /// If there is none, only software where none was asked for, not the one asked for, or if it
    /// lacks what the kernels need or cannot be opened.
    pub fn open(options: &DeviceOptions) -> Result<Self> {
        let kernels = options.kernels.or_named()?;
        match Self::open_with(options, kernels) {
            // Some kernel was too much for the driver; f32's are what every driver knows best.
            Err(GpuError::Lost { .. }) if kernels != KernelChoice::Only(Arithmetic::F32) => {
                Self::open_with(options, KernelChoice::Only(Arithmetic::F32))
            }
            opened => opened,
        }
    }

    fn open_with(options: &DeviceOptions, kernels: KernelChoice) -> Result<Self> {
        let (instance, found) = enumerate();
        let (report, adapter) = choose(found, options)?;
        let cache = options.cache.as_deref().map(Cache::at);
        let limits = needed_limits(&report, adapter.limits())?;
        if !adapter.features().contains(wgpu::Features::IMMEDIATES) {
            return Err(GpuError::Lacks {
                adapter: report.name,
                what: "immediate data (push constants)",
            });
        }
        let kernels = match kernels {
            // Nothing else is faster there.
            KernelChoice::Best if report.kind == AdapterKind::Software => {
                KernelChoice::Only(Arithmetic::F32)
            }
            other => other,
        };
        let (device, queue) = request(&adapter, &report, &limits, kernels)?;
        let units = matrix_units::offered(&adapter);
        let failure = Arc::new(Failure::new(report.name.clone()));
        // Without a handler of ours, an error ends the process.
        let noted = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            noted.note(error.to_string());
        }));
        let noted = failure.clone();
        device.set_device_lost_callback(move |_, reason| noted.lose(reason));
        let compiled = cache
            .clone()
            .and_then(|cache| Compiled::open(&device, &adapter.get_info(), cache));
        let binding_bytes = options.binding_bytes.unwrap_or(u64::MAX);
        let memory = report.memory().map_or(UNKNOWN_MEMORY, |m| m / 5 * 4);
        let budget = options.budget.unwrap_or(memory);
        let inner = Inner {
            device,
            queue,
            binding_bytes: binding_bytes.min(limits.max_storage_buffer_binding_size),
            buffer_bytes: options
                .buffer_bytes
                .unwrap_or(u64::MAX)
                .min(limits.max_buffer_size),
            alignment: u64::from(limits.min_storage_buffer_offset_alignment),
            checked: options.checked,
            scales: OnceLock::new(),
            units,
            taken: OnceLock::new(),
            failure,
            pipelines: Mutex::default(),
            compiled,
            uploads: Ring::new(budget),
            downloads: Downloads::new(budget),
            ledger: Ledger::new(budget),
            report,
            _instance: instance,
        };
        inner.uploads.fill(&inner)?;
        inner.downloads.fill(&inner)?;
        let device = Self(Arc::new(inner));
        let taken = device.choose_kernels(kernels, cache.as_ref())?;
        let _ = device.0.taken.set(taken);
        Ok(device)
    }

    /// Which ways of computing products it takes.
    fn choose_kernels(&self, kernels: KernelChoice, cache: Option<&Cache>) -> Result<Taken> {
        let kernels = match kernels {
            KernelChoice::Only(arithmetic) if !self.0.has(arithmetic) => {
                KernelChoice::Only(Arithmetic::F32)
            }
            other => other,
        };
        let halves = match kernels {
            KernelChoice::Only(arithmetic) => arithmetic.rounding() == Rounding::Halves,
            _ => self.0.has(Arithmetic::Matrix),
        };
        if halves {
            let bytes = 4 * SCALED_TOKENS as u64;
            let usage = wgpu::BufferUsages::STORAGE;
            let _ = self
                .0
                .scales
                .set(self.0.buffer(Part::LayerBuffers, bytes, usage)?);
        }
        match kernels {
            KernelChoice::Only(arithmetic) => Ok(Taken::Only(arithmetic)),
            KernelChoice::Best | KernelChoice::Tried => self
                .tried(cache)
                .map(|trial| Taken::Fastest(Box::new(trial))),
        }
    }

    /// What was measured when it was opened; `None` if it was told what to take, or is software.
    pub fn trial(&self) -> Option<&Trial> {
        match self.0.taken.get() {
            Some(Taken::Fastest(trial)) => Some(trial),
            _ => None,
        }
    }

    /// What was opened.
    pub fn adapter(&self) -> &AdapterReport {
        &self.0.report
    }

    /// What its memory is used for.
    pub fn memory(&self) -> MemoryReport {
        self.0.ledger.report()
    }

    /// # Errors
    /// If the device is lost or something else went wrong on it since it was opened.
    pub fn check(&self) -> Result<()> {
        self.0.failure.check()
    }

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub fn wait(&self) -> Result<()> {
        self.0.wait_for(None)
    }

    /// Gives the device up as if it were unplugged: every later call, of any clone, is an error.
    pub fn destroy(&self) {
        self.0.device.destroy();
        self.0.failure.lose("it was given up".to_owned());
    }
}

impl Inner {
    /// Waits for a submission, or for all.
    pub(crate) fn wait_for(&self, submission: Option<&wgpu::SubmissionIndex>) -> Result<()> {
        // A lost device may never say that it is done; it is asked every second whether it lives.
        loop {
            self.failure.check()?;
            match self.poll(wgpu::PollType::Wait {
                submission_index: submission.cloned(),
                timeout: Some(Duration::from_secs(1)),
            })? {
                Ok(_) => return self.failure.check(),
                Err(wgpu::PollError::Timeout) => {}
                Err(other) => {
                    self.failure.check()?;
                    return Err(self.failure.internal(other.to_string()));
                }
            }
        }
    }

    /// Runs the callbacks that are due.
    pub(crate) fn poll(
        &self,
        how: wgpu::PollType,
    ) -> Result<std::result::Result<wgpu::PollStatus, wgpu::PollError>> {
        // wgpu panics in here, and nowhere else that we call, when the driver reports a loss while it
        // is waited for.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(how)));
        polled.map_err(|_| {
            self.failure.lose("it stopped answering".to_owned());
            self.failure.check().err().unwrap_or(GpuError::NoAdapter)
        })
    }

    /// Runs `make` and returns the error that the driver reports about it, if any.
    pub(crate) fn scoped<T>(
        &self,
        make: impl FnOnce() -> T,
    ) -> std::result::Result<T, wgpu::Error> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let scopes = [OutOfMemory, Validation, Internal].map(|f| self.device.push_error_scope(f));
        let made = make();
        let errors = scopes.into_iter().rev();
        let errors: Vec<_> = errors
            .map(|scope| pollster::block_on(scope.pop()))
            .collect();
        match errors.into_iter().flatten().next() {
            Some(error) => Err(error),
            None => Ok(made),
        }
    }

    /// A buffer within the budget.
    ///
    /// # Errors
    /// If budget or device have no room, or the device is lost.
    pub(crate) fn buffer(
        &self,
        part: Part,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<HeldBuffer> {
        self.failure.check()?;
        let hold = self.ledger.hold(part, bytes)?;
        let made = self.scoped(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(part.name()),
                size: bytes,
                usage,
                mapped_at_creation: usage.contains(wgpu::BufferUsages::MAP_WRITE),
            })
        });
        match made {
            Ok(buffer) => Ok(HeldBuffer {
                buffer,
                _hold: hold,
            }),
            Err(wgpu::Error::OutOfMemory { .. }) => Err(GpuError::OutOfMemory {
                adapter: self.report.name.clone(),
                part,
                asked: bytes,
            }),
            Err(other) => {
                self.failure.check()?;
                Err(self.failure.internal(other.to_string()))
            }
        }
    }

    /// Whether the device has what a way of computing products needs.
    pub(crate) fn has(&self, arithmetic: Arithmetic) -> bool {
        let units = arithmetic != Arithmetic::Matrix || self.units.is_some();
        units && self.device.features().contains(arithmetic.needs())
    }

    /// # Errors
    /// If the budget has no room for so many bytes.
    pub(crate) fn would_hold(&self, part: Part, bytes: u64) -> Result<()> {
        self.failure.check()?;
        self.ledger.hold(part, bytes).map(drop)
    }

    pub(crate) fn adapter_name(&self) -> &str {
        &self.report.name
    }

    pub(crate) fn pipelines(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pipeline>>> {
        self.pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(compiled) = &self.compiled
            && self.failure.check().is_ok()
        {
            compiled.store();
        }
    }
}

/// A buffer and its entry in the ledger.
#[derive(Debug)]
pub(crate) struct HeldBuffer {
    pub(crate) buffer: wgpu::Buffer,
    _hold: Hold,
}

fn choose(
    found: Vec<(AdapterReport, wgpu::Adapter)>,
    options: &DeviceOptions,
) -> Result<(AdapterReport, wgpu::Adapter)> {
    if found.is_empty() {
        return Err(GpuError::NoAdapter);
    }
    let names: Vec<String> = found
        .iter()
        .map(|(report, _)| report.name.clone())
        .collect();
    let wanted = |report: &AdapterReport| match &options.choice {
        Choice::Best => options.software || report.kind != AdapterKind::Software,
        Choice::Index(index) => report.index == *index,
        Choice::Name(name) => {
            let own = report.name.to_lowercase();
            own.contains(&name.to_lowercase())
        }
    };
    match found.into_iter().find(|(report, _)| wanted(report)) {
        Some(chosen) => Ok(chosen),
        None if options.choice == Choice::Best => Err(GpuError::OnlySoftware { names }),
        None => Err(GpuError::UnknownAdapter {
            asked: options.choice.to_string(),
            found: names,
        }),
    }
}

/// Opens an adapter with what kernels need, and as much as it has of what some of them use.
fn request(
    adapter: &wgpu::Adapter,
    report: &AdapterReport,
    limits: &wgpu::Limits,
    kernels: KernelChoice,
) -> Result<(wgpu::Device, wgpu::Queue)> {
    let needed = wgpu::Features::IMMEDIATES;
    let useful = needed | adapter.features() & OPTIONAL;
    let units = matrix_units::offered(adapter).is_some()
        && match kernels {
            KernelChoice::Only(arithmetic) => arithmetic == Arithmetic::Matrix,
            KernelChoice::Best | KernelChoice::Tried => true,
        };
    let all = useful | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    // A driver may refuse what it says it has.
    let mut wanted = vec![useful, needed];
    if units {
        wanted.insert(0, all);
    }
    let mut refused = String::new();
    for features in wanted {
        let experimental = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        let opened = adapter.request_device(&wgpu::DeviceDescriptor {
            label: None,
            required_features: features,
            required_limits: limits.clone(),
            // Arenas are few and large; blocks set aside for more would not be in our ledger.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            experimental_features: match experimental {
                true => matrix_units::allowed(),
                false => wgpu::ExperimentalFeatures::disabled(),
            },
            ..Default::default()
        });
        match pollster::block_on(opened) {
            Ok(opened) => return Ok(opened),
            Err(e) => refused = e.to_string(),
        }
    }
    Err(GpuError::Open {
        adapter: report.name.clone(),
        reason: refused,
    })
}

/// What the kernels are written for: WebGPU's guaranteed limits, with buffers as large as they come.
fn needed_limits(report: &AdapterReport, offered: wgpu::Limits) -> Result<wgpu::Limits> {
    let guaranteed = wgpu::Limits::defaults();
    let needed = wgpu::Limits {
        max_storage_buffers_per_shader_stage: guaranteed.max_storage_buffers_per_shader_stage,
        max_compute_workgroup_storage_size: guaranteed.max_compute_workgroup_storage_size,
        max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size.min(BINDING_BYTES),
        max_buffer_size: offered.max_buffer_size,
        min_storage_buffer_offset_alignment: offered.min_storage_buffer_offset_alignment,
        max_immediate_size: IMMEDIATE_BYTES,
        ..wgpu::Limits::downlevel_defaults()
    };
    let mut lacking = None;
    needed.check_limits_with_fail_fn(&offered, true, |what, needed, offered| {
        lacking = Some(GpuError::Limit {
            adapter: report.name.clone(),
            what,
            needed,
            offered,
        });
    });
    lacking.map_or(Ok(needed), Err)
}
