//! Tiles of six tokens and strips of two vectors of eight columns, in words: see [`crate::words`].
//!
//! `vpmaddwd` multiplies 16 words where a multiplication of floats takes 8, and AVX-VNNI's `vpdpwssd` adds them too. A
//! tile's sums stay in twelve registers; compilers keep them on the stack and read the weights again for each token, hence
//! the instructions by hand.

use core::arch::asm;
use core::arch::x86_64::*;

use super::panel::transpose_block;
use super::prefetch::ask_for_rows;
use super::registers::{load, store, store_halves};
use super::rounded::{TINY, prefetch, write};
use crate::product::{Mat, MatMut};
use crate::words::{GROUP, LARGEST, PanelGroup, RUN_STRIDE, STRIP, TILE, TileGroup, WordKernels};

pub(crate) static KERNELS: WordKernels = WordKernels {
    strips: 1,
    round,
    pack_rows,
    pack_columns,
    multiply,
};

/// With AVX-VNNI, where one instruction multiplies and adds.
pub(crate) static VNNI_KERNELS: WordKernels = WordKernels {
    multiply: multiply_vnni,
    ..KERNELS
};

const LANES: usize = 8;
/// The pairs of words that packing two vectors of integers leaves in each place.
const PACKED: [usize; 8] = [0, 1, 4, 5, 2, 3, 6, 7];

/// See [`WordKernels::round`].
#[target_feature(enable = "avx2,fma")]
pub(crate) fn round(tile: &mut [TileGroup], x: Mat<'_>) {
    const EIGHT: usize = LANES * GROUP;
    for t in 0..TILE {
        if t >= x.rows() {
            for group in tile.iter_mut() {
                group.words[t] = [0; GROUP];
                group.units[t] = 0.0;
            }
            continue;
        }
        for (x, tile) in x.row(t).chunks(EIGHT).zip(tile.chunks_mut(LANES)) {
            match x.first_chunk::<EIGHT>() {
                Some(x) => round_eight(tile, t, x),
                None => {
                    let mut padded = [0.0; EIGHT];
                    padded[..x.len()].copy_from_slice(x);
                    round_eight(tile, t, &padded);
                }
            }
        }
    }
}

/// Rounds as many of eight groups of token `t` as the tile has; their largest numbers are found together.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn round_eight(tile: &mut [TileGroup], t: usize, x: &[f32; LANES * GROUP]) {
    let groups = x.as_chunks::<LANES>().0.as_chunks::<{ GROUP / LANES }>().0;
    let mut most = [_mm256_setzero_ps(); LANES];
    for (most, group) in most.iter_mut().zip(groups) {
        *most = largest_lanes(group);
    }
    let [unit, inverse] = scales(largest_of_each(most));
    let (mut units, mut inverses) = ([0.0; LANES], [0.0; LANES]);
    store(&mut units, unit);
    store(&mut inverses, inverse);
    for (i, (out, group)) in tile.iter_mut().zip(groups).enumerate() {
        out.units[t] = units[i];
        let inverse = _mm256_set1_ps(inverses[i]);
        let outs = out.words[t].as_chunks_mut::<16>().0;
        for (out, [a, b]) in outs.iter_mut().zip(group.as_chunks().0) {
            let packed = _mm256_packs_epi32(integers(a, inverse), integers(b, inverse));
            store_halves(out, _mm256_permute4x64_epi64(packed, 0b11_01_10_00));
        }
    }
}

/// Eight floats in units of one over `inverse`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn integers(x: &[f32; LANES], inverse: __m256) -> __m256i {
    _mm256_cvtps_epi32(_mm256_mul_ps(load(x), inverse))
}

/// The bits of the largest of each lane so far and of a vector, without signs. As integers, so that what is no number is
/// the largest.
#[inline]
#[target_feature(enable = "avx2")]
fn larger(most: __m256i, x: &[f32; LANES]) -> __m256i {
    let size = _mm256_andnot_ps(_mm256_set1_ps(-0.0), load(x));
    _mm256_max_epi32(most, _mm256_castps_si256(size))
}

