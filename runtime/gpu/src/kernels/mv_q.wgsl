// The product of a stored matrix with a few tokens: y[t, first + r] = sum over i of x[t, i] w[r, i].
//
// Each weight is read once, for up to TOKENS tokens. A thread takes 32 weights of two rows, whose scales it reads
// once, while the group brings what the tokens have for them; both are under way before the group waits. LANES
// threads share two rows; their sums are added in a fixed order. Shapes as in product.wgsl.

const LANES = min(32u, 64u / TOKENS);
const ROWS = 512u / LANES;
const DEPTH = 32u * LANES;
// Fours of the tokens' terms that a thread brings.
const FOURS = TOKENS * DEPTH / 1024u;
// A line of 32 floats, and one more vector so that neighbouring lines begin in different banks.
const LINE = 9u;

// [TOKENS, LANES, 32]
var<workgroup> left: array<vec4<f32>, TOKENS * LANES * LINE>;
// Each thread's sums of two rows.
var<workgroup> partial: array<vec2<f32>, 256>;

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
        var l: array<vec4<f32>, FOURS>;
        for (var n = 0u; n < FOURS; n++) {
            let four = t + 256u * n;
            let at = k0 + 4u * (four % (DEPTH / 4u));
            if at < p.inputs {
                // A token beyond the last repeats it, and is not kept.
                let token = min(four / (DEPTH / 4u), p.tokens - 1u);
                l[n] = x4(p.x_at + token * p.inputs + at, p.inputs - at);
            }
        }
        var upper: Stored;
        var lower: Stored;
        if i < p.inputs {
            upper = stored32(w_row, i);
            lower = stored32(w_next, i);
        }
        workgroupBarrier();
        for (var n = 0u; n < FOURS; n++) {
            let four = t + 256u * n;
            left[four / 8u * LINE + four % 8u] = l[n];
        }
        workgroupBarrier();
        if i < p.inputs {
            for (var eight = 0u; eight < 4u; eight++) {
                let a = eight_of(upper, eight);
                let b = eight_of(lower, eight);
                for (var token = 0u; token < TOKENS; token++) {
                    for (var half = 0u; half < 2u; half++) {
                        let l = left[(token * LANES + lane) * LINE + 2u * eight + half];
                        for (var j = 0u; j < 4u; j++) {
                            sums[token] = fma(vec2(l[j]), vec2(a[half][j], b[half][j]), sums[token]);
                        }
                    }
                }
            }
        }
    }
    for (var token = 0u; token < TOKENS; token++) {
        workgroupBarrier();
        partial[t] = sums[token];
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if lane < half {
                partial[t] += partial[t + half];
            }
        }
        workgroupBarrier();
        if lane < 2u && row + lane < p.rows && token < p.tokens {
            y[p.y_at + token * p.y_width + p.y_first + row + lane] = partial[t - lane][lane];
        }
    }
}
