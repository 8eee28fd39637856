//! The loops over blocks, rows and tokens, the same for every block type.
//!
//! A type's file gives `scales(block)`, what the block's runs share, and
//! `weights(block, scales, run)`: one run of finished weights in 32s, rounded as
//! the reference rounds them. `kernels!` builds the two table entries from them. Lookup tables make a
//! finished weight as cheap as a raw level, so unlike on AVX2 nothing is factored out, except where a
//! table would serve 32 weights only.
//!
//! Here and in the types' files, hot code hands no closure to `map`, `from_fn` or `fold`:
//! those are compiled without the instruction set, and a closure that needs it cannot be
//! inlined into them (four times slower, measured).

use core::arch::x86_64::*;

use super::registers::load;

/// Most sums of 32 activations that [`sums`] makes.
pub(super) const MOST_SUMS: usize = 2048;

/// Sums of each 32 consecutive activations, of at most `32 * MOST_SUMS`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn sums(x: &[f32]) -> [f32; MOST_SUMS] {
    let mut sums = [0.0; MOST_SUMS];
    for (x, sum) in x.as_chunks::<32>().0.iter().zip(&mut sums) {
        let [a, b] = x.as_chunks::<16>().0 else {
            unreachable!("twice 16 activations")
        };
        *sum = _mm512_reduce_add_ps(_mm512_add_ps(load(a), load(b)));
    }
    sums
}

/// `decode` and `product_thin` of a type whose file has `LEN`, `BYTES`, `scales`, `weights`;
/// `run` weights are decoded at a time.
macro_rules! kernels {
    (run: $run:literal) => {
        $crate::avx512::walk::kernels!(run: $run, one_token: |y, x, w| tokens::<1>(y, 0, x, w));
    };
    (run: $run:literal, one_token: |$y:ident, $x:ident, $w:ident| $one_token:expr) => {
        /// Decodes whole blocks; see [`crate::Kernels::decode`].
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        pub(crate) fn decode(bytes: &[u8], out: &mut [f32]) {
            let (blocks, outs) = (bytes.as_chunks::<BYTES>().0, out.as_chunks_mut::<LEN>().0);
            let Some(first) = blocks.first() else { return };
            let mut kept = [scales(first), scales(first)];
            for (i, (block, out)) in blocks.iter().zip(outs).enumerate() {
                kept[(i + 1) % 2] = scales(blocks.get(i + 1).unwrap_or(block));
                let scales = &kept[i % 2];
                for (run, out) in out.as_chunks_mut::<$run>().0.iter_mut().enumerate() {
                    let weights = weights(block, scales, run);
                    let outs = out.as_chunks_mut::<16>().0.iter_mut();
                    for (out, w) in outs.zip(weights.as_flattened()) {
                        $crate::avx512::registers::store(out, *w);
                    }
                }
            }
        }

        /// See [`crate::Kernels::product_thin`].
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        pub(crate) fn product_thin(
            y: &mut [f32],
            y_stride: usize,
            x: &[f32],
            inputs: usize,
            w: &[u8],
        ) {
            match x.len() / inputs {
                1 => {
                    let ($y, $x, $w) = (y, x, w);
                    $one_token
                }
                2 => tokens::<2>(y, y_stride, x, w),
                3 => tokens::<3>(y, y_stride, x, w),
                4 => tokens::<4>(y, y_stride, x, w),
                5 => tokens::<5>(y, y_stride, x, w),
                6 => tokens::<6>(y, y_stride, x, w),
                7 => tokens::<7>(y, y_stride, x, w),
                _ => tokens::<8>(y, y_stride, x, w),
            }
        }

        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn tokens<const T: usize>(y: &mut [f32], y_stride: usize, x: &[f32], w: &[u8]) {
            use $crate::avx512::registers::load;
            let width = x.len() / T / LEN;
            let x: [&[[f32; LEN]]; T] =
                std::array::from_fn(|t| &x.as_chunks().0[t * width..][..width]);
            // Enough independent sums to hide the latency of an addition.
            let chains = const { if T < 3 { 4 } else { 2 } };
            let blocks = w.as_chunks::<BYTES>().0;
            let Some(first) = blocks.first() else { return };
            let mut kept = [scales(first), scales(first)];
            for (r, row) in blocks.chunks_exact(width).enumerate() {
                let mut sums = [[_mm512_setzero_ps(); 4]; T];
                for (b, block) in row.iter().enumerate() {
                    let i = r * width + b;
                    kept[(i + 1) % 2] = scales(blocks.get(i + 1).unwrap_or(block));
                    let scales = &kept[i % 2];
                    for run in 0..LEN / $run {
                        let weights = weights(block, scales, run);
                        for (sums, x) in sums.iter_mut().zip(&x) {
                            let x = x[b].as_chunks::<$run>().0[run].as_chunks::<16>().0;
                            for (k, (w, x)) in weights.as_flattened().iter().zip(x).enumerate() {
                                let sum = &mut sums[k % chains];
                                *sum = _mm512_fmadd_ps(*w, load(x), *sum);
                            }
                        }
                    }
                }
                for (t, [a, b, c, d]) in sums.into_iter().enumerate() {
                    let sum = _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d));
                    y[t * y_stride + r] = _mm512_reduce_add_ps(sum);
                }
            }
        }
    };
}
pub(super) use kernels;

