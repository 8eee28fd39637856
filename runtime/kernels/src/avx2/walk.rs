//! The loops over blocks, rows and tokens, the same for every block type.
//!
//! A type's file gives `scales(block)` and `levels(block, run)`: the integers of one run of
//! weights as floats, in 32s. `kernels!` builds the two table entries from them.
//!
//! decode: `w = scale * level - min`, rounded twice as the reference does.
//! product, one token: scales are factored out, `sum_j scale_j (sum level x) - min_j (sum x)`,
//! where the sums of `x` per sub-block are taken once for all rows.
//! product, more tokens: weights are finished in registers and used by every token.
//!
//! Here and in the types' files, hot code hands no closure to `map`, `from_fn` or `fold`:
//! those are compiled without the instruction set, and a closure that needs it cannot be
//! inlined into them.

use core::arch::x86_64::*;

use super::registers::{load, sum};

/// What scales the levels of a block: `SUBS` sub-blocks, each with its own.
pub(super) struct Scales<const SUBS: usize> {
    pub scale: [f32; SUBS],
    /// Subtracted after scaling; all zero in types without minimums.
    pub min: [f32; SUBS],
}

/// Most sub-blocks in a row whose sums of `x` are kept on the stack.
pub(crate) const MOST_SUMS: usize = 2048;

/// Sums of each `sub` consecutive activations.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn sums_of_runs(x: &[f32], sub: usize, sums: &mut [f32]) {
    for (run, out) in x.chunks_exact(sub).zip(sums) {
        let mut total = _mm256_setzero_ps();
        for eight in run.as_chunks().0 {
            total = _mm256_add_ps(total, load(eight));
        }
        *out = sum(total);
    }
}

/// `decode` and `product_thin` of a type whose file has `LEN`, `BYTES`, `scales`, `levels`:
/// `run` weights are decoded at a time, `sub` share a scale, `min` says whether minimums exist.
macro_rules! kernels {
    (run: $run:literal, sub: $sub:literal, min: $min:literal) => {
        /// Decodes whole blocks; see [`crate::Kernels::decode`].
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(crate) fn decode(bytes: &[u8], out: &mut [f32]) {
            let (blocks, outs) = (bytes.as_chunks::<BYTES>().0, out.as_chunks_mut::<LEN>().0);
            for (block, out) in blocks.iter().zip(outs) {
                let scales = scales(block);
                for (run, out) in out.as_chunks_mut::<$run>().0.iter_mut().enumerate() {
                    let weights = weights(block, &scales, run);
                    let outs = out.as_chunks_mut::<8>().0.iter_mut();
                    for (out, w) in outs.zip(weights.as_flattened()) {
                        $crate::avx2::registers::store(out, *w);
                    }
                }
            }
        }

        /// See [`crate::Kernels::product_thin`].
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(crate) fn product_thin(
            y: &mut [f32],
            y_stride: usize,
            x: &[f32],
            inputs: usize,
            w: &[u8],
        ) {
            match x.len() / inputs {
                1 if inputs / $sub <= $crate::avx2::walk::MOST_SUMS => one_token(y, x, w),
                1 => tokens::<1>(y, y_stride, x, w),
                2 => tokens::<2>(y, y_stride, x, w),
                3 => tokens::<3>(y, y_stride, x, w),
                4 => tokens::<4>(y, y_stride, x, w),
                5 => tokens::<5>(y, y_stride, x, w),
                6 => tokens::<6>(y, y_stride, x, w),
                7 => tokens::<7>(y, y_stride, x, w),
                _ => tokens::<8>(y, y_stride, x, w),
            }
        }

        #[target_feature(enable = "avx2,fma,f16c")]
        fn one_token(y: &mut [f32], x: &[f32], w: &[u8]) {
            use $crate::avx2::{registers, walk};
            let mut sums = [0.0; walk::MOST_SUMS];
            if $min {
                walk::sums_of_runs(x, $sub, &mut sums);
            }
            let x = x.as_chunks::<LEN>().0;
            let sums = sums.as_chunks::<{ LEN / $sub }>().0;
            for (y, row) in y.iter_mut().zip(w.chunks_exact(BYTES * x.len())) {
                let mut total = _mm256_setzero_ps();
                let mut mins = 0.0;
                for ((block, x), sums) in row.as_chunks::<BYTES>().0.iter().zip(x).zip(sums) {
                    let scales = scales(block);
                    for (run, x) in x.as_chunks::<$run>().0.iter().enumerate() {
                        let levels = levels(block, run);
                        let levels = levels.as_flattened();
                        let x = x.as_chunks::<8>().0;
                        for j in 0..$run / $sub {
                            let lanes = $sub / 8;
                            let mut part =
                                _mm256_mul_ps(levels[j * lanes], registers::load(&x[j * lanes]));
                            for k in j * lanes + 1..(j + 1) * lanes {
                                part = _mm256_fmadd_ps(levels[k], registers::load(&x[k]), part);
                            }
                            let scale = _mm256_set1_ps(scales.scale[run * ($run / $sub) + j]);
                            total = _mm256_fmadd_ps(scale, part, total);
                        }
                    }
                    if $min {
                        for (min, sum) in scales.min.iter().zip(sums) {
                            mins += min * sum;
                        }
                    }
                }
                *y = registers::sum(total) - mins;
            }
        }

        #[target_feature(enable = "avx2,fma,f16c")]
        fn tokens<const T: usize>(y: &mut [f32], y_stride: usize, x: &[f32], w: &[u8]) {
            use $crate::avx2::registers;
            let width = x.len() / T / LEN;
            let x: [&[[f32; LEN]]; T] =
                std::array::from_fn(|t| &x.as_chunks().0[t * width..][..width]);
            // Enough independent sums to hide the latency of an addition.
            let chains = const {
                if T < 3 {
                    4
                } else if T < 5 {
                    2
                } else {
                    1
                }
            };
            for (r, row) in w.chunks_exact(BYTES * width).enumerate() {
                let mut sums = [[_mm256_setzero_ps(); 4]; T];
                for (b, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
                    let scales = scales(block);
                    for run in 0..LEN / $run {
                        let weights = weights(block, &scales, run);
                        for t in 0..T {
                            let x = x[t][b].as_chunks::<$run>().0[run].as_chunks::<8>().0;
                            for (k, (w, x)) in weights.as_flattened().iter().zip(x).enumerate() {
                                let sum = &mut sums[t][k % chains];
                                *sum = _mm256_fmadd_ps(*w, registers::load(x), *sum);
                            }
                        }
                    }
                }
                for (t, sums) in sums.into_iter().enumerate() {
                    let [a, b, c, d] = sums;
                    let sum = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
                    y[t * y_stride + r] = registers::sum(sum);
                }
            }
        }

        /// The weights of one run, rounded as the reference rounds them.
        #[target_feature(enable = "avx2,fma,f16c")]
        fn weights(
            block: &[u8; BYTES],
            scales: &$crate::avx2::walk::Scales<{ LEN / $sub }>,
            run: usize,
        ) -> [[__m256; 4]; $run / 32] {
            let mut weights = levels(block, run);
            for (k, w) in weights.as_flattened_mut().iter_mut().enumerate() {
                let j = run * ($run / $sub) + k / ($sub / 8);
                *w = _mm256_mul_ps(*w, _mm256_set1_ps(scales.scale[j]));
                if $min {
                    *w = _mm256_sub_ps(*w, _mm256_set1_ps(scales.min[j]));
                }
            }
            weights
        }
    };
}
pub(super) use kernels;
