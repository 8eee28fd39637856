//! F32, F16 and BF16 with 16-byte vectors. Rows of these may have any length: the last few
//! weights go through a zero-padded copy.

use core::arch::aarch64::*;

use super::registers::{load, load_16, load_32, store_all};

/// `decode` and `product_thin` of a float type whose module has `widen`: the bytes of eight
/// weights to eight floats.
macro_rules! kernels {
    ($bytes:literal) => {
        /// Decodes any number of weights; see [`crate::Kernels::decode`].
        #[target_feature(enable = "neon")]
        pub(crate) fn decode(bytes: &[u8], out: &mut [f32]) {
            let (eights, rest) = bytes.as_chunks();
            let (outs, last) = out.as_chunks_mut::<8>();
            for (eight, out) in eights.iter().zip(outs) {
                store_all(out, widen(eight));
            }
            let mut out = [0.0; 8];
            store_all(&mut out, widen(&padded(rest)));
            last.copy_from_slice(&out[..last.len()]);
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
            let inputs = x.len() / T;
            let x: [(&[[f32; 8]], &[f32]); T] =
                std::array::from_fn(|t| x[t * inputs..][..inputs].as_chunks());
            // The tokens' last, incomplete eights.
            let last = x.map(|(_, rest)| {
                let mut eight = [0.0; 8];
                eight[..rest.len()].copy_from_slice(rest);
                eight
            });
            for (r, row) in w.chunks_exact($bytes * inputs).enumerate() {
                let (eights, rest) = row.as_chunks();
                let rest = widen(&padded(rest));
                let mut sums = [[vdupq_n_f32(0.0); 4]; T];
                for (sums, last) in sums.iter_mut().zip(&last) {
                    add(sums, 0, rest, last);
                }
                let (pairs, one) = eights.as_chunks::<2>();
                for (i, [even, odd]) in pairs.iter().enumerate() {
                    let (even, odd) = (widen(even), widen(odd));
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        add(sums, 0, even, &x.0[2 * i]);
                        // Five tokens and more have enough sums with two each.
                        add(sums, if T < 5 { 2 } else { 0 }, odd, &x.0[2 * i + 1]);
                    }
                }
                for (i, eight) in (2 * pairs.len()..).zip(one) {
                    let w = widen(eight);
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        add(sums, 0, w, &x.0[i]);
                    }
                }
                for (t, [a, b, c, d]) in sums.into_iter().enumerate() {
                    y[t * y_stride + r] = vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
                }
            }
        }

        fn padded(rest: &[u8]) -> [u8; 8 * $bytes] {
            let mut eight = [0; 8 * $bytes];
            eight[..rest.len()].copy_from_slice(rest);
            eight
        }
    };
}

/// Adds the products of eight weights with eight activations to two of the sums.
#[inline]
#[target_feature(enable = "neon")]
fn add(sums: &mut [float32x4_t; 4], first: usize, w: [float32x4_t; 2], x: &[f32; 8]) {
    let pairs = w.into_iter().zip(x.as_chunks().0);
    for (sum, (w, x)) in sums[first..].iter_mut().zip(pairs) {
        *sum = vfmaq_f32(*sum, w, load(x));
    }
}

/// F32.
pub(crate) mod f32 {
    use super::*;

    #[inline]
    #[target_feature(enable = "neon")]
    fn widen(bytes: &[u8; 32]) -> [float32x4_t; 2] {
        load_32(bytes).map(|four| vreinterpretq_f32_u8(four))
    }

    kernels!(4);
}

/// F16.
pub(crate) mod f16 {
    use super::*;

    #[inline]
    #[target_feature(enable = "neon")]
    fn widen(bytes: &[u8; 16]) -> [float32x4_t; 2] {
        let halves = vreinterpretq_f16_u8(load_16(bytes));
        [
            vcvt_f32_f16(vget_low_f16(halves)),
            vcvt_high_f32_f16(halves),
        ]
    }

    kernels!(2);
}

/// BF16.
pub(crate) mod bf16 {
    use super::*;

    #[inline]
    #[target_feature(enable = "neon")]
    fn widen(bytes: &[u8; 16]) -> [float32x4_t; 2] {
        let halves = vreinterpretq_u16_u8(load_16(bytes));
        [
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(halves))),
            vreinterpretq_f32_u32(vshll_high_n_u16::<16>(halves)),
        ]
    }

    kernels!(2);
}
