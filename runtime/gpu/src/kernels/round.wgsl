// Floats rounded to integers of 8 bits: see rounded.rs of the kernels.

// Bits of the greatest float, without sign. Integers compare infinities and NaN as well.
fn greatest_of(a: vec4<f32>, b: vec4<f32>) -> u32 {
    let bits = max(bitcast<vec4<u32>>(a) & vec4(0x7fffffffu), bitcast<vec4<u32>>(b) & vec4(0x7fffffffu));
    let two = max(bits.xy, bits.zw);
    return max(two.x, two.y);
}

// What an integer is worth, if the greatest float has these bits. It is not finite if that is not.
fn unit_of(greatest: u32) -> f32 {
    return bitcast<f32>(greatest) / 127.0;
}

fn rounded(values: vec4<f32>, unit: f32) -> vec4<i32> {
    // Below this, devices may take a unit for zero, and its inverse is not finite.
    if !(unit > 1e-37) {
        return vec4(0);
    }
    return clamp(vec4<i32>(round(values * (1.0 / unit))), vec4(-127), vec4(127));
}
