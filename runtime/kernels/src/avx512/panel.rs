//! Products with a panel: strips of four vectors of 16 floats.

use core::arch::x86_64::*;

use super::registers::{load, store};

/// `product_strip` with a function that multiplies an element of `a`, spread over a vector, by a vector of the strip and
/// adds a vector of sums.
macro_rules! kernel {
    ($features:literal, $multiply_add:path) => {
        use crate::panel::{ROWS, WIDE, store_cols, tiles};
        use crate::product::{Mat, MatMut};

        /// Depths between two looks at how long the rows are.
        const STEP: usize = 4;
        const LANES: usize = 16;
        const VECTORS: usize = WIDE / LANES;

        /// See [`crate::panel`].
        #[target_feature(enable = $features)]
        pub(crate) fn product_strip(mut c: MatMut<'_>, accumulate: bool, a: Mat<'_>, b: &[f32]) {
            for rows in tiles(c.rows()) {
                let (row, rows) = (rows.start, rows.len());
                let (c, a) = (c.row_range(row, rows), a.row_range(row, rows));
                match rows {
                    1 => tile::<1>(c, accumulate, a, b),
                    2 => tile::<2>(c, accumulate, a, b),
                    3 => tile::<3>(c, accumulate, a, b),
                    4 => tile::<4>(c, accumulate, a, b),
                    5 => tile::<5>(c, accumulate, a, b),
                    _ => tile::<ROWS>(c, accumulate, a, b),
                }
            }
        }

        /// `M` rows: `M * VECTORS` sums in registers.
        #[target_feature(enable = $features)]
        fn tile<const M: usize>(mut c: MatMut<'_>, accumulate: bool, a: Mat<'_>, b: &[f32]) {
            for i in 0..M {
                // The results lie far apart, and the tile takes longer than memory.
                for line in c.row_mut(i).chunks(16) {
                    $crate::avx2::prefetch::ask_for(line);
                }
            }
            let (depths, _) = b.as_chunks::<WIDE>();
            let (whole, rest) = depths.as_chunks::<STEP>();
            let mut rows: [(&[[f32; STEP]], &[f32]); M] = [(&[], &[]); M];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = a.row(i)[..depths.len()].as_chunks();
            }
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; M];
            for (k, b) in whole.iter().enumerate() {
                let mut a = [&[0.0; STEP]; M];
                for (a, row) in a.iter_mut().zip(&rows) {
                    *a = &row.0[k];
                }
                for (k, b) in b.iter().enumerate() {
                    let b = [
                        load(part(b, 0)),
                        load(part(b, LANES)),
                        load(part(b, 2 * LANES)),
                        load(part(b, 3 * LANES)),
                    ];
                    for (sums, a) in sums.iter_mut().zip(a) {
                        let a = _mm512_set1_ps(a[k]);
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum = $multiply_add(a, b, *sum);
                        }
                    }
                }
            }
            for (k, b) in rest.iter().enumerate() {
                let b = [
                    load(part(b, 0)),
                    load(part(b, LANES)),
                    load(part(b, 2 * LANES)),
                    load(part(b, 3 * LANES)),
                ];
                for (sums, row) in sums.iter_mut().zip(&rows) {
                    let a = _mm512_set1_ps(row.1[k]);
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = $multiply_add(a, b, *sum);
                    }
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                let c = c.row_mut(i);
                if let Some(c) = c.first_chunk_mut::<WIDE>() {
                    for (sum, c) in sums.into_iter().zip(c.as_chunks_mut::<LANES>().0) {
                        let before = if accumulate {
                            load(c)
                        } else {
                            _mm512_setzero_ps()
                        };
                        store(c, _mm512_add_ps(before, sum));
                    }
                } else {
                    let mut all = [0.0; WIDE];
                    for (sum, all) in sums.into_iter().zip(all.as_chunks_mut::<LANES>().0) {
                        store(all, sum);
                    }
                    store_cols(c, accumulate, &all);
                }
            }
        }

        /// The vector of floats that starts at `at`.
        fn part(floats: &[f32], at: usize) -> &[f32; LANES] {
            floats[at..].first_chunk().expect("a whole vector")
        }
    };
}
pub(super) use kernel;

kernel!("avx512f", _mm512_fmadd_ps);
