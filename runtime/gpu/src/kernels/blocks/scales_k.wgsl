// Scales and minimums of Q4_K and Q5_K.

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
