// Q5_0: 32 weights in 22 bytes. See blocks/q5_0.rs of the kernels.

const BLOCK = 32u;
const BLOCK_BYTES = 22u;
const RUN = 32u;
const OFFSETS = false;

fn integers4(block: u32, j: u32) -> u32 {
    let low = nibbles(word_at(block + 6u + j % 16u), j / 16u);
    return less(low | (spread(word_at(block + 2u) >> j) << 4u), 0x10101010u);
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block), 0.0);
}
