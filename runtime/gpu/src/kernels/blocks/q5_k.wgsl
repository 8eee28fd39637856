// Q5_K: 256 weights in 176 bytes. See blocks/q5_k.rs of the kernels.

// Scale and minimum of sub-block `sub`, whose packed bytes begin at `at`; as integers.
fn scale_min(at: u32, sub: u32) -> vec2<f32> {
    if sub < 4u {
        return vec2(f32(byte_at(at + sub) & 63u), f32(byte_at(at + sub + 4u) & 63u));
    }
    let low = byte_at(at + sub + 4u);
    let scale = (low & 15u) | ((byte_at(at + sub - 4u) >> 6u) << 4u);
    let least = (low >> 4u) | ((byte_at(at + sub) >> 6u) << 4u);
    return vec2(f32(scale), f32(least));
}

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / 256u * 176u;
    let sub = i % 256u / 32u;
    let packed = scale_min(block + 4u, sub);
    let low = fields(word_at(block + 48u + sub / 2u * 32u + i % 32u), sub % 2u * 4u, 15u);
    let high = fields(word_at(block + 16u + i % 32u), sub, 1u);
    let scale = half_at(block) * packed.x;
    let least = half_at(block + 2u) * packed.y;
    return scale * vec4<f32>(low | (high << vec4(4u))) - least;
}
