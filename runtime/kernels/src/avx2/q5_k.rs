//! Q5_K with 32-byte vectors.

use core::arch::x86_64::*;

use super::q4_k::scale_pairs;
use super::registers::{bits, load_32};
use super::walk::{Scales, kernels};
use crate::blocks::field;
use crate::blocks::q5_k::{BYTES, Block, LEN};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(block: &[u8; BYTES]) -> Scales<8> {
    scale_pairs(field(block, 0))
}

#[inline]
#[target_feature(enable = "avx2")]
fn levels(block: &[u8; BYTES], run: usize) -> [__m256i; 2] {
    let block = Block::of(block);
    let (nibbles, upper) = (load_32(field(block.qs, 32 * run)), load_32(block.qh));
    // Bits 2 * run and 2 * run + 1 come down to bits 0 and 1.
    let upper = _mm256_srl_epi16(upper, _mm_cvtsi32_si128(2 * run as i32));
    let fifth = |bit: __m256i| _mm256_and_si256(bit, _mm256_set1_epi8(16));
    let low = _mm256_or_si256(bits::<0>(nibbles, 15), fifth(_mm256_slli_epi16(upper, 4)));
    let high = _mm256_or_si256(bits::<4>(nibbles, 15), fifth(_mm256_slli_epi16(upper, 3)));
    [low, high]
}

kernels!(Q5K, run: 64);
