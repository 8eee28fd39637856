//! F32, F16 and BF16 with 32-byte vectors. Rows of these may have any length: the last few
//! weights go through a zero-padded copy.

use core::arch::x86_64::*;

use super::registers::{load, load_16, load_32, store, sum};

/// `decode` and `product_thin` of a float type whose module has `widen`: the bytes of eight
/// weights to eight floats.
macro_rules! kernels {
    ($bytes:literal) => {
        /// Decodes any number of weights; see [`crate::Kernels::decode`].
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(crate) fn decode(bytes: &[u8], out: &mut [f32]) {
            let (eights, rest) = bytes.as_chunks();
            let (outs, last) = out.as_chunks_mut();
            for (eight, out) in eights.iter().zip(outs) {
                store(out, widen(eight));
            }
            let mut out = [0.0; 8];
            store(&mut out, widen(&padded(rest)));
            last.copy_from_slice(&out[..last.len()]);
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
                let mut sums = [[_mm256_setzero_ps(); 4]; T];
                for (sums, last) in sums.iter_mut().zip(&last) {
                    sums[0] = _mm256_mul_ps(rest, load(last));
                }
                let (fours, ones) = eights.as_chunks::<4>();
                for (i, four) in fours.iter().enumerate() {
                    for (k, eight) in four.iter().enumerate() {
                        let w = widen(eight);
                        for (sums, x) in sums.iter_mut().zip(&x) {
                            sums[k] = _mm256_fmadd_ps(w, load(&x.0[4 * i + k]), sums[k]);
                        }
                    }
                }
                for (i, eight) in (4 * fours.len()..).zip(ones) {
                    let w = widen(eight);
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        sums[0] = _mm256_fmadd_ps(w, load(&x.0[i]), sums[0]);
                    }
                }
                for (t, [a, b, c, d]) in sums.into_iter().enumerate() {
                    y[t * y_stride + r] =
                        sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
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

/// F32.
pub(crate) mod f32 {
    use super::*;

    #[target_feature(enable = "avx2")]
    pub(crate) fn widen(bytes: &[u8; 32]) -> __m256 {
        _mm256_castsi256_ps(load_32(bytes))
    }

    kernels!(4);
}

/// F16.
pub(crate) mod f16 {
    use super::*;

    #[target_feature(enable = "avx2,f16c")]
    pub(crate) fn widen(bytes: &[u8; 16]) -> __m256 {
        _mm256_cvtph_ps(load_16(bytes))
    }

    kernels!(2);
}

/// BF16.
pub(crate) mod bf16 {
    use super::*;

    #[target_feature(enable = "avx2")]
    pub(crate) fn widen(bytes: &[u8; 16]) -> __m256 {
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16(bytes)), 16))
    }

    kernels!(2);
}
