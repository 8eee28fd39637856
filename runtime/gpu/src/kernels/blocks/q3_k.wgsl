// Q3_K: 256 weights in 110 bytes. See blocks/q3_k.rs of the kernels.

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / 256u * 110u;
    let j = i % 256u;
    let sub = j / 16u;
    let scale_low = (byte_at(block + 96u + sub % 8u) >> (sub / 8u * 4u)) & 15u;
    let scale_high = (byte_at(block + 104u + sub % 4u) >> (sub / 4u * 2u)) & 3u;
    let scale = half_at(block + 108u) * (f32(scale_low | (scale_high << 4u)) - 32.0);
    let low = fields(word_at(block + 32u + j / 128u * 32u + j % 32u), j / 32u % 4u * 2u, 3u);
    let high = fields(word_at(block + j % 32u), j / 32u, 1u);
    return scale * (vec4<f32>(low | (high << vec4(2u))) - 4.0);
}
