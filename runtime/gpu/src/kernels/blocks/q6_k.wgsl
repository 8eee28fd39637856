// Q6_K: 256 weights in 210 bytes. See blocks/q6_k.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 210u;
const RUN = 16u;
const OFFSETS = false;

fn integers4(block: u32, j: u32) -> u32 {
    let half = j / 128u;
    let k = j / 32u % 4u;
    let low = nibbles(word_at(block + 64u * half + k % 2u * 32u + j % 32u), k / 2u);
    let high = (word_at(block + 128u + 32u * half + j % 32u) >> (2u * k)) & 0x03030303u;
    return less(low | (high << 4u), 0x20202020u);
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block + 208u) * signed_byte(byte_at(block + 192u + j / 16u)), 0.0);
}
