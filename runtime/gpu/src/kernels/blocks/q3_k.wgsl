// Q3_K: 256 weights in 110 bytes. See blocks/q3_k.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 110u;
const RUN = 16u;
const OFFSETS = false;

fn integers4(block: u32, j: u32) -> u32 {
    let low = (word_at(block + 32u + j / 128u * 32u + j % 32u) >> (j / 32u % 4u * 2u)) & 0x03030303u;
    let high = (word_at(block + j % 32u) >> (j / 32u)) & 0x01010101u;
    return less(low | (high << 2u), 0x04040404u);
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    let run = j / 16u;
    let low = (byte_at(block + 96u + run % 8u) >> (run / 8u * 4u)) & 15u;
    let high = (byte_at(block + 104u + run % 4u) >> (run / 4u * 2u)) & 3u;
    return vec2(half_at(block + 108u) * (f32(low | (high << 4u)) - 32.0), 0.0);
}