/// The largest of each lane of a group.
#[inline]
#[target_feature(enable = "avx2")]
fn largest_lanes(group: &[[f32; LANES]]) -> __m256 {
    let mut most = _mm256_setzero_si256();
    for eight in group {
        most = larger(most, eight);
    }
    _mm256_castsi256_ps(most)
}

/// The largest lane of each of eight vectors, of bits without signs.
#[inline]
#[target_feature(enable = "avx2")]
fn largest_of_each(vectors: [__m256; LANES]) -> __m256i {
    let mut most = _mm256_setzero_si256();
    for lanes in transpose_block(vectors) {
        most = _mm256_max_epi32(most, _mm256_castps_si256(lanes));
    }
    most
}

/// What a word is worth where these are the largest, and one over it.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn scales(most: __m256i) -> [__m256; 2] {
    let most = _mm256_castsi256_ps(most);
    let counts = _mm256_cmp_ps::<_CMP_NLE_UQ>(most, _mm256_set1_ps(TINY));
    let scales = _mm256_mul_ps(most, _mm256_set1_ps(1.0 / LARGEST));
    let inverses = _mm256_div_ps(_mm256_set1_ps(LARGEST), most);
    [
        _mm256_and_ps(scales, counts),
        _mm256_and_ps(inverses, counts),
    ]
}

/// See [`WordKernels::pack_rows`].
#[target_feature(enable = "avx2,fma")]
pub(crate) fn pack_rows(strip: &mut [PanelGroup], decoded: &[f32]) {
    for first in (0..STRIP).step_by(LANES) {
        let rows: [&[f32]; LANES] =
            std::array::from_fn(|i| &decoded[(first + i) * RUN_STRIDE..][..strip.len() * GROUP]);
        for (g, out) in strip.iter_mut().enumerate() {
            let groups: [&[[f32; LANES]]; LANES] =
                rows.map(|row| row.as_chunks::<GROUP>().0[g].as_chunks().0);
            let mut most = [_mm256_setzero_ps(); LANES];
            for (most, group) in most.iter_mut().zip(groups) {
                *most = largest_lanes(group);
            }
            let [scale, inverse] = scales(largest_of_each(most));
            store(&mut out.scales.as_chunks_mut().0[first / LANES], scale);
            let mut inverses = [0.0; LANES];
            store(&mut inverses, inverse);
            for half in 0..2 {
                let mut block = [_mm256_setzero_ps(); LANES];
                for ((block, group), inverse) in block.iter_mut().zip(groups).zip(inverses) {
                    let inverse = _mm256_set1_ps(inverse);
                    let [a, b] = &group.as_chunks().0[half];
                    let packed = _mm256_packs_epi32(integers(a, inverse), integers(b, inverse));
                    *block = _mm256_castsi256_ps(packed);
                }
                for (place, pairs) in PACKED.into_iter().zip(transpose_block(block)) {
                    store_pairs(&mut out.words[8 * half + place], first, pairs);
                }
            }
        }
    }
}

/// Writes pairs of words of the columns from `first` on, 0 or 8.
#[inline]
#[target_feature(enable = "avx2")]
fn store_pairs(out: &mut [[i16; 2]; STRIP], first: usize, pairs: __m256) {
    let out = out[first..][..LANES].as_flattened_mut();
    let out = out.first_chunk_mut().expect("a pair of each column");
    store_halves(out, _mm256_castps_si256(pairs));
}

