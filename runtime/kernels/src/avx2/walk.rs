//! The loops over blocks, rows and tokens, the same for every block type.
//!
//! A type's file gives `scales(block)` and `levels(block, run)`: the integers of one run of
//! weights as signed bytes, in 32s. `kernels!` builds the table entries from them.
//!
//! decode: `w = scale * level - min`, rounded twice as the reference does.
//! product with floats: weights are finished in registers and used by every token.
//! product with rounded activations: see [`crate::rounded`].
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

/// The entries of type `$ty`, whose file has `LEN`, `BYTES`, `scales`, `levels`; `run` weights are
/// decoded at a time. Types with minimums are those whose levels have no sign.
macro_rules! kernels {
    ($ty:ident, run: $run:literal) => {
        const FORM: $crate::rounded::Form = $crate::rounded::Form::of($crate::QuantType::$ty);
        /// Weights that share a scale.
        const SUB: usize = FORM.sub;
        /// Whether there are minimums.
        const MIN: bool = FORM.min;

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
            scales: &$crate::avx2::walk::Scales<{ LEN / SUB }>,
            run: usize,
        ) -> [[__m256; 4]; $run / 32] {
            let mut weights = [[_mm256_setzero_ps(); 4]; $run / 32];
            for (weights, levels) in weights.iter_mut().zip(levels(block, run)) {
                *weights = $crate::avx2::registers::spread(levels);
            }
            for (k, w) in weights.as_flattened_mut().iter_mut().enumerate() {
                let j = run * ($run / SUB) + k / (SUB / 8);
                *w = _mm256_mul_ps(*w, _mm256_set1_ps(scales.scale[j]));
                if MIN {
                    *w = _mm256_sub_ps(*w, _mm256_set1_ps(scales.min[j]));
                }
            }
            weights
        }

        /// Whole blocks as levels, plus `bias`, and what scales them.
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(crate) fn unpack(
            bytes: &[u8],
            bias: u8,
            out: &mut [[u8; 32]],
            scale_out: &mut [f32],
            min_out: &mut [f32],
        ) {
            let outs = out.as_chunks_mut::<{ LEN / 32 }>().0;
            let scale_outs = scale_out.as_chunks_mut::<{ LEN / SUB }>().0;
            let min_outs = min_out.as_chunks_mut::<{ LEN / SUB }>().0;
            let blocks = bytes.as_chunks::<BYTES>().0.iter().zip(outs);
            for (((block, out), scale), min) in blocks.zip(scale_outs).zip(min_outs) {
                let scales = scales(block);
                for (run, out) in out
                    .as_chunks_mut::<{ $run / 32 }>()
                    .0
                    .iter_mut()
                    .enumerate()
                {
                    for (out, levels) in out.iter_mut().zip(levels(block, run)) {
                        let levels = _mm256_add_epi8(levels, _mm256_set1_epi8(bias as i8));
                        $crate::avx2::registers::store_32(out, levels);
                    }
                }
                (*scale, *min) = (scales.scale, scales.min);
            }
        }

        $crate::avx2::walk::thin!(thin_rounded, "avx2,fma,f16c", $run, $crate::avx2::registers);
        $crate::avx2::walk::thin!(
            thin_rounded_vnni,
            "avx2,fma,f16c,avxvnni",
            $run,
            $crate::avx2::vnni
        );
        $crate::avx2::walk::thin!(
            thin_rounded_avx512_vnni,
            "avx2,fma,f16c,avx512f,avx512vl,avx512vnni",
            $run,
            $crate::avx512::registers
        );
    };
}
pub(super) use kernels;

