//! Q8_0 with 64-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, signed};
use super::walk::kernels;
use crate::blocks::field;
use crate::blocks::q8_0::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> f32 {
    half(Block::of(block).d)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], d: &f32, _run: usize) -> [[__m512; 2]; 1] {
    let d = _mm512_set1_ps(*d);
    let qs = Block::of(block).qs;
    [[
        _mm512_mul_ps(signed(field(qs, 0)), d),
        _mm512_mul_ps(signed(field(qs, 16)), d),
    ]]
}

kernels!(run: 32);
