//! The loops over blocks, rows and tokens, the same for every block type.
//!
//! A type's file gives `scales(block)` and `levels(block, run)`: the integers of one run of
//! weights as signed bytes, in 32s. `kernels!` builds the two table entries from them.
//!
//! decode: `w = scale * level - min`, rounded twice as the reference does.
//! product, one token: on integers, see [`super::fixed_point`].
//! product, more tokens: weights are finished in registers and used by every token.
//!
//! Here and in the types' files, hot code hands no closure to `map`, `from_fn` or `fold`:
//! those are compiled without the instruction set, and a closure that needs it cannot be
//! inlined into them.

/// What scales the levels of a block: `SUBS` sub-blocks, each with its own.
pub(super) struct Scales<const SUBS: usize> {
    pub scale: [f32; SUBS],
    /// Subtracted after scaling; all zero in types without minimums.
    pub min: [f32; SUBS],
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
                1 if inputs <= 32 * 128 => one_token::<128>(y, x, w),
                1 if inputs <= 32 * 1024 => one_token::<1024>(y, x, w),
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

        /// Up to `GROUPS` groups of inputs.
        #[target_feature(enable = "avx2,fma,f16c")]
        fn one_token<const GROUPS: usize>(y: &mut [f32], x: &[f32], w: &[u8]) {
            use $crate::avx2::fixed_point::{FixedPoint, GROUP, dot};
            use $crate::avx2::registers::{one_or_two, sum};
            const SUBS: usize = LEN / $sub;
            let x = FixedPoint::<GROUPS>::new(x, if $min { $sub } else { 0 });
            let integers = x.integers.as_chunks::<{ LEN / GROUP }>().0;
            let units = x.units.as_chunks::<{ LEN / GROUP }>().0;
            let sums = x.sums.as_flattened().as_chunks::<SUBS>().0;
            let width = x.groups / (LEN / GROUP);
            for (y, row) in y
                .iter_mut()
                .zip(w.as_chunks::<BYTES>().0.chunks_exact(width))
            {
                let mut totals = [_mm256_setzero_ps(); 2];
                let mut mins = [0.0; SUBS];
                let blocks = row.iter().zip(integers).zip(units).zip(sums);
                for (((block, integers), units), sums) in blocks {
                    let mut scales = scales(block);
                    for (j, scale) in scales.scale.iter_mut().enumerate() {
                        *scale *= units[j * $sub / GROUP];
                    }
                    for run in 0..LEN / $run {
                        for (k, levels) in levels(block, run).into_iter().enumerate() {
                            let g = run * ($run / GROUP) + k;
                            let own = &scales.scale[g * GROUP / $sub..(g + 1) * GROUP / $sub];
                            let scale = one_or_two(own);
                            let part = dot(levels, &integers[g]);
                            totals = [totals[1], _mm256_fmadd_ps(scale, part, totals[0])];
                        }
                    }
                    if $min {
                        for ((total, min), sum) in mins.iter_mut().zip(&scales.min).zip(sums) {
                            *total = min.mul_add(*sum, *total);
                        }
                    }
                }
                let total = sum(_mm256_add_ps(totals[0], totals[1]));
                *y = total - mins.iter().sum::<f32>() + x.poison;
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
            let mut weights = [[_mm256_setzero_ps(); 4]; $run / 32];
            for (weights, levels) in weights.iter_mut().zip(levels(block, run)) {
                *weights = $crate::avx2::registers::spread(levels);
            }
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
