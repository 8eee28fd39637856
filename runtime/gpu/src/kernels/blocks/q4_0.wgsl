// Q4_0: 32 weights in 18 bytes. See blocks/q4_0.rs of the kernels.

const BLOCK = 32u;
const BLOCK_BYTES = 18u;
const RUN = 32u;
const OFFSETS = false;

fn integers4(block: u32, j: u32) -> u32 {
    return less(nibbles(word_at(block + 2u + j % 16u), j / 16u), 0x08080808u);
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block), 0.0);
}
