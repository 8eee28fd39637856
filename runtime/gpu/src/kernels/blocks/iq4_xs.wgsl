// IQ4_XS: 256 weights in 136 bytes. See blocks/iq4_xs.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 136u;
const RUN = 32u;
const OFFSETS = false;

// The grid of IQ4_NL: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113, four to a
// word.
const GRID = vec4(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);

fn on_grid(q: u32) -> u32 {
    return (GRID[q >> 2u] >> (8u * (q & 3u))) & 255u;
}

// The grid's numbers for a word of four nibbles, each in a byte.
fn on_grid4(q: u32) -> u32 {
    let low = on_grid(q & 15u) | (on_grid((q >> 8u) & 15u) << 8u);
    return low | (on_grid((q >> 16u) & 15u) << 16u) | (on_grid(q >> 24u) << 24u);
}

fn integers4(block: u32, j: u32) -> u32 {
    return on_grid4(nibbles(word_at(block + 8u + j / 32u * 16u + j % 16u), j % 32u / 16u));
}

fn scale_offset(block: u32, j: u32) -> vec2<f32> {
    let run = j / 32u;
    let low = (byte_at(block + 4u + run / 2u) >> (run % 2u * 4u)) & 15u;
    let high = (pair_at(block + 2u) >> (2u * run)) & 3u;
    return vec2(half_at(block) * (f32(low | (high << 4u)) - 32.0), 0.0);
}
