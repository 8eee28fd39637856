// Q5_1: 32 weights in 24 bytes. See blocks/q5_1.rs of the kernels.

const BLOCK = 32u;
const BLOCK_BYTES = 24u;
const RUN = 32u;
const ZERO = 0u;
const OFFSETS = true;

fn integers8(block: u32, j: u32) -> vec2<u32> {
    let high = spread(word_at(block + 4u) >> j);
    return nibbles(words2_at(block + 8u + j % 16u), j / 16u) | (high << vec2(4u));
}

fn integers32(block: u32, j: u32) -> array<vec4<u32>, 2> {
    let words = words4_at(block + 8u);
    let high = word_at(block + 4u);
    return array(
        nibbles4(words, 0u) | (spread4(high) << vec4(4u)),
        nibbles4(words, 1u) | (spread4(high >> 16u) << vec4(4u)),
    );
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block), half_at(block + 2u));
}
