//! The graphics devices of this machine, listed without opening one.

use crate::{heaps, matrix_units};

/// What kind of device an adapter is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// Shares the main memory with the processor.
    Integrated,
    /// A share of a device in another machine or beside a virtual one.
    Virtual,
    /// The processor itself, pretending.
    Software,
    /// The driver does not say.
    Other,
}

impl AdapterKind {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Other => "other",
        }
    }

    /// Which is taken first where nobody asked for one; less is better.
    fn rank(self) -> u8 {
        match self {
            Self::Discrete => 0,
            Self::Integrated => 1,
            Self::Virtual => 2,
            Self::Other => 3,
            Self::Software => 4,
        }
    }
}

/// A run of memory that a driver tells of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heap {
    /// Bytes, in use or not.
    pub bytes: u64,
    /// Whether it is the device's own memory rather than the processor's.
    pub on_device: bool,
}

/// Limits that decide what fits a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AdapterLimits {
    /// Bytes that a kernel can see of one array.
    pub binding_bytes: u64,
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// What offsets of arrays must be multiples of, in bytes.
    pub alignment: u64,
    /// Bytes that the threads of a group share.
    pub workgroup_bytes: u64,
    /// Threads of a group.
    pub workgroup_threads: u64,
    /// Arrays that a kernel can see.
    pub arrays: u64,
}

/// Things that some devices have. No operator needs one of them; some have faster kernels there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AdapterFeatures {
    /// Arithmetic in 16-bit floats.
    pub f16: bool,
    /// Sums over neighbouring threads.
    pub subgroups: bool,
    /// Matrix units that a kernel is for, and what else that kernel needs.
    pub cooperative_matrices: bool,
    /// Clocks that commands can read.
    pub timestamps: bool,
}

/// A graphics device that could be opened.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterReport {
    /// Its place in [`adapters`], which [`crate::Choice::Index`] takes.
    pub index: usize,
    /// Its name, as the driver gives it.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// How it is spoken to: "vulkan", "metal" or "dx12".
    pub interface: &'static str,
    /// Name and version of the driver.
    pub driver: String,
    /// Its memory; empty where the driver does not tell.
    pub heaps: Vec<Heap>,
    /// What fits it.
    pub limits: AdapterLimits,
    /// What else it can.
    pub features: AdapterFeatures,
}

impl AdapterReport {
    /// Bytes of its own memory, or of what it shares with the processor; `None` where the driver
    /// does not tell.
    pub fn memory(&self) -> Option<u64> {
        let own = self.heaps.iter().filter(|heap| heap.on_device);
        own.map(|heap| heap.bytes).max()
    }
}

/// The graphics devices of this machine, the best first.
pub fn adapters() -> Vec<AdapterReport> {
    let (_, found) = enumerate();
    found.into_iter().map(|(report, _)| report).collect()
}

/// As [`adapters`], with the handles. Handles live as long as what they came from.
pub(crate) fn enumerate() -> (wgpu::Instance, Vec<(AdapterReport, wgpu::Adapter)>) {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        // Names and layers for debugging are asked for with WGPU_DEBUG and WGPU_VALIDATION.
        flags: wgpu::InstanceFlags::empty().with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let mut found: Vec<_> = found.into_iter().map(|a| (report(&a), a)).collect();
    // Stable: equals stay in the driver's order. A device seen through two interfaces keeps both.
    found.sort_by_key(|(report, _)| report.kind.rank());
    for (index, (report, _)) in found.iter_mut().enumerate() {
        report.index = index;
    }
    (instance, found)
}

fn report(adapter: &wgpu::Adapter) -> AdapterReport {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    AdapterReport {
        index: 0,
        name: info.name,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        },
        interface: info.backend.to_str(),
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        heaps: heaps::of(adapter),
        limits: AdapterLimits {
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            alignment: u64::from(limits.min_storage_buffer_offset_alignment),
            workgroup_bytes: u64::from(limits.max_compute_workgroup_storage_size),
            workgroup_threads: u64::from(limits.max_compute_invocations_per_workgroup),
            arrays: u64::from(limits.max_storage_buffers_per_shader_stage),
        },
        features: AdapterFeatures {
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            cooperative_matrices: matrix_units::offered(adapter).is_some(),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        },
    }
}
