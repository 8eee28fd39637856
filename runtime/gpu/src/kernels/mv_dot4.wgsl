// mv_q in integers: see mm_dot4.wgsl. y[t, first + r] = sum over i of x[t, i] w[r, i]; inputs are whole blocks.
//
// Sixteen rows to a group, which rounds 1024 floats of each token at a time; then each of a row's 32 threads
// takes 32 weights. The threads' sums are added in a fixed order. Shapes as in product.wgsl.

const ROWS = 16u;
const LANES = 32u;
const DEPTH = 1024u;
// Runs of weights with a scale of their own in 32, and words of each.
const RUNS = 32u / RUN;
const WORDS = RUN / 4u;

// [TOKENS, 256 threads]: the greatest of each thread's floats, then its integers, in the end its sums.
var<workgroup> words: array<u32, TOKENS * 256u>;
// [TOKENS, DEPTH / 32]: what an integer is worth.
var<workgroup> units: array<f32, TOKENS * 32u>;

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
            words[token * 256u + t] = pack4xI8(rounded(values[token], scales[token]));
            if t % 8u == 0u {
                units[token * 32u + t / 8u] = scales[token];
            }
        }
        workgroupBarrier();
        let i = k0 + 32u * lane;
        if i < p.inputs {
            let block = i / BLOCK * BLOCK_BYTES;
            for (var run = 0u; run < RUNS; run++) {
                let j = i % BLOCK + RUN * run;
                let upper = scale_offset(w_row + block, j);
                let lower = scale_offset(w_next + block, j);
                var integers: array<vec2<u32>, WORDS>;
                for (var k = 0u; k < WORDS; k++) {
                    integers[k] = vec2(integers4(w_row + block, j + 4u * k), integers4(w_next + block, j + 4u * k));
                }
                for (var token = 0u; token < TOKENS; token++) {
                    var exact = vec2(0);
                    var all = 0;
                    for (var k = 0u; k < WORDS; k++) {
                        let word = words[token * 256u + 8u * lane + run * WORDS + k];
                        exact += vec2(dot4I8Packed(word, integers[k].x), dot4I8Packed(word, integers[k].y));
                        if OFFSETS {
                            all += dot4I8Packed(word, 0x01010101u);
                        }
                    }
                    var product = vec2<f32>(exact) * vec2(upper.x, lower.x);
                    if OFFSETS {
                        product += f32(all) * vec2(upper.y, lower.y);
                    }
                    sums[token] += units[token * 32u + lane] * product;
                }
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
