//! Q2_K with 32-byte vectors.

use core::arch::x86_64::*;

use super::registers::{bits, half, load_32, spread};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q2_k::{BYTES, Block, LEN};

#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<16> {
    let block = Block::of(block);
    let (d, dmin) = (half(block.d), half(block.dmin));
    Scales {
        scale: block.scales.map(|pair| d * (pair & 15) as f32),
        min: block.scales.map(|pair| dmin * (pair >> 4) as f32),
    }
}

/// One run is half a block: 128 weights in the four bit pairs of 32 bytes.
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], run: usize) -> [__m256; 16] {
    let pairs = load_32(field(Block::of(block).qs, 32 * run));
    let quarters = [
        spread(bits::<0>(pairs, 3)),
        spread(bits::<2>(pairs, 3)),
        spread(bits::<4>(pairs, 3)),
        spread(bits::<6>(pairs, 3)),
    ];
    std::array::from_fn(|k| quarters[k / 4][k % 4])
}

kernels!(run: 128, sub: 16, min: true);
