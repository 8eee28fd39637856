//! Sums of products of bytes for a tile of four tokens, in the order that leaves everything in registers.
//!
//! A compiler may add integers in any order, and takes one that reads the weights again for each token,
//! by way of the stack: reading then takes longer than multiplying. Hence these few instructions by hand.
#![allow(unsafe_code)] // instructions by hand

use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::rounded::ROWS;
use crate::rounded::{GROUP, Parts, TILE};

/// The products of a quad of 16 rows with a token's four activations at `$x`.
macro_rules! token {
    (first, $x:expr, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd {x}, [{tokens} + ",
            $x,
            "]\n",
            "vpmaddubsw {",
            $low,
            "}, {w_low}, {x}\n",
            "vpmaddubsw {",
            $high,
            "}, {w_high}, {x}\n",
        )
    };
    (next, $x:expr, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd {x}, [{tokens} + ",
            $x,
            "]\n",
            "vpmaddubsw {product}, {w_low}, {x}\n",
            "vpaddw {",
            $low,
            "}, {",
            $low,
            "}, {product}\n",
            "vpmaddubsw {x}, {w_high}, {x}\n",
            "vpaddw {",
            $high,
            "}, {",
            $high,
            "}, {x}\n",
        )
    };
}

/// Quad `$n`: 64 bytes of levels, and four activations of each token, which are 32 bytes apart.
macro_rules! quad {
    ($which:ident, $n:literal) => {
        concat!(
            "vmovdqu {w_low}, [{levels} + 64 * ",
            $n,
            "]\n",
            "vmovdqu {w_high}, [{levels} + 64 * ",
            $n,
            " + 32]\n",
            token!($which, concat!("4 * ", $n), "a", "b"),
            token!($which, concat!("4 * ", $n, " + 32"), "c", "d"),
            token!($which, concat!("4 * ", $n, " + 64"), "e", "f"),
            token!($which, concat!("4 * ", $n, " + 96"), "g", "h"),
        )
    };
}

