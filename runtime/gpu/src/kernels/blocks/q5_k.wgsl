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

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    // Two f16; then six bits of scale and of minimum for each of four runs, and above them two bits of the four
    // runs whose lower four bits are in the last word.
    let at = block >> 2u;
    let halves = w[at];
    let run = j / 32u;
    let shift = vec2(8u * (run % 4u));
    let six = vec2(w[at + 1u], w[at + 2u]) >> shift;
    let four = (vec2(w[at + 3u], w[at + 3u] >> 4u) >> shift) & vec2(15u);
    let packed = select(six & vec2(63u), four | ((six >> vec2(2u)) & vec2(48u)), run >= 4u);
    return vec2<f32>(packed) * vec2(half_value(halves & 65535u), -half_value(halves >> 16u));
}
