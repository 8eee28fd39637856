// F32. See blocks/floats.rs of the kernels.

fn weight(row: u32, i: u32) -> f32 {
    if i >= p.inputs {
        return 0.0;
    }
    return bitcast<f32>(w[(row >> 2u) + i]);
}

// Four weights of a row, `i` on; `i` is a multiple of 4 and the row begins at byte `row`.
fn decode4(row: u32, i: u32) -> vec4<f32> {
    return vec4(weight(row, i), weight(row, i + 1u), weight(row, i + 2u), weight(row, i + 3u));
}
