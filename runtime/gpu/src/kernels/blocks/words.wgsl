// Bytes of stored weights. `w` is an array of words, blocks are of any even number of bytes.

@group(0) @binding(0) var<storage, ACCESS> w: array<u32>;

fn byte_at(at: u32) -> u32 {
    return (w[at >> 2u] >> (8u * (at & 3u))) & 255u;
}

// `at` is even, as every block and every field of more than a byte begins.
fn pair_at(at: u32) -> u32 {
    return (w[at >> 2u] >> (8u * (at & 2u))) & 65535u;
}

fn word_at(at: u32) -> u32 {
    let i = at >> 2u;
    if (at & 2u) == 0u {
        return w[i];
    }
    return (w[i] >> 16u) | (w[i + 1u] << 16u);
}

// The value of an f16, with integers and exact products only: devices may take what is below 2^-14 for
// zero when they convert, and the scales of K blocks often are.
fn half_value(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let exponent = (bits >> 10u) & 31u;
    let fraction = bits & 1023u;
    if exponent == 0u {
        let small = f32(fraction) * 5.9604644775390625e-8; // 2^-24
        return select(small, -small, sign != 0u);
    }
    let wide = select(exponent + 112u, 255u, exponent == 31u);
    return bitcast<f32>(sign | (wide << 23u) | (fraction << 13u));
}

fn half_at(at: u32) -> f32 {
    return half_value(pair_at(at));
}

fn signed_byte(value: u32) -> f32 {
    return f32(bitcast<i32>(value << 24u) >> 24u);
}

fn signed_bytes(word: u32) -> vec4<f32> {
    let high = vec4(word) << vec4(24u, 16u, 8u, 0u);
    return vec4<f32>(bitcast<vec4<i32>>(high) >> vec4(24u));
}
