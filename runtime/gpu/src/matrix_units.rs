//! Whether a device has the matrix units that kernels can use, and leave to use them.
//!
//! wgpu calls them experimental, and asks for `unsafe`.
#![allow(unsafe_code)]

use std::ops::RangeInclusive;

use crate::Arithmetic;

/// Rows and columns of the matrices that units multiply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Eight = 8,
    Sixteen = 16,
}

/// Matrix units that multiply f16 into f32.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Units {
    pub(crate) side: Side,
    /// How many threads a subgroup may have. They use the units together.
    pub(crate) lanes: RangeInclusive<u32>,
}

/// What a device has of those that kernels are for.
pub(crate) fn offered(adapter: &wgpu::Adapter) -> Option<Units> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let info = adapter.get_info();
    let lanes = match info.backend {
        // wgpu tells what any device of Metal may have; those with matrix units have 32.
        wgpu::Backend::Metal => 32..=32,
        _ => info.subgroup_min_size..=info.subgroup_max_size,
    };
    let needed = Arithmetic::Matrix.needs();
    if !adapter.features().contains(needed) || *lanes.start() < 8 || *lanes.end() > 128 {
        return None;
    }
    let sizes = adapter.cooperative_matrix_properties();
    let has = |side: &Side| {
        sizes.iter().any(|p| {
            let fits = [p.m_size, p.n_size, p.k_size] == [*side as u32; 3];
            fits && p.ab_type == F16 && p.cr_type == F32 && !p.saturating_accumulation
        })
    };
    let side = [Side::Sixteen, Side::Eight].into_iter().find(has)?;
    Some(Units { side, lanes })
}

/// Leave to use them, with what else wgpu calls so.
pub(crate) fn allowed() -> wgpu::ExperimentalFeatures {
    // SAFETY: that wgpu's or a driver's part of it may be wrong is known; one kernel uses it, whose text is
    // validated as every other's, and on a device where it does not compute what f32 computes, or that is lost
    // over it, it is not used again.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}