/// The sums over four quads of levels, without sign, times the activations from `16 * part` on. They wrap
/// beyond 16 bits; neighbours are not added yet.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn four_quads(
    levels: &[[u8; 4 * ROWS]; 4],
    tokens: &[[i8; GROUP]; TILE],
    part: usize,
) -> [[__m256i; 2]; TILE] {
    assert!(part < 2);
    let tokens = tokens.as_ptr().cast::<i8>().wrapping_add(16 * part);
    let (a, b, c, d, e, f, g, h);
    // SAFETY: reads 256 bytes of levels, and 16 bytes of each token from `16 * part` on, which are in its
    // 32 since `part` is at most 1. AVX2 is the caller's to have.
    unsafe {
        asm!(
            quad!(first, 0), quad!(next, 1), quad!(next, 2), quad!(next, 3),
            levels = in(reg) levels.as_ptr(), tokens = in(reg) tokens,
            a = out(ymm_reg) a, b = out(ymm_reg) b, c = out(ymm_reg) c, d = out(ymm_reg) d,
            e = out(ymm_reg) e, f = out(ymm_reg) f, g = out(ymm_reg) g, h = out(ymm_reg) h,
            w_low = out(ymm_reg) _, w_high = out(ymm_reg) _, x = out(ymm_reg) _, product = out(ymm_reg) _,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [[a, b], [c, d], [e, f], [g, h]]
}

/// The same over eight quads and all 32 activations.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn eight_quads(
    levels: &[[u8; 4 * ROWS]; 8],
    tokens: &[[i8; GROUP]; TILE],
) -> [[__m256i; 2]; TILE] {
    let (a, b, c, d, e, f, g, h);
    // SAFETY: reads the 512 bytes of levels and the 32 of each token. AVX2 is the caller's to have.
    unsafe {
        asm!(
            quad!(first, 0), quad!(next, 1), quad!(next, 2), quad!(next, 3),
            quad!(next, 4), quad!(next, 5), quad!(next, 6), quad!(next, 7),
            levels = in(reg) levels.as_ptr(), tokens = in(reg) tokens.as_ptr(),
            a = out(ymm_reg) a, b = out(ymm_reg) b, c = out(ymm_reg) c, d = out(ymm_reg) d,
            e = out(ymm_reg) e, f = out(ymm_reg) f, g = out(ymm_reg) g, h = out(ymm_reg) h,
            w_low = out(ymm_reg) _, w_high = out(ymm_reg) _, x = out(ymm_reg) _, product = out(ymm_reg) _,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [[a, b], [c, d], [e, f], [g, h]]
}

/// Takes 32 from every level whose products with token `$t` were added up, and multiplies by the factors of
/// half `$half`.
macro_rules! factored {
    ($half:literal, $t:literal, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd {x}, [{parts} + 20 * ",
            $t,
            " + 12 + 4 * ",
            $half,
            "]\n",
            "vpsubw {",
            $low,
            "}, {",
            $low,
            "}, {x}\n",
            "vpsubw {",
            $high,
            "}, {",
            $high,
            "}, {x}\n",
            "vpmaddwd {",
            $low,
            "}, {",
            $low,
            "}, {w_low}\n",
            "vpmaddwd {",
            $high,
            "}, {",
            $high,
            "}, {w_high}\n",
        )
    };
    ($half:literal) => {
        concat!(
            "vmovdqu {w_low}, [{factors} + 64 * ",
            $half,
            "]\n",
            "vmovdqu {w_high}, [{factors} + 64 * ",
            $half,
            " + 32]\n",
            factored!($half, 0, "a", "b"),
            factored!($half, 1, "c", "d"),
            factored!($half, 2, "e", "f"),
            factored!($half, 3, "g", "h"),
        )
    };
}

/// Keeps a vector at place `$n` for later.
macro_rules! keep {
    ($n:literal, $v:literal) => {
        concat!("vmovdqu [{kept} + 32 * ", $n, "], {", $v, "}\n")
    };
}

/// Adds what was kept at place `$n`.
macro_rules! fetch {
    ($n:literal, $v:literal) => {
        concat!("vpaddd {", $v, "}, {", $v, "}, [{kept} + 32 * ", $n, "]\n")
    };
}

/// The sums over a group of `factor (level - 32) x`, where each half of the group has its factors, twice for
/// each row.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn factored_quads(
    levels: &[[u8; 4 * ROWS]; 8],
    factors: &[[[i16; 2]; ROWS]; 2],
    tokens: &[[i8; GROUP]; TILE],
    parts: &[Parts; TILE],
) -> [[__m256i; 2]; TILE] {
    let mut kept = MaybeUninit::<[__m256i; 2 * TILE]>::uninit();
    let (a, b, c, d, e, f, g, h);
    // SAFETY: reads the 512 bytes of levels, the 32 of each token, the 128 of factors, and of each token's 20
    // bytes of parts the last 8; reads and writes eight vectors that are written before they are read. AVX2
    // is the caller's to have.
    unsafe {
        asm!(
            quad!(first, 0), quad!(next, 1), quad!(next, 2), quad!(next, 3),
            factored!(0),
            keep!(0, "a"), keep!(1, "b"), keep!(2, "c"), keep!(3, "d"),
            keep!(4, "e"), keep!(5, "f"), keep!(6, "g"), keep!(7, "h"),
            quad!(first, 4), quad!(next, 5), quad!(next, 6), quad!(next, 7),
            factored!(1),
            fetch!(0, "a"), fetch!(1, "b"), fetch!(2, "c"), fetch!(3, "d"),
            fetch!(4, "e"), fetch!(5, "f"), fetch!(6, "g"), fetch!(7, "h"),
            levels = in(reg) levels.as_ptr(), tokens = in(reg) tokens.as_ptr(),
            factors = in(reg) factors.as_ptr(), parts = in(reg) parts.as_ptr(),
            kept = in(reg) kept.as_mut_ptr(),
            a = out(ymm_reg) a, b = out(ymm_reg) b, c = out(ymm_reg) c, d = out(ymm_reg) d,
            e = out(ymm_reg) e, f = out(ymm_reg) f, g = out(ymm_reg) g, h = out(ymm_reg) h,
            w_low = out(ymm_reg) _, w_high = out(ymm_reg) _, x = out(ymm_reg) _, product = out(ymm_reg) _,
            options(nostack, preserves_flags),
        );
    }
    [[a, b], [c, d], [e, f], [g, h]]
}

/// Adds token `$t`'s integers as floats, times its unit and the scales of the rows in `w_low` and `w_high`, to
/// its totals.
macro_rules! add_scaled {
    ($t:literal, $low:literal, $high:literal) => {
        concat!(
            "vbroadcastss {x}, [{units} + 4 * ",
            $t,
            "]\n",
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
            "vmulps {",
            $low,
            "}, {",
            $low,
            "}, {x}\n",
            "vmulps {",
            $high,
            "}, {",
            $high,
            "}, {x}\n",
            "vfmadd213ps {",
            $low,
            "}, {w_low}, [{totals} + 64 * ",
            $t,
            "]\n",
            "vfmadd213ps {",
            $high,
            "}, {w_high}, [{totals} + 64 * ",
            $t,
            " + 32]\n",
            store_totals!($t, $low, $high),
        )
    };
}

/// Writes token `$t`'s totals.
macro_rules! store_totals {
    ($t:literal, $low:literal, $high:literal) => {
        concat!(
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

/// The products of a pair of words of 16 rows with a token's two activations at `$x`.
macro_rules! token_of_words {
    (first, $x:expr, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd {x}, [{tokens} + ",
            $x,
            "]\n",
            "vpmaddwd {",
            $low,
            "}, {w_low}, {x}\n",
            "vpmaddwd {",
            $high,
            "}, {w_high}, {x}\n",
        )
    };
    (next, $x:expr, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd {x}, [{tokens} + ",
            $x,
            "]\n",
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
}

/// Pair `$n`: 64 bytes of levels, and two activations of each token, which are 64 bytes apart.
macro_rules! pair {
    ($which:ident, $n:literal) => {
        concat!(
            "vmovdqu {w_low}, [{levels} + 64 * ",
            $n,
            "]\n",
            "vmovdqu {w_high}, [{levels} + 64 * ",
            $n,
            " + 32]\n",
            token_of_words!($which, concat!("4 * ", $n), "a", "b"),
            token_of_words!($which, concat!("4 * ", $n, " + 64"), "c", "d"),
            token_of_words!($which, concat!("4 * ", $n, " + 128"), "e", "f"),
            token_of_words!($which, concat!("4 * ", $n, " + 192"), "g", "h"),
        )
    };
}

/// The sums over groups of `scale unit level x`, levels and activations in words.
///
/// # Panics
/// If there are not as many groups of each.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn groups_of_words(
    levels: &[[[u8; 4 * ROWS]; 16]],
    scales: &[[f32; ROWS]],
    tokens: &[[[i16; GROUP]; TILE]],
    units: &[[f32; TILE]],
) -> [[__m256; 2]; TILE] {
    let groups = units.len();
    assert!(levels.len() >= groups && scales.len() >= groups, "levels");
    assert_eq!(tokens.len(), groups, "tokens");
    let mut totals = [[_mm256_setzero_ps(); 2]; TILE];
    if groups == 0 {
        return totals;
    }
    // SAFETY: reads, for each group, of which there is one at least, 1024 bytes of levels, 64 of each token,
    // 64 of scales and each token's unit; reads and writes the eight totals, which lie where vectors do. AVX2
    // and FMA are the caller's to have.
    unsafe {
        asm!(
            "2:",
            pair!(first, 0), pair!(next, 1), pair!(next, 2), pair!(next, 3),
            pair!(next, 4), pair!(next, 5), pair!(next, 6), pair!(next, 7),
            pair!(next, 8), pair!(next, 9), pair!(next, 10), pair!(next, 11),
            pair!(next, 12), pair!(next, 13), pair!(next, 14), pair!(next, 15),
            "vmovups {w_low}, [{scales}]", "vmovups {w_high}, [{scales} + 32]",
            add_scaled!(0, "a", "b"), add_scaled!(1, "c", "d"),
            add_scaled!(2, "e", "f"), add_scaled!(3, "g", "h"),
            "add {levels}, 64 * 16", "add {tokens}, 64 * 4", "add {scales}, 64", "add {units}, 4 * 4",
            "dec {groups}", "jnz 2b",
            levels = inout(reg) levels.as_ptr() => _, tokens = inout(reg) tokens.as_ptr() => _,
            scales = inout(reg) scales.as_ptr() => _, units = inout(reg) units.as_ptr() => _,
            groups = inout(reg) groups => _, totals = in(reg) totals.as_mut_ptr(),
            a = out(ymm_reg) _, b = out(ymm_reg) _, c = out(ymm_reg) _, d = out(ymm_reg) _,
            e = out(ymm_reg) _, f = out(ymm_reg) _, g = out(ymm_reg) _, h = out(ymm_reg) _,
            w_low = out(ymm_reg) _, w_high = out(ymm_reg) _, x = out(ymm_reg) _, product = out(ymm_reg) _,
            options(nostack),
        );
    }
    totals
}
