// Q5_0: 32 weights in 22 bytes. See blocks/q5_0.rs of the kernels.

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / 32u * 22u;
    let low = fields(word_at(block + 6u + i % 16u), i % 32u / 16u * 4u, 15u);
    let high = (vec4(word_at(block + 2u) >> (i % 32u)) >> vec4(0u, 1u, 2u, 3u)) & vec4(1u);
    return half_at(block) * (vec4<f32>(low | (high << vec4(4u))) - 16.0);
}
