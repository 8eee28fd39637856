// Weights that are stored as integers: each is scale * (integer - ZERO) + offset. A type's file says how many a
// block has and of how many bytes it is, how many weights in a row share a scale (RUN), what ZERO is and whether there
// are offsets (OFFSETS); what it defines takes the block's first byte and the number of a weight in it:
//
//   integers8     eight integers without signs, a byte each, the first lowest; the number is a multiple of 8
//   integers32    32 of them; the number is a multiple of 32
//   scale_offset  scale and offset of the weight's run

const ALIGNED = BLOCK_BYTES % 4u == 0u;
const RUNS = 32u / RUN;

// Eight weights of a run.
fn weights8(form: vec2<f32>, integers: vec2<u32>) -> array<vec4<f32>, 2> {
    // ZERO is a power of two, so this rounds once, as the product with the difference does.
    let offset = vec4(form.y - form.x * f32(ZERO));
    let scale = vec4(form.x);
    return array(fma(scale, bytes(integers.x), offset), fma(scale, bytes(integers.y), offset));
}

// Eight weights of a row, `i` on; `i` is a multiple of 8 and the row begins at byte `row`.
fn decode8(row: u32, i: u32) -> array<vec4<f32>, 2> {
    let block = row + i / BLOCK * BLOCK_BYTES;
    return weights8(scale_offset(block, i % BLOCK), integers8(block, i % BLOCK));
}

// 32 weights as they are read, before there is a float for each.
struct Stored {
    forms: array<vec2<f32>, RUNS>,
    integers: array<vec4<u32>, 2>,
}

// `i` is a multiple of 32.
fn stored32(row: u32, i: u32) -> Stored {
    let block = row + i / BLOCK * BLOCK_BYTES;
    let j = select(i % BLOCK, 0u, BLOCK == 32u);
    var stored: Stored;
    for (var run = 0u; run < RUNS; run++) {
        stored.forms[run] = scale_offset(block, j + RUN * run);
    }
    stored.integers = integers32(block, j);
    return stored;
}

// The `eight`-th eight of them.
fn eight_of(stored: Stored, eight: u32) -> array<vec4<f32>, 2> {
    let sixteen = stored.integers[eight / 2u];
    return weights8(stored.forms[eight * RUNS / 4u], select(sixteen.xy, sixteen.zw, eight % 2u == 1u));
}

// Bytes as floats.
fn bytes(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u));
}

// Integers less ZERO, with signs.
fn signed8(integers: vec2<u32>) -> vec2<u32> {
    if ZERO == 0u {
        return integers;
    }
    if ZERO == 128u {
        return integers ^ vec2(0x80808080u);
    }
    // No byte borrows from the next.
    return ((integers | vec2(0x80808080u)) - vec2(ZERO * 0x01010101u)) ^ vec2(0x80808080u);
}

// The lower four bits of each byte, or the upper.
fn nibbles(words: vec2<u32>, upper: u32) -> vec2<u32> {
    return (words >> vec2(4u * upper)) & vec2(0x0f0f0f0fu);
}

fn nibbles4(words: vec4<u32>, upper: u32) -> vec4<u32> {
    return (words >> vec4(4u * upper)) & vec4(0x0f0f0f0fu);
}

// The lowest eight bits, each in a byte.
fn spread(bits: u32) -> vec2<u32> {
    return ((vec2(bits, bits >> 4u) & vec2(15u)) * 0x00204081u) & vec2(0x01010101u);
}

fn spread4(bits: u32) -> vec4<u32> {
    return vec4(spread(bits), spread(bits >> 8u));
}
