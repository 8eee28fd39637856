// Weights that are stored as integers: each is scale * integer + offset. A type's file says how many a block
// has and of how many bytes it is, how many weights in a row share a scale (RUN) and whether there are offsets
// (OFFSETS); what it defines takes the block's first byte and the number of a weight in it:
//
//   integers4     four integers of 8 bits with signs, the first lowest; the number is a multiple of 4
//   scale_offset  scale and offset of the weight's run

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    let block = row + i / BLOCK * BLOCK_BYTES;
    let form = scale_offset(block, i % BLOCK);
    let weights = form.x * signed_bytes(integers4(block, i % BLOCK));
    if OFFSETS {
        return weights + form.y;
    }
    return weights;
}

// The lower four bits of each byte, or the upper.
fn nibbles(word: u32, upper: u32) -> u32 {
    return (word >> (4u * upper)) & 0x0f0f0f0fu;
}

// The lowest four bits, each in a byte.
fn spread(bits: u32) -> u32 {
    return ((bits & 15u) * 0x00204081u) & 0x01010101u;
}

// Bytes of up to 127 less bytes of up to 128, with signs: no byte borrows from the next.
fn less(bytes: u32, by: u32) -> u32 {
    return ((bytes | 0x80808080u) - by) ^ 0x80808080u;
}
