//! Products of pairs of BF16 with AVX-512 BF16: strips of four vectors of 16 cells.

use core::arch::x86_64::*;

use super::panel::kernel;
use super::registers::{as_halves, load, round_to_halves, store};

/// A cell of `a`, spread, times those of `b`, added to the sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
    _mm512_dpbf16_ps(sum, as_halves(a), as_halves(b))
}

kernel!("avx512f,avx512bf16", multiply_add);

/// See [`crate::halves`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) fn round(out: &mut [f32], x: &[f32]) {
    let (pairs, rest) = x.as_chunks::<32>();
    let (cells, last) = out.as_chunks_mut::<16>();
    for (out, x) in cells.iter_mut().zip(pairs) {
        let (low, high) = x.split_at(16);
        let [low, high] = [low, high].map(|half| load(half.first_chunk().expect("sixteen")));
        store(out, round_to_halves(low, high));
    }
    crate::halves::round(last, rest);
}
