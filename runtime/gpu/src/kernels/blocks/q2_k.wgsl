// Q2_K: 256 weights in 84 bytes. See blocks/q2_k.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 84u;
const RUN = 16u;
const OFFSETS = true;

fn integers4(block: u32, j: u32) -> u32 {
    return (word_at(block + 16u + j / 128u * 32u + j % 32u) >> (j / 32u % 4u * 2u)) & 0x03030303u;
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    let packed = byte_at(block + j / 16u);
    let least = half_at(block + 82u) * f32(packed >> 4u);
    return vec2(half_at(block + 80u) * f32(packed & 15u), -least);
}
