//! Q8_0 with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, load_32};
use super::walk::{Scales, kernels};
use crate::blocks::q8_0::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<1> {
    Scales {
        scale: [half(Block::of(block).d)],
        min: [0.0],
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], _run: usize) -> [__m256i; 1] {
    [load_32(Block::of(block).qs)]
}

kernels!(Q8_0, run: 32);
