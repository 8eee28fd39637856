// IQ4_NL: 32 weights in 18 bytes. See blocks/iq4_nl.rs of the kernels.

const BLOCK = 32u;
const BLOCK_BYTES = 18u;
const RUN = 32u;
const ZERO = 128u;
const OFFSETS = false;

// The grid of IQ4_NL: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113, four to a
// word, each and 128.
const GRID = vec4(0x3f2d1801u, 0x766a5d4fu, 0xa6998d81u, 0xf1d9c5b5u);

fn on_grid(q: u32) -> u32 {
    return (GRID[q >> 2u] >> (8u * (q & 3u))) & 255u;
}

// The grid's numbers for a word of four nibbles, each in a byte.
fn on_grid4(q: u32) -> u32 {
    let low = on_grid(q & 15u) | (on_grid((q >> 8u) & 15u) << 8u);
    return low | (on_grid((q >> 16u) & 15u) << 16u) | (on_grid(q >> 24u) << 24u);
}

fn on_grid8(q: vec2<u32>) -> vec2<u32> {
    return vec2(on_grid4(q.x), on_grid4(q.y));
}

fn on_grid16(q: vec4<u32>) -> vec4<u32> {
    return vec4(on_grid8(q.xy), on_grid8(q.zw));
}

fn integers8(block: u32, j: u32) -> vec2<u32> {
    return on_grid8(nibbles(words2_at(block + 2u + j % 16u), j / 16u));
}

fn integers32(block: u32, j: u32) -> array<vec4<u32>, 2> {
    let words = words4_at(block + 2u);
    return array(on_grid16(nibbles4(words, 0u)), on_grid16(nibbles4(words, 1u)));
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    return vec2(half_at(block), 0.0);
}
