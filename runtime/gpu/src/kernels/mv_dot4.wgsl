// mv_q in integers: see mm_dot4.wgsl. y[t, first + r] = sum over i of x[t, i] w[r, i]; inputs are whole blocks.
//
// Sixteen rows to a group, which rounds 1024 floats of each token at a time; then each of a row's 32 threads
// takes 32 weights. The threads' sums are added in a fixed order. Shapes as in product.wgsl.

const ROWS = 16u;
const LANES = 32u;
const DEPTH = 1024u;
// Words of weights that share a scale.
const WORDS = RUN / 4u;
// Whether sums of the inputs themselves are needed. Integers that fit 8 bits with signs as they are stored are
// multiplied so.
const FITS = ZERO < 128u;
const SUMS = OFFSETS || FITS && ZERO > 0u;

// [TOKENS, 256 threads]: the greatest of each thread's floats, then its integers, in the end its sums.
var<workgroup> words: array<u32, TOKENS * 256u>;
// [TOKENS, DEPTH / 32]: what an integer is worth.
var<workgroup> units: array<f32, TOKENS * 32u>;

fn as_multiplied(integers: u32) -> u32 {
    return select(integers ^ 0x80808080u, integers, FITS);
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let row = (group.x + group.y * groups.x) * ROWS + t / LANES * 2u;
    let lane = t % LANES;
    // Where there is no row, the last is read instead and its sum not kept.
    let w_row = p.w_at * 4u + min(row, p.rows - 1u) * p.row_bytes;
    let w_next = p.w_at * 4u + min(row + 1u, p.rows - 1u) * p.row_bytes;
    var sums: array<vec2<f32>, TOKENS>;
    for (var k0 = 0u; k0 < p.inputs; k0 += DEPTH) {
        let i = k0 + 32u * lane;
        var upper: Stored;
        var lower: Stored;
        if i < p.inputs {
            upper = stored32(w_row, i);
            lower = stored32(w_next, i);
        }
        var values: array<vec4<f32>, TOKENS>;
        workgroupBarrier();
        for (var token = 0u; token < TOKENS; token++) {
            // A token beyond the last repeats it, and is not kept.
            let at = p.x_at + min(token, p.tokens - 1u) * p.inputs + k0 + 4u * t;
            if k0 + 4u * t < p.inputs {
                values[token] = vec4(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
            }
            words[token * 256u + t] = greatest_of(values[token], vec4(0.0));
        }
        workgroupBarrier();
        var scales: array<f32, TOKENS>;
        for (var token = 0u; token < TOKENS; token++) {
            var bits = 0u;
            for (var n = 0u; n < 8u; n++) {
                bits = max(bits, words[token * 256u + t / 8u * 8u + n]);
            }
            scales[token] = unit_of(bits);
        }
        workgroupBarrier();
        for (var token = 0u; token < TOKENS; token++) {
            words[token * 256u + t] = rounded(values[token], inverse_of(scales[token]));
            if t % 8u == 0u {
                units[token * 32u + t / 8u] = scales[token];
            }
        }
        workgroupBarrier();
        if i < p.inputs {
            for (var token = 0u; token < TOKENS; token++) {
                var exact = vec2(0);
                var all = 0;
                var sum = vec2(0.0);
                for (var k = 0u; k < 8u; k++) {
                    let word = words[token * 256u + 8u * lane + k];
                    let a = as_multiplied(upper.integers[k / 4u][k % 4u]);
                    let b = as_multiplied(lower.integers[k / 4u][k % 4u]);
                    exact += vec2(dot4I8Packed(word, a), dot4I8Packed(word, b));
                    if SUMS {
                        all += dot4I8Packed(word, 0x01010101u);
                    }
                    if (k + 1u) % WORDS == 0u {
                        // The run's end.
                        let forms = array(upper.forms[k / WORDS], lower.forms[k / WORDS]);
                        if FITS && ZERO > 0u {
                            exact -= vec2(all * i32(ZERO));
                        }
                        sum += vec2<f32>(exact) * vec2(forms[0].x, forms[1].x);
                        if OFFSETS {
                            sum += f32(all) * vec2(forms[0].y, forms[1].y);
                        }
                        exact = vec2(0);
                        all = 0;
                    }
                }
                sums[token] += units[token * 32u + lane] * sum;
            }
        }
    }
    for (var second = 0u; second < 2u; second++) {
        workgroupBarrier();
        for (var token = 0u; token < TOKENS; token++) {
            words[token * 256u + t] = bitcast<u32>(sums[token][second]);
        }
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if lane < half {
                for (var token = 0u; token < TOKENS; token++) {
                    let at = token * 256u + t;
                    words[at] = bitcast<u32>(bitcast<f32>(words[at]) + bitcast<f32>(words[at + half]));
                }
            }
        }
        if lane == 0u && row + second < p.rows {
            for (var token = 0u; token < p.tokens; token++) {
                y[p.y_at + token * p.y_width + p.y_first + row + second] = bitcast<f32>(words[token * 256u + t]);
            }
        }
    }
}
