//! The loops over blocks, rows and tokens, the same for every block type.
//!
//! A type's file gives `scales(block)` and `levels(block, run)`: the integers of one run of
//! weights as signed bytes, in 16s. `kernels!` builds the two table entries from them.
//!
//! decode: `w = scale * level - min`, rounded twice as the reference does.
//! product, one token: on integers, see [`super::fixed_point`].
//! product, more tokens: 16 weights are finished in registers and used by every token.

use core::arch::aarch64::*;

use super::registers::spread;

/// What scales the levels of a block: `SUBS` sub-blocks, each with its own.
pub(super) struct Scales<const SUBS: usize> {
    pub scale: [f32; SUBS],
    /// Subtracted after scaling; all zero in types without minimums.
    pub min: [f32; SUBS],
}

impl<const SUBS: usize> Scales<SUBS> {
    /// Sixteen weights of sub-block `j`, rounded as the reference rounds them; `MIN` says whether
    /// minimums exist.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn weights<const MIN: bool>(&self, levels: int8x16_t, j: usize) -> [float32x4_t; 4] {
        let mut weights = spread(levels);
        for w in &mut weights {
            *w = vmulq_n_f32(*w, self.scale[j]);
            if MIN {
                *w = vsubq_f32(*w, vdupq_n_f32(self.min[j]));
            }
        }
        weights
    }
}

/// `decode` and `product_thin` of a type whose file has `LEN`, `BYTES`, `scales`, `levels`:
/// `run` weights are taken apart at a time, `sub` share a scale, `min` says whether minimums exist.
macro_rules! kernels {
    (run: $run:literal, sub: $sub:literal, min: $min:literal) => {
        /// Decodes whole blocks; see [`crate::Kernels::decode`].
        #[target_feature(enable = "neon")]
        pub(crate) fn decode(bytes: &[u8], out: &mut [f32]) {
            let (blocks, outs) = (bytes.as_chunks::<BYTES>().0, out.as_chunks_mut::<LEN>().0);
            for (block, out) in blocks.iter().zip(outs) {
                let scales = scales(block);
                for (run, out) in out.as_chunks_mut::<$run>().0.iter_mut().enumerate() {
                    let outs = out.as_chunks_mut::<16>().0.iter_mut();
                    for (k, (levels, out)) in levels(block, run).into_iter().zip(outs).enumerate() {
                        let weights = scales.weights::<$min>(levels, (run * $run + 16 * k) / $sub);
                        $crate::neon::registers::store_all(out, weights);
                    }
                }
            }
        }

        /// See [`crate::Kernels::product_thin`].
        #[target_feature(enable = "neon")]
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
        #[target_feature(enable = "neon")]
        fn one_token<const GROUPS: usize>(y: &mut [f32], x: &[f32], w: &[u8]) {
            use core::arch::aarch64::*;
            use $crate::neon::fixed_point::{FixedPoint, GROUP, dot};
            const SUBS: usize = LEN / $sub;
            let x = FixedPoint::<GROUPS>::new(x, if $min { $sub } else { 0 });
            let integers = x.integers.as_flattened().as_chunks::<{ $sub / 16 }>().0;
            let integers = integers.as_chunks::<SUBS>().0;
            let units = x.units.as_chunks::<{ LEN / GROUP }>().0;
            let sums = x.sums.as_flattened().as_chunks::<SUBS>().0;
            let blocks = w.as_chunks::<BYTES>().0;
            for (y, row) in y
                .iter_mut()
                .zip(blocks.chunks_exact(x.groups / (LEN / GROUP)))
            {
                let mut totals = [vdupq_n_f32(0.0); 2];
                let mut mins = [0.0; SUBS];
                let blocks = row.iter().zip(integers).zip(units).zip(sums);
                for (((block, integers), units), sums) in blocks {
                    let mut scales = scales(block);
                    for (j, scale) in scales.scale.iter_mut().enumerate() {
                        *scale *= units[j * $sub / GROUP];
                    }
                    for run in 0..LEN / $run {
                        let levels = levels(block, run);
                        let subs = levels.as_chunks::<{ $sub / 16 }>().0;
                        for (j, levels) in (run * ($run / $sub)..).zip(subs) {
                            let part = dot(levels, &integers[j]);
                            totals = [totals[1], vfmaq_n_f32(totals[0], part, scales.scale[j])];
                        }
                    }
                    if $min {
                        for ((total, min), sum) in mins.iter_mut().zip(&scales.min).zip(sums) {
                            *total = min.mul_add(*sum, *total);
                        }
                    }
                }
                let total = vaddvq_f32(vaddq_f32(totals[0], totals[1]));
                *y = total - mins.iter().sum::<f32>() + x.poison;
            }
        }

        #[target_feature(enable = "neon")]
        fn tokens<const T: usize>(y: &mut [f32], y_stride: usize, x: &[f32], w: &[u8]) {
            use core::arch::aarch64::*;
            let width = x.len() / T / LEN;
            let x: [&[[f32; LEN]]; T] =
                std::array::from_fn(|t| &x.as_chunks().0[t * width..][..width]);
            // Enough independent sums to hide the latency of an addition, and few enough that
            // registers are left for the weights.
            let chains = const { if T < 5 { 4 } else { 2 } };
            for (r, row) in w.chunks_exact(BYTES * width).enumerate() {
                let mut sums = [[vdupq_n_f32(0.0); 4]; T];
                for (b, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
                    let scales = scales(block);
                    for run in 0..LEN / $run {
                        for (k, levels) in levels(block, run).into_iter().enumerate() {
                            let sixteen = run * ($run / 16) + k;
                            let weights = scales.weights::<$min>(levels, 16 * sixteen / $sub);
                            for (sums, x) in sums.iter_mut().zip(&x) {
                                let x = x[b].as_chunks::<16>().0[sixteen].as_chunks::<4>().0;
                                for (i, (w, x)) in weights.iter().zip(x).enumerate() {
                                    let sum = &mut sums[i % chains];
                                    *sum = vfmaq_f32(*sum, *w, $crate::neon::registers::load(x));
                                }
                            }
                        }
                    }
                }
                for (t, [a, b, c, d]) in sums.into_iter().enumerate() {
                    y[t * y_stride + r] = vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
                }
            }
        }
    };
}
pub(super) use kernels;
