// Q4_0: 32 weights in 18 bytes. See blocks/q4_0.rs of the kernels.

const BLOCK = 32u;
const BLOCK_BYTES = 18u;
const RUN = 32u;
const ZERO = 8u;
const OFFSETS = false;

fn integers8(block: u32, j: u32) -> vec2<u32> {
    return nibbles(words2_at(block + 2u + j % 16u), j / 16u);
}

fn integers32(block: u32, j: u32) -> array<vec4<u32>, 2> {
    let words = words4_at(block + 2u);
    return array(nibbles4(words, 0u), nibbles4(words, 1u));
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block), 0.0);
}