/// [`crate::Kernels::thin_rounded`] with the dot products of `$room`, for [`kernels!`].
macro_rules! thin {
    ($name:ident, $features:literal, $run:literal, $($room:tt)*) => {
        /// See [`crate::Kernels::thin_rounded`].
        #[target_feature(enable = $features)]
        pub(crate) fn $name(
            y: &mut [f32],
            y_stride: usize,
            x: &$crate::rounded::Rounded<'_>,
            w: &[u8],
        ) {
            use $crate::avx2::prefetch::ask_once;
            use $crate::avx2::registers::{
                halves, in_halves, load, load_signed, nibbles_of_runs, nibbles_of_two,
                one_or_two, spread_eight, sum,
            };
            use $crate::rounded::{GROUP, Lines, Rounded};
            use $($room)*::{dot, dots_of_eight};
            const GROUPS: usize = LEN / GROUP;
            const SUBS: usize = LEN / SUB;
            const SIGNED: bool = FORM.bits == 8;

            /// The sums over fours of a group's levels times activations. The levels' signs go over to the activations,
            /// or a bias leaves them none.
            #[inline]
            #[target_feature(enable = $features)]
            fn group(levels: __m256i, x: &[i8; GROUP]) -> __m256 {
                let x = load_signed(x);
                _mm256_cvtepi32_ps(match SIGNED {
                    true => dot(_mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels)),
                    false => {
                        let bias = _mm256_set1_epi8(FORM.bias as i8);
                        dot(_mm256_add_epi8(levels, bias), x)
                    }
                })
            }

            /// What is added to each weight of eight blocks, the second bytes or what a bias comes to.
            #[inline]
            #[target_feature(enable = $features)]
            fn min_of(blocks: &[[u8; BYTES]; 8], scale: __m256) -> __m256 {
                match MIN {
                    true => halves::<2, BYTES>(blocks),
                    false => _mm256_mul_ps(scale, _mm256_set1_ps(-f32::from(FORM.bias))),
                }
            }

            /// Whether levels are nibbles that mean themselves, the last bytes of a block.
            const NIBBLES: bool = FORM.bits == 4;

            /// Blocks with eight groups.
            const EIGHT: usize = if GROUPS == 1 { 8 } else { 1 };

            /// The scales of eight groups, and what is added to their weights, or subtracted if one block has them all.
            #[inline]
            #[target_feature(enable = $features)]
            fn scales_of_eight(blocks: &[[u8; BYTES]; EIGHT]) -> [__m256; 2] {
                if let Some(blocks) = blocks.first_chunk::<8>() {
                    let scale = halves::<0, BYTES>(blocks);
                    return [scale, min_of(blocks, scale)];
                }
                let scales = scales(&blocks[0]);
                let eight = |values: &[f32]| *values.first_chunk::<8>().expect("eight groups");
                let (scale, min) = (eight(&scales.scale), eight(&scales.min));
                [load(&scale), load(&min)]
            }

            /// The nibbles of groups `i` and `i + 4` of eight, their first halves and their last.
            #[inline]
            #[target_feature(enable = $features)]
            fn nibbles_of(blocks: &[[u8; BYTES]; EIGHT], i: usize) -> [__m256i; 2] {
                match blocks[0].last_chunk::<128>() {
                    Some(runs) if EIGHT == 1 => nibbles_of_runs(runs, i),
                    _ => nibbles_of_two(&blocks[i], &blocks[i + 4]),
                }
            }

            /// Writes what the whole eights of each row's groups give one token, for [`NIBBLES`]. The first halves of two
            /// groups lie in one vector and the last in another, so that the products of a group are added before they
            /// are widened; `EIGHTS` of the activations at a time are brought into that order.
            #[target_feature(enable = $features)]
            fn nibbles<const EIGHTS: usize>(y: &mut [f32], x: &Rounded<'_>, w: &[u8]) {
                let levels = x.levels.as_chunks::<8>().0;
                let units = x.units.as_chunks::<8>().0;
                let sums = x.sums.as_chunks::<8>().0;
                let rows = w.as_chunks::<BYTES>().0.chunks_exact(x.levels.len() / GROUPS);
                let mut ordered = Lines([[[[0; GROUP]; 2]; 4]; EIGHTS]);
                for from in (0..levels.len()).step_by(EIGHTS) {
                    let piece = from..levels.len().min(from + EIGHTS);
                    for (out, levels) in ordered.iter_mut().zip(&levels[piece.clone()]) {
                        in_halves(out, levels);
                    }
                    let (units, sums) = (&units[piece.clone()], &sums[piece.clone()]);
                    for (y, row) in y.iter_mut().zip(rows.clone()) {
                        let eights = &row.as_chunks::<EIGHT>().0[piece.clone()];
                        let x = ordered.iter().zip(units).zip(sums);
                        let mut total = _mm256_setzero_ps();
                        let mut mins = _mm256_setzero_ps();
                        for (blocks, ((x, units), sums)) in eights.iter().zip(x) {
                            ask_once(blocks.as_flattened());
                            let [scale, min] = scales_of_eight(blocks);
                            mins = match EIGHT {
                                1 => _mm256_fnmadd_ps(min, load(sums), mins),
                                _ => _mm256_fmadd_ps(min, load(sums), mins),
                            };
                            let mut levels = [[_mm256_setzero_si256(); 2]; 4];
                            let mut factors = levels;
                            for (i, levels) in levels.iter_mut().enumerate() {
                                *levels = nibbles_of(blocks, i);
                                factors[i] = [load_signed(&x[i][0]), load_signed(&x[i][1])];
                            }
                            let dots = _mm256_cvtepi32_ps(dots_of_eight(levels, factors));
                            let scale = _mm256_mul_ps(scale, load(units));
                            total = _mm256_fmadd_ps(scale, dots, total);
                        }
                        let total = sum(_mm256_add_ps(total, mins));
                        *y = if from > 0 { *y + total } else { total };
                    }
                }
            }

            /// What the whole eights of a row's blocks give one token, if a block is a group with one scale. Eight
            /// scales, which are the first bytes, are widened and multiplied together, and what is added to each
            /// weight, the next bytes.
            #[inline]
            #[target_feature(enable = $features)]
            fn eights(row: &[[u8; BYTES]], x: &Rounded<'_>) -> __m256 {
                let mut totals = [_mm256_setzero_ps(); 4];
                let mut mins = _mm256_setzero_ps();
                let units = x.units.as_chunks::<8>().0;
                let sums = x.sums.as_chunks::<8>().0;
                let x = x.levels.as_chunks::<8>().0.iter().zip(units).zip(sums);
                for (blocks, ((x, units), sums)) in row.as_chunks::<8>().0.iter().zip(x) {
                    ask_once(blocks.as_flattened());
                    let scale = halves::<0, BYTES>(blocks);
                    if !SIGNED {
                        mins = _mm256_fmadd_ps(min_of(blocks, scale), load(sums), mins);
                    }
                    let scales = spread_eight(_mm256_mul_ps(scale, load(units)));
                    for (i, scale) in scales.into_iter().enumerate() {
                        let part = group(levels(&blocks[i], 0)[0], &x[i]);
                        totals[i % 4] = _mm256_fmadd_ps(scale, part, totals[i % 4]);
                    }
                }
                let [a, b, c, d] = totals;
                let total = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
                _mm256_add_ps(total, mins)
            }

            #[target_feature(enable = $features)]
            fn tokens<const T: usize>(y: &mut [f32], y_stride: usize, x: &Rounded<'_>, w: &[u8]) {
                let integers = x.levels.as_chunks::<T>().0.as_chunks::<GROUPS>().0;
                let units = x.units.as_chunks::<T>().0.as_chunks::<GROUPS>().0;
                let sums = x.sums.as_chunks::<T>().0.as_chunks::<GROUPS>().0;
                let halves = x.halves.as_chunks::<T>().0.as_chunks::<GROUPS>().0;
                let rows = w.as_chunks::<BYTES>().0.chunks_exact(integers.len());
                if T == 1 && NIBBLES {
                    // Clearing room for more than a row has would take as long as some of its products.
                    match x.levels.len() / 8 {
                        ..=8 => nibbles::<8>(y, x, w),
                        ..=32 => nibbles::<32>(y, x, w),
                        _ => nibbles::<128>(y, x, w),
                    }
                }
                for (r, row) in rows.enumerate() {
                    let mut totals = [[_mm256_setzero_ps(); 2]; T];
                    // One token has as many sums as there are minimums in a block, to hide the latency
                    // of an addition; more tokens have one or two each. Small blocks take turns with two.
                    let mut mins = [[0.0; if SUBS > 1 { SUBS } else { 2 }]; T];
                    let mut done = 0;
                    if T == 1 && (NIBBLES || GROUPS == 1) {
                        done = row.len() / EIGHT * EIGHT;
                        totals[0][0] = match NIBBLES {
                            true if done > 0 => _mm256_zextps128_ps256(_mm_set_ss(y[r])),
                            true => totals[0][0],
                            false => eights(row, x),
                        };
                    }
                    let x = integers.iter().zip(units).zip(sums).zip(halves);
                    for (block, (((x, units), sums), halves)) in row.iter().zip(x).skip(done) {
                        ask_once(block);
                        let mut scales = scales(block);
                        if !SIGNED && !MIN {
                            for (min, scale) in scales.min.iter_mut().zip(&scales.scale) {
                                *min = FORM.bias as f32 * scale;
                            }
                        }
                        if !SIGNED {
                            for (j, &min) in scales.min.iter().enumerate() {
                                let group = j * SUB / GROUP;
                                for (t, totals) in mins.iter_mut().enumerate() {
                                    let sum = match SUB {
                                        GROUP => sums[group][t],
                                        _ => halves[group][t][j * SUB % GROUP / SUB],
                                    };
                                    let total = match T {
                                        1 => &mut totals[j],
                                        _ => &mut totals[j * SUB % GROUP / SUB],
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
                            for (k, levels) in levels(block, run).into_iter().enumerate() {
                                let g = run * ($run / GROUP) + k;
                                let own = &scales.scale[g * GROUP / SUB..(g + 1) * GROUP / SUB];
                                let scale = one_or_two(own);
                                for (t, totals) in totals.iter_mut().enumerate() {
                                    let mut part = group(levels, &x[g][t]);
                                    if T > 1 {
                                        part = _mm256_mul_ps(part, _mm256_set1_ps(units[g][t]));
                                    }
                                    let total = &mut totals[k % 2];
                                    *total = _mm256_fmadd_ps(scale, part, *total);
                                }
                            }
                        }
                        if GROUPS == 1 {
                            totals.iter_mut().for_each(|totals| totals.swap(0, 1));
                            mins.iter_mut().for_each(|mins| mins.swap(0, 1));
                        }
                    }
                    for (t, (totals, mins)) in totals.iter().zip(&mins).enumerate() {
                        let total = sum(_mm256_add_ps(totals[0], totals[1]));
                        y[t * y_stride + r] = total - mins.iter().sum::<f32>();
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
