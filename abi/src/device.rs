//! Devices: what models can run on.

use graft_kernels::Kernels;

use crate::call::{self, DONE};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::pointer::{Out, OutStruct};
use crate::runtime::Runtime;
use crate::status::{GRAFT_E_NOT_FOUND, graft_status};
use crate::structs::{CStruct, c_struct, fixed, number};

/// A device that is the processor.
pub const GRAFT_DEVICE_CPU: u32 = 0;
/// A device for graphics.
#[cfg_attr(not(feature = "gpu"), expect(dead_code))] // such a build lists none
pub const GRAFT_DEVICE_GPU: u32 = 1;

c_struct! {
    /// What a device is.
    graft_device_info {
        /// [`GRAFT_DEVICE_CPU`] or [`GRAFT_DEVICE_GPU`].
        kind: u32,
        /// How options name it: "cpu", "gpu:0".
        name: [u8; 32],
        /// Its maker's name for it.
        description: [u8; 128],
        /// The kernels it runs: "avx2"; of a graphics device the interface: "vulkan".
        kernels: [u8; 32],
        /// Bytes of its memory; 0 where the system does not say.
        memory_total: u64,
        /// Bytes that programs could still have; 0 where the system does not say.
        memory_free: u64,
        /// Threads that run at once.
        n_threads: u32,
        /// Zero.
        reserved_0: u32,
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_device_count(runtime: Handle<Runtime>, out: Out<u32>) -> graft_status {
    call::status("graft_device_count", || {
        Runtime::of(runtime)?;
        out.check("out")?;
        out.set(number(1 + cards().len()));
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_device_get(
    runtime: Handle<Runtime>,
    index: u32,
    out: OutStruct<graft_device_info>,
) -> graft_status {
    call::status("graft_device_get", || {
        let runtime = Runtime::of(runtime)?;
        out.check("out")?;
        if let Some(card) = index.checked_sub(1) {
            let card = cards().get(card as usize).ok_or_else(|| {
                let last = cards().len();
                let message =
                    format!("there is no device {index}; the last is {last}, the processor is 0");
                Fault::new(GRAFT_E_NOT_FOUND, message)
            })?;
            out.set(card)?;
            return DONE;
        }
        let memory = graft::memory::memory();
        out.set(&graft_device_info {
            kind: GRAFT_DEVICE_CPU,
            name: fixed("cpu"),
            description: fixed(&graft::memory::processor().unwrap_or_default()),
            kernels: fixed(Kernels::detect().name),
            memory_total: memory.map_or(0, |memory| memory.total),
            memory_free: memory.map_or(0, |memory| memory.available),
            n_threads: number(runtime.pool().threads()),
            ..graft_device_info::zeroed()
        })?;
        DONE
    })
}

/// The graphics devices of this machine, looked for once.
#[cfg(feature = "gpu")]
fn cards() -> &'static [graft_device_info] {
    static CARDS: std::sync::OnceLock<Vec<graft_device_info>> = std::sync::OnceLock::new();
    CARDS.get_or_init(|| {
        let card = |card: graft::gpu::AdapterReport| graft_device_info {
            kind: GRAFT_DEVICE_GPU,
            name: fixed(&format!("gpu:{}", card.index)),
            description: fixed(&card.name),
            kernels: fixed(card.interface),
            memory_total: card.memory().unwrap_or(0),
            ..graft_device_info::zeroed()
        };
        graft::gpu::adapters().into_iter().map(card).collect()
    })
}

/// This build has no part for graphics devices.
#[cfg(not(feature = "gpu"))]
fn cards() -> &'static [graft_device_info] {
    &[]
}
