//! IQ4_XS with 64-byte vectors.

use core::arch::x86_64::*;

use super::registers::{half, lookup_nibbles, table};
use super::walk::kernels;
use crate::blocks::field;
use crate::blocks::iq4_nl::GRID_F32;
use crate::blocks::iq4_xs::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn scales(block: &[u8; BYTES]) -> [f32; 8] {
    let block = Block::of(block);
    let d = half(block.d);
    let mut scales = [0.0; 8];
    for (j, scale) in scales.iter_mut().enumerate() {
        *scale = d * block.scale(j) as f32;
    }
    scales
}

#[inline]
#[target_feature(enable = "avx512f")]
fn weights(block: &[u8; BYTES], scales: &[f32; 8], run: usize) -> [[__m512; 2]; 1] {
    let qs = field(Block::of(block).qs, 16 * run);
    [lookup_nibbles(table(&GRID_F32, scales[run]), qs)]
}

kernels!(run: 32);
