//! Rows of a low-rank term's second matrix, eight at a time: see [`crate::low_rank`].

use core::arch::x86_64::*;

use super::floats;
use super::prefetch::AHEAD;
use super::registers::{load, store, sum_each};
use crate::QuantType;
use crate::low_rank::LowRank;

/// Adds the products of rows of `$size` elements, whose eights `$widen` makes floats.
macro_rules! rows {
    ($name:ident, $element:ty, $size:literal, $widen:path) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name(y: &mut [f32], ax: &[f32], b: &[$element]) {
            let ax = ax.as_chunks::<8>().0;
            let rows = b.as_chunks::<$size>().0;
            let mut eights = y.chunks_mut(8).zip(rows.chunks(8 * ax.len()));
            for (y, rows) in &mut eights {
                let mut sums = [_mm256_setzero_ps(); 8];
                for line in rows.as_flattened().chunks(64 / size_of::<$element>()) {
                    let ahead = AHEAD / size_of::<$element>();
                    _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(ahead).cast());
                }
                for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(ax.len())) {
                    for (ax, eight) in ax.iter().zip(row) {
                        *sum = _mm256_fmadd_ps($widen(eight), load(ax), *sum);
                    }
                }
                let sum = sum_each(sums);
                if let Some(y) = y.first_chunk_mut::<8>() {
                    store(y, _mm256_add_ps(load(y), sum));
                } else {
                    let mut all = [0.0; 8];
                    store(&mut all, sum);
                    y.iter_mut().zip(all).for_each(|(y, sum)| *y += sum);
                }
            }
        }
    };
}

rows!(own, f32, 8, load);
rows!(stored_f32, u8, 32, floats::f32::widen);
rows!(stored_f16, u8, 16, floats::f16::widen);
rows!(stored_bf16, u8, 16, floats::bf16::widen);

/// See [`crate::Kernels::low_rank_up`]; the rank is a multiple of eight.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn up(y: &mut [f32], ax: &[f32], b: LowRank<'_>) {
    match b {
        LowRank::Floats(values) => own(y, ax, values),
        LowRank::Stored { quant_type, bytes } => match quant_type {
            QuantType::F32 => stored_f32(y, ax, bytes),
            QuantType::F16 => stored_f16(y, ax, bytes),
            QuantType::BF16 => stored_bf16(y, ax, bytes),
            _ => crate::low_rank::up(y, ax, b),
        },
    }
}
