// Q6_K: 256 weights in 210 bytes. See blocks/q6_k.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 210u;
const RUN = 16u;
const ZERO = 32u;
const OFFSETS = false;

fn integers8(block: u32, j: u32) -> vec2<u32> {
    let half = j / 128u;
    let k = j / 32u % 4u;
    let low = nibbles(words2_at(block + 64u * half + k % 2u * 32u + j % 32u), k / 2u);
    let high = words2_at(block + 128u + 32u * half + j % 32u) >> vec2(2u * k);
    return low | ((high & vec2(0x03030303u)) << vec2(4u));
}

// Sixteen integers from `first` on behind the number `j`, a multiple of 32.
fn integers16(block: u32, j: u32, first: u32) -> vec4<u32> {
    let half = j / 128u;
    let k = j / 32u % 4u;
    let low = nibbles4(words4_at(block + 64u * half + k % 2u * 32u + first), k / 2u);
    let high = words4_at(block + 128u + 32u * half + first) >> vec4(2u * k);
    return low | ((high & vec4(0x03030303u)) << vec4(4u));
}

fn integers32(block: u32, j: u32) -> array<vec4<u32>, 2> {
    return array(integers16(block, j, 0u), integers16(block, j, 16u));
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block + 208u) * signed_byte(byte_at(block + 192u + j / 16u)), 0.0);
}
