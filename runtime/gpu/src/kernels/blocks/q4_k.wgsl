// Q4_K: 256 weights in 144 bytes. See blocks/q4_k.rs of the kernels.

const BLOCK = 256u;
const BLOCK_BYTES = 144u;
const RUN = 32u;
const ZERO = 0u;
const OFFSETS = true;

fn integers8(block: u32, j: u32) -> vec2<u32> {
    let run = j / 32u;
    return nibbles(words2_at(block + 16u + run / 2u * 32u + j % 32u), run % 2u);
}

fn integers32(block: u32, j: u32) -> array<vec4<u32>, 2> {
    let run = j / 32u;
    let at = block + 16u + run / 2u * 32u;
    return array(nibbles4(words4_at(at), run % 2u), nibbles4(words4_at(at + 16u), run % 2u));
}
