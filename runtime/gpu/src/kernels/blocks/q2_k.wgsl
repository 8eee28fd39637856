// Q2_K: 256 weights in 84 bytes. See blocks/q2_k.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 84u;
const RUN = 16u;
const ZERO = 0u;
const OFFSETS = true;

fn integers8(block: u32, j: u32) -> vec2<u32> {
    let words = words2_at(block + 16u + j / 128u * 32u + j % 32u);
    return (words >> vec2(j / 32u % 4u * 2u)) & vec2(0x03030303u);
}

// Sixteen integers from `first` on behind the number `j`, a multiple of 32.
fn integers16(block: u32, j: u32, first: u32) -> vec4<u32> {
    let words = words4_at(block + 16u + j / 128u * 32u + first);
    return (words >> vec4(j / 32u % 4u * 2u)) & vec4(0x03030303u);
}

fn integers32(block: u32, j: u32) -> array<vec4<u32>, 2> {
    return array(integers16(block, j, 0u), integers16(block, j, 16u));
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    let packed = byte_at(block + j / 16u);
    let least = half_at(block + 82u) * f32(packed >> 4u);
    return vec2(half_at(block + 80u) * f32(packed & 15u), -least);
}