/// See [`WordKernels::pack_columns`].
#[target_feature(enable = "avx2,fma")]
pub(crate) fn pack_columns(out: &mut PanelGroup, decoded: &[f32]) {
    for first in (0..STRIP).step_by(LANES) {
        let row = |i: usize| -> &[f32; LANES] {
            let row = decoded[i * RUN_STRIDE + first..].first_chunk();
            row.expect("a strip")
        };
        let mut most = [_mm256_setzero_si256(); 2];
        for i in (0..GROUP).step_by(2) {
            most = [larger(most[0], row(i)), larger(most[1], row(i + 1))];
        }
        let [scale, inverse] = scales(_mm256_max_epi32(most[0], most[1]));
        store(&mut out.scales.as_chunks_mut().0[first / LANES], scale);
        for (pair, out) in out.words.iter_mut().enumerate() {
            let a = integers(row(2 * pair), inverse);
            let b = integers(row(2 * pair + 1), inverse);
            let pairs = _mm256_blend_epi16::<0xAA>(a, _mm256_slli_epi32(b, 16));
            store_pairs(out, first, _mm256_castsi256_ps(pairs));
        }
    }
}

/// Token `$t`'s pair `$n` of words, eight times.
macro_rules! spread {
    ($t:literal, $n:literal) => {
        concat!(
            "vpbroadcastd {x}, [{tile} + 64 * ",
            $t,
            " + 4 * ",
            $n,
            "]\n"
        )
    };
}

/// The products of a pair of words of 16 columns with token `$t`'s pair `$n`: the first of a group, or the next with AVX2
/// or with AVX-VNNI.
macro_rules! token {
    (first, $t:literal, $n:literal, $low:literal, $high:literal) => {
        concat!(
            spread!($t, $n),
            "vpmaddwd {",
            $low,
            "}, {w_low}, {x}\n",
            "vpmaddwd {",
            $high,
            "}, {w_high}, {x}\n",
        )
    };
    (next, $t:literal, $n:literal, $low:literal, $high:literal) => {
        concat!(
            spread!($t, $n),
            "vpmaddwd {product}, {w_low}, {x}\n",
            "vpaddd {",
            $low,
            "}, {",
            $low,
            "}, {product}\n",
            "vpmaddwd {x}, {w_high}, {x}\n",
            "vpaddd {",
            $high,
            "}, {",
            $high,
            "}, {x}\n",
        )
    };
    (next_vnni, $t:literal, $n:literal, $low:literal, $high:literal) => {
        concat!(
            spread!($t, $n),
            "{{vex}} vpdpwssd {",
            $low,
            "}, {w_low}, {x}\n",
            "{{vex}} vpdpwssd {",
            $high,
            "}, {w_high}, {x}\n",
        )
    };
}

/// Pair `$n` of every column and token.
macro_rules! pair {
    ($which:ident, $n:literal) => {
        concat!(
            "vmovdqa {w_low}, [{strip} + 64 * ",
            $n,
            "]\n",
            "vmovdqa {w_high}, [{strip} + 64 * ",
            $n,
            " + 32]\n",
            token!($which, 0, $n, "a", "b"),
            token!($which, 1, $n, "c", "d"),
            token!($which, 2, $n, "e", "f"),
            token!($which, 3, $n, "g", "h"),
            token!($which, 4, $n, "i", "j"),
            token!($which, 5, $n, "k", "l"),
        )
    };
}

/// Adds token `$t`'s integers, times its unit and the columns' scales, to its totals.
macro_rules! add_scaled {
    ($t:literal, $low:literal, $high:literal) => {
        concat!(
            "vbroadcastss {x}, [{tile} + 64 * 6 + 4 * ",
            $t,
            "]\n",
            "vmulps {product}, {w_low}, {x}\n",
            "vmulps {x}, {w_high}, {x}\n",
            "vcvtdq2ps {",
            $low,
            "}, {",
            $low,
            "}\n",
            "vcvtdq2ps {",
            $high,
            "}, {",
            $high,
            "}\n",
            "vfmadd213ps {",
            $low,
            "}, {product}, [{totals} + 64 * ",
            $t,
            "]\n",
            "vfmadd213ps {",
            $high,
            "}, {x}, [{totals} + 64 * ",
            $t,
            " + 32]\n",
            "vmovaps [{totals} + 64 * ",
            $t,
            "], {",
            $low,
            "}\n",
            "vmovaps [{totals} + 64 * ",
            $t,
            " + 32], {",
            $high,
            "}\n",
        )
    };
}