/// [`kernels!`] of a type that is cheaper to scale last. With one token, the scales and minimums of
/// 32 weights are multiplied with sums: `sum_j scale_j (sum level x) - min_j (sum x)`.
///
/// The file has, for 256 weights in `bytes` bytes, `scales`, eight of them and eight minimums, and
/// `levels`, a run of 64 weights that are not scaled.
macro_rules! kernels_scaling_last {
    (run: $run:literal, bytes: $bytes:expr, scales: $scales:ident, levels: $levels:ident) => {
        $crate::avx512::walk::kernels!(run: $run, one_token: |y, x, w| {
            if x.len().is_multiple_of(256) && x.len() / 32 <= $crate::avx512::walk::MOST_SUMS {
                one_token(y, x, w)
            } else {
                tokens::<1>(y, 0, x, w)
            }
        });

        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn one_token(y: &mut [f32], x: &[f32], w: &[u8]) {
            use $crate::avx512::registers::{load, load_8};
            use $crate::avx512::walk::sums;
            let sums = sums(x);
            let (x, sums) = (x.as_chunks::<256>().0, sums.as_chunks::<8>().0);
            let blocks = w.as_chunks::<{ $bytes }>().0;
            let Some(first) = blocks.first() else { return };
            let mut kept = [$scales(first), $scales(first)];
            for (r, (y, row)) in y.iter_mut().zip(blocks.chunks_exact(x.len())).enumerate() {
                let mut totals = [_mm512_setzero_ps(); 4];
                let mut mins = _mm256_setzero_ps();
                for (b, ((block, x), sums)) in row.iter().zip(x).zip(sums).enumerate() {
                    let i = r * row.len() + b;
                    kept[(i + 1) % 2] = $scales(blocks.get(i + 1).unwrap_or(block));
                    let (scales, minimums) = kept[i % 2].split_at(8);
                    for (run, x) in x.as_chunks::<64>().0.iter().enumerate() {
                        let x = x.as_chunks::<16>().0;
                        for (j, [a, b]) in $levels(block, run).into_iter().enumerate() {
                            let part = _mm512_mul_ps(a, load(&x[2 * j]));
                            let part = _mm512_fmadd_ps(b, load(&x[2 * j + 1]), part);
                            let scale = _mm512_set1_ps(scales[2 * run + j]);
                            let total = &mut totals[(2 * run + j) % 4];
                            *total = _mm512_fmadd_ps(scale, part, *total);
                        }
                    }
                    let minimums = minimums.first_chunk().expect("eight of them");
                    mins = _mm256_fmadd_ps(load_8(minimums), load_8(sums), mins);
                }
                let [a, b, c, d] = totals;
                let total = _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d));
                let mins = _mm512_zextps256_ps512(mins);
                *y = _mm512_reduce_add_ps(_mm512_sub_ps(total, mins));
            }
        }
    };
}
pub(super) use kernels_scaling_last;
