//! Whether a device has the matrix units that kernels can use, and leave to use them.
//!
//! wgpu calls them experimental, and asks for `unsafe`.
#![allow(unsafe_code)]

/// Whether a device multiplies 16 x 16 matrices of f16 into f32. There are other sizes; no kernel is for them.
pub(crate) fn offered(adapter: &wgpu::Adapter) -> bool {
    use wgpu::CooperativeScalarType::{F16, F32};
    let sizes = adapter.cooperative_matrix_properties();
    sizes.iter().any(|p| {
        let fits = [p.m_size, p.n_size, p.k_size] == [16; 3];
        fits && p.ab_type == F16 && p.cr_type == F32 && !p.saturating_accumulation
    })
}

/// Leave to use them, with what else wgpu calls so.
pub(crate) fn allowed() -> wgpu::ExperimentalFeatures {
    // SAFETY: that wgpu's or a driver's part of it may be wrong is known; one kernel uses it, whose text is
    // validated as every other's, and on a device where it does not compute what f32 computes, or that is lost
    // over it, it is not used again.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}
