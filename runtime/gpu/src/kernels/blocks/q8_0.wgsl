// Q8_0: 32 weights in 34 bytes. See blocks/q8_0.rs of the kernels.

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / 32u * 34u;
    return half_at(block) * signed_bytes(word_at(block + 2u + i % 32u));
}
