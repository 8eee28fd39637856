//! What a graphics device can refuse, as one enum: what, where, what to do.

use crate::Part;

/// What any public function of this crate can fail with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum GpuError {
    #[error("no graphics device was found; install a driver for Vulkan, or run without one")]
    NoAdapter,
    #[error(
        "the only graphics devices are software ({}), which the processor's own kernels outrun; ask for one by name to use it anyway",
        .names.join(", ")
    )]
    OnlySoftware { names: Vec<String> },
    #[error("there is no graphics device {asked}; there are: {}", .found.join(", "))]
    UnknownAdapter { asked: String, found: Vec<String> },
    #[error(
        "{adapter}: {what} is limited to {offered}, and {needed} are needed; use another device"
    )]
    Limit {
        adapter: String,
        what: &'static str,
        needed: u64,
        offered: u64,
    },
    #[error(
        "{adapter} lacks {what}, which the kernels need; update its driver or use another device"
    )]
    Lacks { adapter: String, what: &'static str },
    #[error(
        "GRAFT_GPU_KERNELS is {asked:?}; it may be {}",
        crate::KernelChoice::names()
    )]
    UnknownKernels { asked: String },
    #[error("{adapter} could not be opened: {reason}")]
    Open { adapter: String, reason: String },
    #[error(
        "kernel {kernel}: the driver of {adapter} refused it: {reason}; update the driver and report this"
    )]
    Shader {
        kernel: String,
        adapter: String,
        reason: String,
    },
    #[error(
        "{adapter} computes wrong products, as a trial with known results shows; update its driver or use another device"
    )]
    Miscomputes { adapter: String },
    #[error("{adapter} was lost: {reason}; open it again, what was in its memory is gone")]
    Lost { adapter: String, reason: String },
    #[error(
        "{adapter} has no {asked} bytes of memory left for {}; lower the budget or close other programs",
        part.name()
    )]
    OutOfMemory {
        adapter: String,
        part: Part,
        asked: u64,
    },
    #[error(
        "{}: {asked} bytes do not fit the device's budget, {held} of {limit} are in use; raise the budget or ask for less",
        part.name()
    )]
    Budget {
        part: Part,
        asked: u64,
        held: u64,
        limit: u64,
    },
    #[error(
        "{}: {asked} bytes do not fit the arena, {held} of {size} are in use and {free} in one run are free; plan it larger",
        part.name()
    )]
    Arena {
        part: Part,
        asked: u64,
        held: u64,
        size: u64,
        free: u64,
    },
    #[error("{op}: {what}")]
    Shape { op: &'static str, what: String },
    #[error("{op}: all staging memory is in use; submit or read what was recorded before")]
    StagingBusy { op: &'static str },
    #[error("{adapter}: {reason}; this is a mistake in graft, please report it")]
    Internal { adapter: String, reason: String },
}

/// `Result` with [`GpuError`].
pub type Result<T, E = GpuError> = std::result::Result<T, E>;
