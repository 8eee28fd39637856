// Q2_K: 256 weights in 84 bytes. See blocks/q2_k.rs of the kernels.

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / 256u * 84u;
    let j = i % 256u;
    let scale_min = byte_at(block + j / 16u);
    let scale = half_at(block + 80u) * f32(scale_min & 15u);
    let least = half_at(block + 82u) * f32(scale_min >> 4u);
    let q = fields(word_at(block + 16u + j / 128u * 32u + j % 32u), j / 32u % 4u * 2u, 3u);
    return scale * vec4<f32>(q) - least;
}
