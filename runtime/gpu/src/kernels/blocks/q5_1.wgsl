// Q5_1: 32 weights in 24 bytes. See blocks/q5_1.rs of the kernels.

const BLOCK = 32u;
const BLOCK_BYTES = 24u;
const RUN = 32u;
const OFFSETS = true;

fn integers4(block: u32, j: u32) -> u32 {
    let low = nibbles(word_at(block + 8u + j % 16u), j / 16u);
    return low | (spread(word_at(block + 4u) >> j) << 4u);
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block), half_at(block + 2u));
}
