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
