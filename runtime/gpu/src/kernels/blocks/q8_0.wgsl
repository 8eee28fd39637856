// Q8_0: 32 weights in 34 bytes. See blocks/q8_0.rs of the kernels.

const BLOCK = 32u;
const BLOCK_BYTES = 34u;
const RUN = 32u;
const OFFSETS = false;

fn integers4(block: u32, j: u32) -> u32 {
    return word_at(block + 2u + j);
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block), 0.0);
}
