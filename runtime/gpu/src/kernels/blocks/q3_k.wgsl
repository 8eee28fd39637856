// Q3_K: 256 weights in 110 bytes. See blocks/q3_k.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 110u;
const RUN = 16u;
const ZERO = 4u;
const OFFSETS = false;

fn integers8(block: u32, j: u32) -> vec2<u32> {
    let low = words2_at(block + 32u + j / 128u * 32u + j % 32u) >> vec2(j / 32u % 4u * 2u);
    let high = words2_at(block + j % 32u) >> vec2(j / 32u);
    return (low & vec2(0x03030303u)) | ((high & vec2(0x01010101u)) << vec2(2u));
}

// Sixteen integers from `first` on behind the number `j`, a multiple of 32.
fn integers16(block: u32, j: u32, first: u32) -> vec4<u32> {
    let low = words4_at(block + 32u + j / 128u * 32u + first) >> vec4(j / 32u % 4u * 2u);
    let high = words4_at(block + first) >> vec4(j / 32u);
    return (low & vec4(0x03030303u)) | ((high & vec4(0x01010101u)) << vec4(2u));
}

fn integers32(block: u32, j: u32) -> array<vec4<u32>, 2> {
    return array(integers16(block, j, 0u), integers16(block, j, 16u));
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    let run = j / 16u;
    let low = (byte_at(block + 96u + run % 8u) >> (run / 8u * 4u)) & 15u;
    let high = (byte_at(block + 104u + run % 4u) >> (run / 4u * 2u)) & 3u;
    return vec2(half_at(block + 108u) * (f32(low | (high << 4u)) - 32.0), 0.0);
}
