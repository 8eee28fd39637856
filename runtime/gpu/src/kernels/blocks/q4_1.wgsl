// Q4_1: 32 weights in 20 bytes. See blocks/q4_1.rs of the kernels.

const BLOCK = 32u;
const BLOCK_BYTES = 20u;
const RUN = 32u;
const OFFSETS = true;

fn integers4(block: u32, j: u32) -> u32 {
    return nibbles(word_at(block + 4u + j % 16u), j / 16u);
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block), half_at(block + 2u));
}
