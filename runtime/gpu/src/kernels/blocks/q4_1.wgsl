// Q4_1: 32 weights in 20 bytes. See blocks/q4_1.rs of the kernels.

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / 32u * 20u;
    let q = fields(word_at(block + 4u + i % 16u), i % 32u / 16u * 4u, 15u);
    return half_at(block) * vec4<f32>(q) + half_at(block + 2u);
}
