// Q4_0: 32 weights in 18 bytes. See blocks/q4_0.rs of the kernels.

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / 32u * 18u;
    let q = fields(word_at(block + 2u + i % 16u), i % 32u / 16u * 4u, 15u);
    return half_at(block) * (vec4<f32>(q) - 8.0);
}
