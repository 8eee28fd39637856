// Q6_K: 256 weights in 210 bytes. See blocks/q6_k.rs of the kernels.

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / 256u * 210u;
    let j = i % 256u;
    let half = j / 128u;
    let k = j / 32u % 4u;
    let scale = half_at(block + 208u) * signed_byte(byte_at(block + 192u + j / 16u));
    let low = fields(word_at(block + 64u * half + k % 2u * 32u + j % 32u), k / 2u * 4u, 15u);
    let high = fields(word_at(block + 128u + 32u * half + j % 32u), 2u * k, 3u);
    return scale * (vec4<f32>(low | (high << vec4(4u))) - 32.0);
}
