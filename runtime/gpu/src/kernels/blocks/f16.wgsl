// F16. See blocks/floats.rs of the kernels.

fn weight(row: u32, i: u32) -> f32 {
    if i >= p.inputs {
        return 0.0;
    }
    return half_at(row + 2u * i);
}
