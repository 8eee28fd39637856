// Q5_K: 256 weights in 176 bytes. See blocks/q5_k.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 176u;
const RUN = 32u;
const OFFSETS = true;

fn integers4(block: u32, j: u32) -> u32 {
    let run = j / 32u;
    let low = nibbles(word_at(block + 48u + run / 2u * 32u + j % 32u), run % 2u);
    let high = (word_at(block + 16u + j % 32u) >> run) & 0x01010101u;
    return low | (high << 4u);
}

// Scale and minimum of run `run`, whose packed bytes begin at `at`; as integers.
fn scale_min(at: u32, run: u32) -> vec2<f32> {
    if run < 4u {
        return vec2(f32(byte_at(at + run) & 63u), f32(byte_at(at + run + 4u) & 63u));
    }
    let low = byte_at(at + run + 4u);
    let scale = (low & 15u) | ((byte_at(at + run - 4u) >> 6u) << 4u);
    let least = (low >> 4u) | ((byte_at(at + run) >> 6u) << 4u);
    return vec2(f32(scale), f32(least));
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    let packed = scale_min(block + 4u, j / 32u);
    return vec2(half_at(block) * packed.x, -half_at(block + 2u) * packed.y);
}
