// Q8_0: 32 weights in 34 bytes. See blocks/q8_0.rs of the kernels.

const BLOCK = 32u;
const BLOCK_BYTES = 34u;
const RUN = 32u;
const ZERO = 128u;
const OFFSETS = false;

fn integers8(block: u32, j: u32) -> vec2<u32> {
    return words2_at(block + 2u + j) ^ vec2(0x80808080u);
}

fn integers32(block: u32, j: u32) -> array<vec4<u32>, 2> {
    return array(words4_at(block + 2u) ^ vec4(0x80808080u), words4_at(block + 18u) ^ vec4(0x80808080u));
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block), 0.0);
}
