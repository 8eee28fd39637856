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

// What floats are multiplied with to be rounded.
fn inverse_of(unit: f32) -> f32 {
    // Below this, devices may take a unit for zero, and its inverse is not finite.
    return select(0.0, 1.0 / unit, unit > 1e-37);
}

// What is added to a float this great is rounded to a whole number, whose bits are the sum's last ones, and an integer
// of less than 22 bits that is added to its bits is added to the float. Many cards convert at a quarter of the speed at
// which they add.
const WHOLE = 12582912.0; // 1.5 * 2^23
const WHOLE_BITS = 0x4b400000i;

// Four integers, a byte each, the first lowest.
fn rounded(values: vec4<f32>, inverse: f32) -> u32 {
    return pack4xI8(bitcast<vec4<i32>>(values * inverse + WHOLE));
}
