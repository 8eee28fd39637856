// Up to four floats of an array, zeros behind them.

fn x4(at: u32, count: u32) -> vec4<f32> {
    if count >= 4u {
        return vec4(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
    }
    var few = vec4(0.0);
    for (var j = 0u; j < count; j++) {
        few[j] = x[at + j];
    }
    return few;
}

fn y4(at: u32, count: u32) -> vec4<f32> {
    if count >= 4u {
        return vec4(y[at], y[at + 1u], y[at + 2u], y[at + 3u]);
    }
    var few = vec4(0.0);
    for (var j = 0u; j < count; j++) {
        few[j] = y[at + j];
    }
    return few;
}

