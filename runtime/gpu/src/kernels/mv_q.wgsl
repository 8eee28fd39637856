// The product of a stored matrix with a few tokens: y[t, first + r] = sum over i of x[t, i] w[r, i].
//
// Each weight is read once, for up to TOKENS tokens. Eight rows to a group, 64 threads to two rows, which share
// what is read of x; the threads' sums are added in a fixed order. Shapes as in product.wgsl.

const ROWS = 8u;
const LANES = 64u;

// [TOKENS, 2, 256 threads]
var<workgroup> partial: array<f32, TOKENS * 512u>;

fn x4(token: u32, i: u32) -> vec4<f32> {
    let at = p.x_at + token * p.inputs + i;
    if i + 3u < p.inputs {
        return vec4(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
    }
    var few = vec4(0.0);
    for (var j = 0u; i + j < p.inputs; j++) {
        few[j] = x[at + j];
    }
    return few;
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let row = (group.x + group.y * groups.x) * ROWS + t / LANES * 2u;
    let lane = t % LANES;
    let w_row = p.w_at * 4u + row * p.row_bytes;
    var upper: array<f32, TOKENS>;
    var lower: array<f32, TOKENS>;
    if row < p.rows {
        // Where there is no second row, the first is read twice and its second sum not kept.
        let second = select(0u, p.row_bytes, row + 1u < p.rows);
        for (var i = lane * 4u; i < p.inputs; i += LANES * 4u) {
            let weights = decode4(w_row, i);
            let next = decode4(w_row + second, i);
            for (var token = 0u; token < TOKENS; token++) {
                // A token beyond the last repeats it, and is not kept.
                let values = x4(min(token, p.tokens - 1u), i);
                upper[token] += dot(weights, values);
                lower[token] += dot(next, values);
            }
        }
    }
    for (var token = 0u; token < TOKENS; token++) {
        partial[token * 512u + t] = upper[token];
        partial[token * 512u + 256u + t] = lower[token];
    }
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            for (var token = 0u; token < 2u * TOKENS; token++) {
                let at = token * 256u + t;
                partial[at] += partial[at + half];
            }
        }
    }
    workgroupBarrier();
    if lane < 2u && row + lane < p.rows {
        for (var token = 0u; token < p.tokens; token++) {
            let sum = partial[token * 512u + lane * 256u + t - lane];
            y[p.y_at + token * p.y_width + p.y_first + row + lane] = sum;
        }
    }
}
