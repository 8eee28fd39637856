// Q5_K: 256 weights in 176 bytes. See blocks/q5_k.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 176u;
const RUN = 32u;
const ZERO = 0u;
const OFFSETS = true;

fn integers8(block: u32, j: u32) -> vec2<u32> {
    let run = j / 32u;
    let low = nibbles(words2_at(block + 48u + run / 2u * 32u + j % 32u), run % 2u);
    let high = words2_at(block + 16u + j % 32u) >> vec2(run);
    return low | ((high & vec2(0x01010101u)) << vec2(4u));
}

// Sixteen integers from `first` on behind the number `j`, a multiple of 32.
fn integers16(block: u32, j: u32, first: u32) -> vec4<u32> {
    let run = j / 32u;
    let low = nibbles4(words4_at(block + 48u + run / 2u * 32u + first), run % 2u);
    let high = words4_at(block + 16u + first) >> vec4(run);
    return low | ((high & vec4(0x01010101u)) << vec4(4u));
}

fn integers32(block: u32, j: u32) -> array<vec4<u32>, 2> {
    return array(integers16(block, j, 0u), integers16(block, j, 16u));
}
