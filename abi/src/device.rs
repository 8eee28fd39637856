//! Devices: what models can run on. So far that is the processor.

use graft_kernels::Kernels;

use crate::call::{self, DONE};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::pointer::{Out, OutStruct};
use crate::runtime::Runtime;
use crate::status::{GRAFT_E_NOT_FOUND, graft_status};
use crate::structs::{CStruct, c_struct, fixed};

/// A device that is the processor.
pub const GRAFT_DEVICE_CPU: u32 = 0;

c_struct! {
    /// What a device is.
    graft_device_info {
        /// [`GRAFT_DEVICE_CPU`].
        kind: u32,
        /// How options name it: "cpu".
        name: [u8; 32],
        /// Its maker's name for it.
        description: [u8; 128],
        /// The kernels it runs: "avx2".
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
        out.set(1);
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
        if index > 0 {
            let message = format!("there is no device {index}; the processor is device 0");
            return Err(Fault::new(GRAFT_E_NOT_FOUND, message));
        }
        let memory = graft::memory::memory();
        out.set(&graft_device_info {
            kind: GRAFT_DEVICE_CPU,
            name: fixed("cpu"),
            description: fixed(&graft::memory::processor().unwrap_or_default()),
            kernels: fixed(Kernels::detect().name),
            memory_total: memory.map_or(0, |memory| memory.total),
            memory_free: memory.map_or(0, |memory| memory.available),
            n_threads: u32::try_from(runtime.pool().threads()).unwrap_or(u32::MAX),
            ..graft_device_info::zeroed()
        })?;
        DONE
    })
}
