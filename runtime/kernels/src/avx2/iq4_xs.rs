//! IQ4_XS with 32-byte vectors.

use core::arch::x86_64::*;

use super::iq4_nl::on_grid;
use super::registers::half;
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::iq4_xs::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<8> {
    let block = Block::of(block);
    let d = half(block.d);
    let mut scales = Scales {
        scale: [0.0; 8],
        min: [0.0; 8],
    };
    for (j, scale) in scales.scale.iter_mut().enumerate() {
        *scale = d * block.scale(j) as f32;
    }
    scales
}

#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], run: usize) -> [__m256i; 1] {
    [on_grid(field(Block::of(block).qs, 16 * run))]
}

kernels!(IQ4XS, run: 32);
