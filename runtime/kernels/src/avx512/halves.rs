//! Products of pairs of BF16 with AVX-512 BF16: strips of four vectors of 16 cells.

use core::arch::x86_64::*;

use super::panel::kernel;
use super::registers::{as_halves, load, round_to_halves, store, widen_halves};

/// A cell of `a`, spread, times those of `b`, added to the sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
    _mm512_dpbf16_ps(sum, as_halves(a), as_halves(b))
}

kernel!("avx512f,avx512bf16", multiply_add);

/// See [`crate::halves`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) fn split(out: &mut [f32], rest: &mut [f32], x: &[f32]) {
    let (pairs, x_last) = x.as_chunks::<32>();
    let (outs, out_last) = out.as_chunks_mut::<16>();
    let (rests, rest_last) = rest.as_chunks_mut::<16>();
    for ((out, rest), x) in outs.iter_mut().zip(rests).zip(pairs) {
        let (first, second) = x.split_at(16);
        let [first, second] =
            [first, second].map(|part| load(part.first_chunk().expect("sixteen")));
        let cells = round_to_halves(first, second);
        let [near_first, near_second] = widen_halves(cells);
        let [first, second] = [
            _mm512_sub_ps(first, near_first),
            _mm512_sub_ps(second, near_second),
        ];
        store(out, cells);
        store(rest, round_to_halves(first, second));
    }
    crate::halves::split(out_last, rest_last, x_last);
}
