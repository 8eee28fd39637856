// Weights that are stored as floats: each is weight(row, i), zero from the row's end on.

// Blocks are of one weight; a row begins at any even byte.
const ALIGNED = false;

// Eight weights of a row, `i` on; the row begins at byte `row`.
fn decode8(row: u32, i: u32) -> array<vec4<f32>, 2> {
    return array(four(row, i), four(row, i + 4u));
}

fn four(row: u32, i: u32) -> vec4<f32> {
    return vec4(weight(row, i), weight(row, i + 1u), weight(row, i + 2u), weight(row, i + 3u));
}

// 32 weights.
struct Stored {
    eights: array<array<vec4<f32>, 2>, 4>,
}

fn stored32(row: u32, i: u32) -> Stored {
    return Stored(array(decode8(row, i), decode8(row, i + 8u), decode8(row, i + 16u), decode8(row, i + 24u)));
}

fn eight_of(stored: Stored, eight: u32) -> array<vec4<f32>, 2> {
    return stored.eights[eight];
}
