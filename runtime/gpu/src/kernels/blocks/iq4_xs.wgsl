// IQ4_XS: 256 weights in 136 bytes. See blocks/iq4_xs.rs of the kernels.

// The grid of IQ4_NL: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113, four to a
// word.
const GRID = vec4(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);

fn on_grid(q: u32) -> f32 {
    return signed_byte((GRID[q >> 2u] >> (8u * (q & 3u))) & 255u);
}

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / 256u * 136u;
    let sub = i % 256u / 32u;
    let scale_low = (byte_at(block + 4u + sub / 2u) >> (sub % 2u * 4u)) & 15u;
    let scale_high = (pair_at(block + 2u) >> (2u * sub)) & 3u;
    let scale = half_at(block) * (f32(scale_low | (scale_high << 4u)) - 32.0);
    let q = fields(word_at(block + 8u + 16u * sub + i % 16u), i % 32u / 16u * 4u, 15u);
    return scale * vec4(on_grid(q.x), on_grid(q.y), on_grid(q.z), on_grid(q.w));
}
