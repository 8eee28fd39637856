//! The two products of attention for a few tokens: queries with keys, their probabilities with values.
//!
//! Memory is what these wait for, so a row of keys or values is read where it lies, once for all queries that share
//! it, and the rows go by in the order in which they lie. Each token's query in each head counts as a head here; for
//! many tokens see [`crate::tiled::attention`]. The bits of one query's results do not depend on the others.

use crate::Kernels;
use crate::ops::attention::AttentionShape;
use crate::product::Mat;

impl Kernels {
    /// `scores[h * stride + s] = scale * (q[h] . k[s])` for each query head and each row of `k` `[S, K * D]`.
    ///
    /// # Panics
    /// If `q` is not `[H, D]`, `k` has other columns or `scores` are too few.
    #[allow(unsafe_code)] // calls code compiled for an instruction set
    pub(crate) fn query_scores(
        &self,
        scores: &mut [f32],
        stride: usize,
        q: &[f32],
        k: Mat<'_>,
        shape: &AttentionShape,
    ) {
        check(scores.len(), stride, q.len(), k, shape);
        match self.isa {
            // SAFETY: a table of this instruction set leaves the crate only after the processor was seen to
            // have it (`Kernels::available`); every processor with AVX-512 has AVX2.
            #[cfg(target_arch = "x86_64")]
            crate::Isa::Avx2 | crate::Isa::Avx512 if shape.head_width.is_multiple_of(8) => unsafe {
                crate::avx2::few_queries::scores(scores, stride, q, k, shape);
            },
            // SAFETY: as above.
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            crate::Isa::Neon if shape.head_width.is_multiple_of(4) => unsafe {
                crate::neon::few_queries::scores(scores, stride, q, k, shape);
            },
            _ => self::scores(scores, stride, q, k, shape),
        }
    }

    /// `out[h] += sum over s of p[h * stride + s] * v[s]` for each query head, `v` `[S, K * D]`.
    ///
    /// # Panics
    /// If `out` is not `[H, D]`, `v` has other columns or `p` are too few.
    #[allow(unsafe_code)] // calls code compiled for an instruction set
    pub(crate) fn add_values(
        &self,
        out: &mut [f32],
        p: &[f32],
        stride: usize,
        v: Mat<'_>,
        shape: &AttentionShape,
    ) {
        check(p.len(), stride, out.len(), v, shape);
        match self.isa {
            // SAFETY: as in `query_scores`.
            #[cfg(target_arch = "x86_64")]
            crate::Isa::Avx2 | crate::Isa::Avx512 if shape.head_width.is_multiple_of(8) => unsafe {
                crate::avx2::few_queries::add_values(out, p, stride, v, shape);
            },
            // SAFETY: as in `query_scores`.
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            crate::Isa::Neon if shape.head_width.is_multiple_of(4) => unsafe {
                crate::neon::few_queries::add_values(out, p, stride, v, shape);
            },
            _ => self::add_values(out, p, stride, v, shape),
        }
    }
}

fn check(scores: usize, stride: usize, q: usize, rows: Mat<'_>, shape: &AttentionShape) {
    let d = shape.head_width;
    assert_eq!(q, shape.heads * d, "elements of all queries");
    assert_eq!(rows.cols(), shape.kv_heads * d, "columns of keys or values");
    assert!(shape.heads.is_multiple_of(shape.kv_heads), "whole groups");
    assert!(rows.rows() <= stride, "rows of keys or values");
    assert!(shape.heads * stride <= scores, "scores of each query");
}

/// The columns of the key/value head that query head `h` reads.
pub(crate) fn columns(h: usize, shape: &AttentionShape) -> std::ops::Range<usize> {
    let first = h / (shape.heads / shape.kv_heads) * shape.head_width;
    first..first + shape.head_width
}

/// The meaning of the kernel.
fn scores(scores: &mut [f32], stride: usize, q: &[f32], k: Mat<'_>, shape: &AttentionShape) {
    for (h, q) in q.chunks_exact(shape.head_width).enumerate() {
        for s in 0..k.rows() {
            let k = &k.row(s)[columns(h, shape)];
            let dot = q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>();
            scores[h * stride + s] = shape.scale * dot;
        }
    }
}

/// The meaning of the kernel.
fn add_values(out: &mut [f32], p: &[f32], stride: usize, v: Mat<'_>, shape: &AttentionShape) {
    for (h, out) in out.chunks_exact_mut(shape.head_width).enumerate() {
        for s in 0..v.rows() {
            let p = p[h * stride + s];
            for (out, v) in out.iter_mut().zip(&v.row(s)[columns(h, shape)]) {
                *out += p * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::tests::{assert_close, random};

    /// Every instruction set; widths that are not whole vectors, rows that are not whole eights, rows in a
    /// wider matrix, and a stride beyond the rows.
    #[test]
    fn every_isa_computes_the_products() {
        for (heads, kv_heads, d, rows, stride) in [
            (1, 1, 8, 1, 1),
            (8, 2, 64, 29, 40),
            (6, 2, 40, 8, 8),
            (3, 3, 12, 17, 17),
            (4, 1, 7, 9, 12),
            (2, 1, 128, 64, 64),
        ] {
            let shape = AttentionShape {
                heads,
                kv_heads,
                head_width: d,
                scale: 0.3,
                causal: true,
            };
            let (q, p) = (random(1, heads * d), random(2, heads * stride));
            let (width, beside) = (kv_heads * d, 5);
            let floats = random(3, rows * (width + beside));
            let kv = Mat::new(&floats, rows, width + beside).col_range(beside, width);
            let at = |h: usize, s: usize, i: usize| f64::from(kv.row(s)[columns(h, &shape)][i]);
            let (mut want, mut want_out) = (vec![0.0; heads * stride], vec![1.0; heads * d]);
            for h in 0..heads {
                for s in 0..rows {
                    for i in 0..d {
                        want[h * stride + s] += 0.3 * f64::from(q[h * d + i]) * at(h, s, i);
                        want_out[h * d + i] += f64::from(p[h * stride + s]) * at(h, s, i);
                    }
                }
            }
            for kernels in Kernels::available() {
                let mut scores = vec![0.0; heads * stride];
                kernels.query_scores(&mut scores, stride, &q, kv, &shape);
                assert_close(&scores, &want, 2e-6);
                let mut out = vec![1.0; heads * d];
                kernels.add_values(&mut out, &p, stride, kv, &shape);
                assert_close(&out, &want_out, 2e-6);
            }
        }
    }
}
