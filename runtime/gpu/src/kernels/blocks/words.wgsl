// Bytes of stored weights. `w` is an array of words, blocks are of any even number of bytes.

@group(0) @binding(0) var<storage, ACCESS> w: array<u32>;

fn byte_at(at: u32) -> u32 {
    return (w[at >> 2u] >> (8u * (at & 3u))) & 255u;
}

// `at` is even, as every block and every field of more than a byte begins.
fn pair_at(at: u32) -> u32 {
    return (w[at >> 2u] >> (8u * (at & 2u))) & 65535u;
}

// Words that begin at an even byte; where blocks are of whole words, at a word.

fn word_at(at: u32) -> u32 {
    let i = at >> 2u;
    if ALIGNED {
        return w[i];
    }
    // No word is read behind the one with the last byte.
    let odd = (at >> 1u) & 1u;
    let first = w[i];
    return select(first, (first >> 16u) | (w[i + odd] << 16u), odd == 1u);
}

fn words2_at(at: u32) -> vec2<u32> {
    let i = at >> 2u;
    let words = vec2(w[i], w[i + 1u]);
    if ALIGNED {
        return words;
    }
    let odd = (at >> 1u) & 1u;
    let next = vec2(words.y, w[i + 1u + odd]);
    return select(words, (words >> vec2(16u)) | (next << vec2(16u)), odd == 1u);
}

fn words4_at(at: u32) -> vec4<u32> {
    let i = at >> 2u;
    let words = vec4(w[i], w[i + 1u], w[i + 2u], w[i + 3u]);
    if ALIGNED {
        return words;
    }
    let odd = (at >> 1u) & 1u;
    let next = vec4(words.yzw, w[i + 3u + odd]);
    return select(words, (words >> vec4(16u)) | (next << vec4(16u)), odd == 1u);
}

// The value of an f16, with integers and exact products only: devices may take what is below 2^-14 for
// zero when they convert, and the scales of K blocks often are.
fn half_value(bits: u32) -> f32 {
    let exponent = bits & 0x7c00u;
    let small = exponent == 0u;
    // As a float with the same exponent; what has none gets the least, which is taken away again.
    let finite = select(0x38000000u, 0x38800000u, small);
    let wide = select(finite, 0x70000000u, exponent == 0x7c00u);
    let magnitude = bitcast<f32>(((bits & 0x7fffu) << 13u) + wide) - select(0.0, 6.103515625e-5, small); // 2^-14
    return bitcast<f32>(bitcast<u32>(magnitude) | ((bits & 0x8000u) << 16u));
}

fn half_at(at: u32) -> f32 {
    return half_value(pair_at(at));
}

fn signed_byte(value: u32) -> f32 {
    return f32(bitcast<i32>(value << 24u) >> 24u);
}
