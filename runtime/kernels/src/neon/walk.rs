//! The loops over blocks, rows and tokens, the same for every block type.
//!
//! A type's file gives `scales(block)` and `levels(block, run)`: the integers of one run of
//! weights as signed bytes, in 16s. `kernels!` builds the table entries from them.
//!
//! decode: `w = scale * level - min`, rounded twice as the reference does.
//! product with floats: 16 weights are finished in registers and used by every token.
//! product with rounded activations: see [`crate::rounded`].
//!
//! Closures are compiled for NEON alone, so nothing that needs more is called in one.

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

/// The entries of type `$ty`, whose file has `LEN`, `BYTES`, `scales`, `levels`; `run` weights are
/// taken apart at a time.
macro_rules! kernels {
    ($ty:ident, run: $run:literal) => {
        const FORM: $crate::rounded::Form = $crate::rounded::Form::of($crate::QuantType::$ty);
        /// Weights that share a scale.
        const SUB: usize = FORM.sub;
        /// Whether there are minimums.
        const MIN: bool = FORM.min;

        /// Decodes whole blocks; see [`crate::Kernels::decode`].
        #[target_feature(enable = "neon")]
        pub(crate) fn decode(bytes: &[u8], out: &mut [f32]) {
            let (blocks, outs) = (bytes.as_chunks::<BYTES>().0, out.as_chunks_mut::<LEN>().0);
            for (block, out) in blocks.iter().zip(outs) {
                let scales = scales(block);
                for (run, out) in out.as_chunks_mut::<$run>().0.iter_mut().enumerate() {
                    let outs = out.as_chunks_mut::<16>().0.iter_mut();
                    for (k, (levels, out)) in levels(block, run).into_iter().zip(outs).enumerate() {
                        let weights = scales.weights::<MIN>(levels, (run * $run + 16 * k) / SUB);
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
                            let weights = scales.weights::<MIN>(levels, 16 * sixteen / SUB);
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

        /// Whole blocks as levels and what scales them; minimums only if there are any.
        #[target_feature(enable = "neon")]
        pub(crate) fn unpack(
            bytes: &[u8],
            out: &mut [[u8; 32]],
            scale_out: &mut [f32],
            min_out: &mut [f32],
        ) {
            let outs = out.as_flattened_mut().as_chunks_mut::<16>().0;
            let outs = outs.as_chunks_mut::<{ LEN / 16 }>().0;
            let scale_outs = scale_out.as_chunks_mut::<{ LEN / SUB }>().0;
            let min_outs = min_out.as_chunks_mut::<{ LEN / SUB }>().0;
            let blocks = bytes.as_chunks::<BYTES>().0.iter().zip(outs);
            for (((block, out), scale), min) in blocks.zip(scale_outs).zip(min_outs) {
                let scales = scales(block);
                let runs = out.as_chunks_mut::<{ $run / 16 }>().0;
                for (run, out) in runs.iter_mut().enumerate() {
                    for (out, levels) in out.iter_mut().zip(levels(block, run)) {
                        $crate::neon::registers::store_levels(out, levels);
                    }
                }
                *scale = scales.scale;
                if MIN {
                    *min = scales.min;
                }
            }
        }

        $crate::neon::walk::thin!(
            thin_rounded,
            "neon",
            $crate::neon::rounded::dot::<{ SUB / 16 }, { FORM.bits }>,
            $run
        );
        $crate::neon::walk::thin!(
            thin_rounded_dotprod,
            "neon,dotprod",
            $crate::neon::dotprod::dot::<{ SUB / 16 }>,
            $run
        );
    };
}
pub(super) use kernels;

/// [`crate::Kernels::thin_rounded`] with dot products of `$dot`, for [`kernels!`].
macro_rules! thin {
    ($name:ident, $features:literal, $dot:path, $run:literal) => {
        /// See [`crate::Kernels::thin_rounded`].
        #[target_feature(enable = $features)]
        pub(crate) fn $name(
            y: &mut [f32],
            y_stride: usize,
            x: &$crate::rounded::Rounded<'_>,
            w: &[u8],
        ) {
            use core::arch::aarch64::*;
            use $crate::rounded::{GROUP, Rounded};
            const GROUPS: usize = LEN / GROUP;
            const SUBS: usize = LEN / SUB;
            /// Sub-blocks whose products are added to different totals, to hide the latency of an
            /// addition.
            const APART: usize = if $run == SUB { 1 } else { 2 };

            /// Which of its group's parts sub-block `j` is.
            const fn part(j: usize) -> usize {
                j * SUB % GROUP / SUB
            }

            #[target_feature(enable = $features)]
            fn tokens<const T: usize>(y: &mut [f32], y_stride: usize, x: &Rounded<'_>, w: &[u8]) {
                let integers = x.levels.as_chunks::<T>().0.as_chunks::<GROUPS>().0;
                let units = x.units.as_chunks::<T>().0.as_chunks::<GROUPS>().0;
                let sums = x.sums.as_chunks::<T>().0.as_chunks::<GROUPS>().0;
                let halves = x.halves.as_chunks::<T>().0.as_chunks::<GROUPS>().0;
                let rows = w.as_chunks::<BYTES>().0.chunks_exact(integers.len());
                for (r, row) in rows.enumerate() {
                    let mut totals = [[vdupq_n_f32(0.0); 2]; T];
                    // One token has as many sums as there are minimums in a block, to hide the latency
                    // of an addition; more tokens have one or two each.
                    let mut mins = [[0.0; T]; SUBS];
                    let x = integers.iter().zip(units).zip(sums).zip(halves);
                    for (block, (((x, units), sums), halves)) in row.iter().zip(x) {
                        let mut scales = scales(block);
                        if MIN {
                            for (j, &min) in scales.min.iter().enumerate() {
                                let group = j * SUB / GROUP;
                                let place = if T == 1 { j } else { part(j) };
                                for (t, total) in mins[place].iter_mut().enumerate() {
                                    let sum = match SUB {
                                        GROUP => sums[group][t],
                                        _ => halves[group][t][part(j)],
                                    };
                                    *total = min.mul_add(sum, *total);
                                }
                            }
                        }
                        if T == 1 {
                            for (j, scale) in scales.scale.iter_mut().enumerate() {
                                *scale *= units[j * SUB / GROUP][0];
                            }
                        }
                        for run in 0..LEN / $run {
                            let levels = levels(block, run);
                            let subs = levels.as_chunks::<{ SUB / 16 }>().0;
                            for (i, subs) in subs.as_chunks::<APART>().0.iter().enumerate() {
                                for (k, levels) in subs.iter().enumerate() {
                                    let j = run * ($run / SUB) + i * APART + k;
                                    let (scale, group) = (scales.scale[j], j * SUB / GROUP);
                                    for (t, totals) in totals.iter_mut().enumerate() {
                                        let x = x[group][t].as_chunks::<16>().0;
                                        let x = &x.as_chunks::<{ SUB / 16 }>().0[part(j)];
                                        let sum = vcvtq_f32_s32($dot(levels, x));
                                        let scale = match T {
                                            1 => scale,
                                            _ => scale * units[group][t],
                                        };
                                        totals[k] = vfmaq_n_f32(totals[k], sum, scale);
                                    }
                                }
                            }
                        }
                    }
                    for (t, totals) in totals.iter().enumerate() {
                        let mut total = vaddvq_f32(vaddq_f32(totals[0], totals[1]));
                        if MIN {
                            for mins in &mins[..if T == 1 { SUBS } else { GROUP / SUB }] {
                                total -= mins[t];
                            }
                        }
                        y[t * y_stride + r] = total;
                    }
                }
            }

            match x.tokens() {
                1 => tokens::<1>(y, y_stride, x, w),
                2 => tokens::<2>(y, y_stride, x, w),
                3 => tokens::<3>(y, y_stride, x, w),
                _ => tokens::<4>(y, y_stride, x, w),
            }
        }
    };
}
pub(super) use thin;