/// A way to multiply, with one of the ways to add a pair.
macro_rules! kernel {
    ($multiply:ident, $sums:ident, $features:literal, $next:ident) => {
        /// See [`WordKernels::multiply`].
        #[target_feature(enable = $features)]
        fn $multiply(
            mut c: MatMut<'_>,
            accumulate: bool,
            tile: &[TileGroup],
            strip: &[PanelGroup],
            next: Mat<'_>,
        ) {
            prefetch(&mut c);
            ask_for_rows(next);
            write(c, accumulate, $sums(tile, strip));
        }

        /// What every token of a tile and every column of a strip give over all groups.
        #[inline]
        #[target_feature(enable = $features)]
        #[allow(unsafe_code)] // instructions by hand
        fn $sums(tile: &[TileGroup], strip: &[PanelGroup]) -> [[__m256; 2]; TILE] {
            const { assert!(TILE == 6 && STRIP == 16 && GROUP == 32) };
            let mut totals = [[_mm256_setzero_ps(); 2]; TILE];
            let groups = tile.len();
            assert_eq!(groups, strip.len(), "as many groups");
            if groups == 0 {
                return totals;
            }
            // SAFETY: reads the words and scales of `groups` groups of each, which is at least one and as many as there
            // are; they begin with a cache line. Reads and writes the twelve totals, which lie where vectors do. The
            // features are the caller's to have.
            unsafe {
                asm!(
                    "2:",
                    pair!(first, 0), pair!($next, 1), pair!($next, 2), pair!($next, 3),
                    pair!($next, 4), pair!($next, 5), pair!($next, 6), pair!($next, 7),
                    pair!($next, 8), pair!($next, 9), pair!($next, 10), pair!($next, 11),
                    pair!($next, 12), pair!($next, 13), pair!($next, 14), pair!($next, 15),
                    "vmovaps {w_low}, [{strip} + 64 * 16]", "vmovaps {w_high}, [{strip} + 64 * 16 + 32]",
                    add_scaled!(0, "a", "b"), add_scaled!(1, "c", "d"), add_scaled!(2, "e", "f"),
                    add_scaled!(3, "g", "h"), add_scaled!(4, "i", "j"), add_scaled!(5, "k", "l"),
                    "add {tile}, {tile_bytes}", "add {strip}, {strip_bytes}",
                    "dec {groups}", "jnz 2b",
                    tile = inout(reg) tile.as_ptr() => _, strip = inout(reg) strip.as_ptr() => _,
                    groups = inout(reg) groups => _, totals = in(reg) totals.as_mut_ptr(),
                    tile_bytes = const size_of::<TileGroup>(), strip_bytes = const size_of::<PanelGroup>(),
                    a = out(ymm_reg) _, b = out(ymm_reg) _, c = out(ymm_reg) _, d = out(ymm_reg) _,
                    e = out(ymm_reg) _, f = out(ymm_reg) _, g = out(ymm_reg) _, h = out(ymm_reg) _,
                    i = out(ymm_reg) _, j = out(ymm_reg) _, k = out(ymm_reg) _, l = out(ymm_reg) _,
                    w_low = out(ymm_reg) _, w_high = out(ymm_reg) _, x = out(ymm_reg) _, product = out(ymm_reg) _,
                    options(nostack),
                );
            }
            totals
        }
    };
}
kernel!(multiply, sums, "avx2,fma", next);
kernel!(multiply_vnni, sums_vnni, "avx2,fma,avxvnni", next_vnni);
